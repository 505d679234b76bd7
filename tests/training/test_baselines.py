"""The interval rule, A every 10 ms between 9 and 11; and a threshold over one score, 3 lines above 2."""

import numpy as np
import pytest

from tests.detect.scripts import Came, at, calibration, every, ns, pdu, scored
from training.baselines import IntervalRule, join, threshold_spans
from training.metrics import Span


def violations(*scripts: list[Came], margin: float = 0.1, cycle_ms: float = 10) -> list[float]:
    """Starts of the rule's episodes in the script's milliseconds."""
    rule = IntervalRule(calibration(pdu(cycle_ms=cycle_ms)), margin)
    rule.add(score.line for score in scored(*scripts))
    return [round((span.start_ns - ns(0)) / 1e6, 3) for span in rule.spans()]


def test_clean_traffic_violates_nothing() -> None:
    """Intervals up to the bounds and the margin are good."""
    assert violations(at(0, 10, 18.1, 29.9, 40)) == []


def test_early_line_is_a_violation_when_it_comes() -> None:
    """Below the shortest interval and the margin."""
    assert violations(at(0, 10, 17.9)) == [17.9]


def test_late_line_is_a_violation_when_the_interval_expires() -> None:
    """At the last line, the longest interval and the margin, not when the line comes at last."""
    assert violations(at(0, 10, 500)) == [22.0]


def test_nothing_is_judged_across_a_gap() -> None:
    """What was due before it is told; no interval reaches over it, and time may go back."""
    rule = IntervalRule(calibration(pdu(cycle_ms=10)), 0.1)
    for script in (at(0, 10, 25), at(500, 510), at(200, 210, 500)):
        rule.add(score.line for score in scored(script))
        rule.gap()
    starts = [round((span.start_ns - ns(0)) / 1e6, 3) for span in rule.spans()]
    assert starts == [22.0, 222.0]


def test_margin_widens_both_bounds() -> None:
    """With half a cycle of margin what was a violation is none."""
    assert violations(at(0, 10, 16, 31), margin=0.5) == []


def test_pdus_without_a_cycle_are_not_judged() -> None:
    """What is not cyclic has no interval to violate."""
    assert violations(at(0, 1, 500), cycle_ms=0) == []


def test_unknown_pdus_are_not_judged() -> None:
    """The rule knows nothing of a PDU without calibration."""
    assert violations(every(10, 0, 100), at(3, 4, 80, pdu="X")) == []


def test_moments_within_the_gap_are_one_span() -> None:
    """Joining goes from moment to moment, over any number of them, in any order given."""
    assert join([250, 0, 100, 200, 400], 100) == [Span(0, 250, 0), Span(400, 400, 400)]
    assert join([], 100) == []


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", []),
        ("^^_^^", []),
        ("^^^", [(0, 2, 2)]),
        ("__^^^^_", [(2, 5, 4)]),
        ("^^^_____^^^", [(0, 10, 2)]),
        ("^^^______^^^", [(0, 2, 2), (9, 11, 11)]),
    ],
)
def test_lines_in_a_row_above_a_threshold(pattern: str, expected: list[tuple[int, int, int]]) -> None:
    """Begin, end and the third line of each run, by number of the line; runs at most 6 apart are one."""
    times = np.arange(len(pattern), dtype=np.int64)
    scores = np.array([3.0 if mark == "^" else 2.0 for mark in pattern])
    assert threshold_spans(times, scores, 2.0, 3, gap_ns=6) == [Span(*span) for span in expected]
