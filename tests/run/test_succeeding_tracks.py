"""A track whose lines another model judges from some line on."""

from pathlib import Path

import numpy as np
import pytest

from ecustream.capture.breaks import Break
from ecustream.config import Config
from ecustream.decode.names import NameTable
from ecustream.events import Event
from ecustream.ledger import Ledger
from ecustream.run.model import Model
from ecustream.run.source import TraceLines
from ecustream.run.summary import RunSummary
from ecustream.run.tracks import Track
from ecustream.scores import ScoreBlock
from ecustream.scoring.manifest import read_bundle
from ecustream.stages import StageClock
from ecustream.traffic import Line
from tests.run.test_lanes import make

CHUNK = 200


@pytest.fixture(scope="module")
def model(bundle_path: Path) -> Model:
    """The small bundle for two streams."""
    return Model(read_bundle(bundle_path), Config(), 2, StageClock(enabled=False))


def lines_of(trace: Path) -> list[list[Line]]:
    """The lines of a trace in chunks."""
    names = NameTable.load(trace.with_suffix(".names.csv"))
    lines = [line for batch in TraceLines(trace, Ledger(), names=names) for line in batch]
    return [lines[i : i + CHUNK] for i in range(0, len(lines), CHUNK)]


def track_of(model: Model, recent_lines: int = 2000) -> Track:
    """A track with an empty ledger."""
    lane, _, _ = make(0)
    return Track(
        lane,
        model.open_stream(),
        model.new_detector(),
        model.calibration,
        Path("bundle"),
        ids="run-",
        trace=None,
        summary=RunSummary("run", lane.ledger, {pdu.key: pdu.cycle_ns for pdu in model.calibration.pdus}),
        recent_lines=recent_lines,
    )


def judge(track: Track, model: Model, chunk: list[Line]) -> tuple[ScoreBlock, list[Event]]:
    """Score and judge some lines."""
    block = model.scorer.score([(track.stream, chunk)])[0]
    return block, track.take(block)


def test_scores_go_on_as_if_nothing_had_happened(model: Model, clean_trace: Path) -> None:
    """The same bundle again has read the recent lines: its scores are those of before, none is warming."""
    chunks = lines_of(clean_trace)[:20]
    stays, changes = track_of(model), track_of(model)
    events = []
    for number, chunk in enumerate(chunks):
        if number == 12:
            events += changes.succeed(model, model.scorer.score)
        expected, _ = judge(stays, model, chunk)
        block, found = judge(changes, model, chunk)
        events += found
        np.testing.assert_allclose(block.field_nats, expected.field_nats, atol=1e-3, equal_nan=True)
        assert (block.warming == expected.warming).all()
    assert events == []
    assert changes.lane.ledger.ends["lines"]["scored"] == sum(map(len, chunks))


def test_what_is_open_opens_again(model: Model, faulty_trace: Path) -> None:
    """Every episode closes once; those that last over the change are told anew, with ids of their own."""
    track = track_of(model)
    events: list[Event] = []
    changed = False
    for chunk in lines_of(faulty_trace):
        events += judge(track, model, chunk)[1]
        open_ids = {event.id for event in events if event.phase == "open"}
        open_ids -= {event.id for event in events if event.phase == "close"}
        if open_ids and not changed:
            changed = True
            said = track.succeed(model, model.scorer.score)
            assert {event.id for event in said if event.phase == "close"} == open_ids
            assert all(event.id.startswith("run-1.") for event in said if event.phase == "open")
            events += said
    assert changed
    events += track.finish()
    opened = [event.id for event in events if event.phase == "open"]
    closed = [event.id for event in events if event.phase == "close"]
    assert len(set(opened)) == len(opened)
    assert sorted(opened) == sorted(closed)
    assert any(name.startswith("run-1.") for name in opened)


def test_lines_before_a_gap_are_not_read_again(model: Model, clean_trace: Path) -> None:
    """They do not precede what comes now."""
    chunks = lines_of(clean_trace)
    track = track_of(model)
    for chunk in chunks[:5]:
        judge(track, model, chunk)
    assert len(track.recent()) == 5 * CHUNK
    track.interrupt(Break(chunks[5][0].time_ns, "ETH1", "an outage"))
    assert track.recent() == []


def test_it_keeps_no_more_than_it_must(model: Model, clean_trace: Path) -> None:
    """The last lines, and at most a chunk more; none where no model can take over."""
    chunks = lines_of(clean_trace)[:9]
    track, never = track_of(model, 450), track_of(model, 0)
    for chunk in chunks:
        judge(track, model, chunk)
        judge(never, model, chunk)
    assert track.recent() == [line for chunk in chunks[-3:] for line in chunk]
    assert never.recent() == []


def test_without_a_model_faults_of_time_are_found(
    model: Model, faulty_trace: Path, clean_trace: Path
) -> None:
    """Intervals and deadlines need none: what is late or silent is told, and clean traffic stays clean."""
    clean, faulty = track_of(model), track_of(model)
    nothing = [event for chunk in lines_of(clean_trace) for event in clean.take_unscored(chunk)]
    assert nothing + clean.finish() == []
    found = [event for chunk in lines_of(faulty_trace) for event in faulty.take_unscored(chunk)]
    assert {event.evidence for event in found} & {"late", "missing"}
    lines = sum(map(len, lines_of(faulty_trace)))
    assert faulty.lane.ledger.ends["lines"] == {"unscored{no_model}": lines}
    assert faulty.status().lines == lines
