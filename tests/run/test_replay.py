"""The pace of a replay."""

import time

import pytest

from ecustream.run.replay import Pacer
from ecustream.traffic import STATE_NORMAL, Line
from tests.run.test_ring import STREAM

MS = 1_000_000


def lines(*times_ms: float) -> list[Line]:
    """Lines at these times."""
    return [Line(i, i, 10**18 + round(ms * MS), STREAM, STATE_NORMAL, None) for i, ms in enumerate(times_ms)]


@pytest.mark.parametrize(("speed", "slices"), [(1, [3, 1, 2]), (0.5, [3, 1, 2]), (10, [6])])
def test_hands_on_in_slices(speed: float, slices: list[int]) -> None:
    """Lines within 2 ms are handed on together; where time runs faster, within 2 ms of its time."""
    trace = lines(0, 1, 2, 2.5, 10, 11)
    parts = list(Pacer(speed).paced(trace))
    assert [len(part) for part in parts] == slices
    assert [line for part in parts for line in part] == trace


def test_nothing_comes_early_and_time_does_not_pass_a_line() -> None:
    """Each slice is handed on when its last line is due; until then time has not passed its first."""
    pacer = Pacer(2.0)
    began = time.monotonic()
    for part in pacer.paced(lines(0, 20, 21, 60)):
        assert time.monotonic() - began >= (part[-1].time_ns - 10**18) / 1e9 / 2
        assert pacer.passed_ns < part[0].time_ns
    assert pacer.passed_ns == 10**18 + 60 * MS


def test_tells_by_how_much_it_is_late() -> None:
    """Where the lines are not taken in time the next ones are late by that, until the delay is made good."""
    pacer = Pacer(1.0)
    parts = pacer.paced(lines(0, 10, 20, 100))
    next(parts)
    time.sleep(0.05)
    next(parts)
    assert pacer.late_ns >= 40 * MS
    next(parts)
    assert pacer.late_ns >= 30 * MS
    next(parts)
    assert pacer.late_ns == 0
