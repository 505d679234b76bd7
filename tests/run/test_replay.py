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


@pytest.mark.parametrize("cut", [1, 3, 4, 5])
def test_goes_on_from_a_clock_that_was_set_back(cut: int) -> None:
    """Lines after a step back are paced from there, wherever batches end, and time is theirs."""
    pacer = Pacer(1.0)
    trace = lines(5000, 5001, 5020, 100, 101, 130)
    passed = []
    began = time.monotonic()
    parts = []
    for batch in (trace[:cut], trace[cut:]):
        for part in pacer.paced(batch):
            parts.append(part)
            passed.append(pacer.passed_ns)
            assert pacer.late_ns < 10 * MS
    assert time.monotonic() - began >= 0.04
    assert [line for part in parts for line in part] == trace
    assert all(max(p.time_ns for p in part) - part[0].time_ns <= 2 * MS for part in parts)
    assert all(before < part[0].time_ns for before, part in zip(passed, parts, strict=True) if len(part) > 1)
    assert pacer.passed_ns == 10**18 + 130 * MS


def test_a_little_disorder_is_no_step() -> None:
    """A line that is less than a second too early is handed on late, and the pace stays."""
    pacer = Pacer(10.0)
    list(pacer.paced(lines(1000)))
    list(pacer.paced(lines(400)))
    assert pacer.late_ns >= 60 * MS
    assert pacer.passed_ns == 10**18 + 1000 * MS


def test_is_not_late_by_what_its_writer_took() -> None:
    """Where a line was waited for, it and the next ones are late only by more than that."""
    pacer = Pacer(1.0)
    list(pacer.paced(lines(0, 10)))
    time.sleep(0.06)
    list(pacer.paced(lines(20), 10.0))
    assert pacer.late_ns == 0
    began = time.monotonic()
    list(pacer.paced(lines(50), 10.0))
    assert time.monotonic() - began >= 0.025
    time.sleep(0.06)
    list(pacer.paced(lines(60), 0.02))
    assert pacer.late_ns >= 20 * MS
