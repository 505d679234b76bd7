"""Traces read again and again, whole or cut where they are interrupted."""

import hashlib
from pathlib import Path

import pytest

from ecustream.errors import ConfigError, InputError
from tests.run.test_loggers import recorded_by_a_logger
from training.options import loggers_of
from training.simulate import draw_vehicle, write_trace
from training.traces import Traces


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds in which the logger loses frames once, after six."""
    folder = tmp_path_factory.mktemp("interrupted")
    (folder / "faults.toml").write_text('[[fault]]\nkind = "capture_loss"\nat_s = 6\nsize = 20\n')
    trace = folder / "lossy.pcapng"
    write_trace(draw_vehicle("bench"), trace, seconds=12, drive=1, faults=str(folder / "faults.toml"))
    return trace


def test_a_trace_is_cut_where_the_logger_lost_frames(interrupted: Path, clean_trace: Path) -> None:
    """Each piece is uninterrupted, and together they hold every line in order."""
    traces = Traces([clean_trace, interrupted], None)
    pieces = [
        (index, [line for batch in batches for line in batch])
        for index, batches in traces.read_pieces("reading")
    ]
    assert [index for index, _ in pieces] == [0, 1, 1]
    before, after = pieces[1][1], pieces[2][1]
    assert [line.number for line in before + after] == list(range(len(before) + len(after)))
    start = before[0].time_ns
    assert 5.5 < (after[0].time_ns - start) / 1e9 < 6.5
    assert before[-1].time_ns <= after[0].time_ns


def test_a_piece_that_is_not_read_is_passed_over(interrupted: Path) -> None:
    """Whoever looks at the first lines of each piece only still gets all pieces."""
    starts = [
        next(iter(batches))[0].number for _, batches in Traces([interrupted], None).read_pieces("reading")
    ]
    assert len(starts) == 2
    assert starts[0] == 0 < starts[1]


def test_whole_traces_must_not_be_interrupted(interrupted: Path) -> None:
    """Reading for intervals refuses what was lost."""
    with pytest.raises(InputError, match="the logger lost 20 frames"):
        [list(batches) for _, batches in Traces([interrupted], None).read("reading")]


def test_what_a_logger_recorded_has_the_name_of_its_bus(clean_trace: Path, tmp_path: Path) -> None:
    """As in a run with the same table, so that a bundle that was fitted to it knows the traffic there."""
    wrapped = recorded_by_a_logger(clean_trace, tmp_path / "logger.pcap", "tecmp")
    loggers = loggers_of(["0x1001=ETH1"])
    traces = Traces([wrapped], None, loggers=loggers).read("reading")
    sources = [line.stream.source for _, batches in traces for batch in batches for line in batch]
    assert set(sources) == {"ETH1"}


def test_a_table_of_loggers_that_is_none() -> None:
    """The sentence names what is wrong with it."""
    assert loggers_of(None) == {}
    assert loggers_of(["16=a=b", "0x11=c"]) == {"16": "a=b", "0x11": "c"}
    for wrong in (["0x1001"], ["1=a", "1=b"], ["ETH1=1"], ["0x10=a", "16=b"]):
        with pytest.raises(ConfigError, match="logger"):
            loggers_of(wrong)


def test_digest_is_that_of_the_file(interrupted: Path) -> None:
    """It names the trace in the bundle."""
    expected = hashlib.sha256(interrupted.read_bytes()).hexdigest()
    assert Traces([interrupted], None).sha256(interrupted) == expected
