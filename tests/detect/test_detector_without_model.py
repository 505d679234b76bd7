"""Detection goes on where there are no scores: intervals and deadlines alone, as after the loss of a GPU."""

import math
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.detect.perplexity import PerplexityFilter
from ecustream.scores import LineScore, ScoreBlock
from tests.detect.scripts import MS, at, block_of, closes, every, names, ns, opens, pdu, scored, watching
from tests.detect.test_detector_properties import KNOWN, Fault, faults, traffic, watcher

A, B = pdu("A"), pdu("B", 100)
TIMES = frozenset({"interval", "deadline"})


def unscored(scores: Sequence[LineScore]) -> ScoreBlock:
    """The lines of some scores as a block that no model has seen."""
    block = block_of(scores)
    return replace(
        block,
        field_nats=np.full_like(block.field_nats, np.nan),
        tokens=np.zeros_like(block.tokens),
        expected=np.full_like(block.expected, -1),
        warming=np.ones_like(block.warming),
    )


@settings(max_examples=80, deadline=None)
@given(faults, st.integers(1, 300))
def test_lines_without_scores_are_judged_by_their_times(of: list[Fault], length: int) -> None:
    """The events are those of a detector that uses intervals and deadlines alone, and none has a score."""
    scores = traffic(of)
    blind = watcher()
    events = []
    for begin in range(0, len(scores), length):
        events += blind.step_block(unscored(scores[begin : begin + length]))
    events += blind.finish()
    reference = watching(*KNOWN, pause_ms=30, join_ms=333.333, evidence=TIMES)
    assert events == reference.step([s._replace(warming=True) for s in scores]) + reference.finish()
    assert all(event.score.perplexity is None and event.score.surprisal is None for event in events)
    assert b"NaN" not in msgspec.json.encode(events)


@pytest.mark.parametrize(
    ("script", "evidence"),
    [
        pytest.param([*every(10, 0, 500), *every(10, 515, 1000)], "missing", id="late"),
        pytest.param([*every(10, 0, 300), *at(205)], "early", id="early"),
        pytest.param([*every(10, 0, 300), *at(201, 202, 203)], "early", id="burst"),
        pytest.param(every(10, 0, 500), "missing", id="missing"),
        pytest.param([*every(10, 0, 500), *at(203, pdu="X")], "unknown", id="unknown"),
    ],
)
def test_faults_in_time_are_found_without_scores(script: list[object], evidence: str) -> None:
    """What is late, early, missing, a burst, or not known is told as soon as it would be with scores."""
    scores = scored(script, every(100, 0, 800, pdu="B"))  # type: ignore[arg-type]
    blind, seeing = watching(A, B), watching(A, B)
    told = opens(blind.step_block(unscored(scores)))
    assert told[0].evidence == evidence
    assert [e.decided_ns for e in told] == [e.decided_ns for e in opens(seeing.step(scores))]


def test_clean_traffic_without_scores_is_silence() -> None:
    """Nothing is conspicuous because there is no score."""
    detector = watching(A, B)
    scores = scored(every(10, 0, 5000), every(100, 0, 5000, pdu="B"))
    assert detector.step_block(unscored(scores)) + detector.finish() == []


def test_finding_of_the_model_closes_where_scores_end() -> None:
    """It opens with scores; without them nothing is held against the PDU any more."""
    strange = at(500, 510, 520, 530, delta_nats=20.0)
    script = [c for c in every(10, 0, 2000) if not 495 < c.ms < 535] + strange
    scores = scored(script)
    detector = watching(A)
    (event,) = opens(detector.step_block(block_of(scores[:54])))
    events = detector.step_block(unscored(scores[54:]))
    (close,) = closes(events)
    assert (close.id, close.end_ns) == (event.id, ns(530))
    assert close.decided_ns <= ns(1100)
    assert "still so" not in close.reason
    assert opens(events) == []


def test_scores_that_come_back_count_again() -> None:
    """After lines without scores the model's evidence is taken as before."""
    scores = scored([*every(10, 0, 1000), *at(1000, 1010, delta_nats=20.0)])
    detector = watching(A)
    events = detector.step_block(block_of(scores[:30])) + detector.step_block(unscored(scores[30:60]))
    assert events == []
    (event,) = detector.step_block(block_of(scores[60:]))
    assert (event.evidence, names(event), event.decided_ns) == ("late", {"A"}, ns(1000))


def test_perplexity_filter_takes_lines_without_scores_for_ordinary_ones() -> None:
    """It opens nothing by them, and closes what is open after as many of them as close it otherwise."""
    paper = PerplexityFilter(2.0, 3, 200 * MS)
    high = 2 * math.log(4.0)
    scores = scored(at(*range(0, 1000, 10), delta_nats=high, name_nats=0.0))
    assert paper.step_block(unscored(scores[:50])) == []
    assert paper.step_block(block_of(scores[50:52])) == []
    assert paper.step_block(unscored(scores[52:53])) == []
    (event,) = paper.step_block(block_of(scores[53:56]))
    assert event.start_ns == ns(530)
    events = paper.step_block(unscored(scores[56:]))
    (close,) = closes(events)
    assert (close.id, close.lines, close.end_ns, close.decided_ns) == (event.id, 3, ns(550), ns(750))
    assert "still so" not in close.reason
    assert paper.finish() == []
