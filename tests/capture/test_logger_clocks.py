"""The clocks of loggers beside that of the capture."""

import random

import pytest

from ecustream.capture.logger_clocks import JUMP_NS, MAX_LOGGERS, SAME_CLOCK_NS, LoggerClocks
from tests.capture.logger_frames import MS, START_NS, S


def test_clocks_that_agree() -> None:
    """Times stay as they are; what everything has reached is behind by what the logger takes to send."""
    clocks = LoggerClocks()
    assert clocks.passed(START_NS) == START_NS
    assert clocks.see(1, START_NS + 30 * MS, START_NS) is None
    assert clocks.see(1, START_NS + 50 * MS, START_NS + 40 * MS) is None
    assert clocks.time(None, START_NS) == clocks.time(1, START_NS) == START_NS
    assert clocks.passed(START_NS + S) == START_NS + S - 10 * MS


@pytest.mark.parametrize("ahead_ns", [-START_NS + 5 * S, 3600 * S, 2 * S, -2 * S, 300 * MS, -300 * MS])
def test_a_logger_by_another_clock(ahead_ns: int) -> None:
    """Its times count; those of the capture are moved onto its clock, and that is told once."""
    clocks = LoggerClocks()
    why = clocks.see(0x80, START_NS, START_NS + ahead_ns)
    assert why is not None
    assert "0x0080" in why
    assert ("behind" in why) == (ahead_ns < 0)
    assert clocks.see(0x80, START_NS + S, START_NS + S + ahead_ns) is None
    assert clocks.time(0x80, START_NS + ahead_ns) == START_NS + ahead_ns
    assert clocks.time(None, START_NS + 2 * S) == START_NS + 2 * S + ahead_ns
    assert clocks.passed(START_NS + 2 * S) == START_NS + 2 * S + ahead_ns


def test_a_clock_that_is_set() -> None:
    """A logger finds its time of day: told once; and then nothing is moved any more."""
    clocks = LoggerClocks()
    assert clocks.see(1, START_NS, 3 * S) is not None
    why = clocks.see(1, START_NS + S, START_NS + S)
    assert why is not None
    assert "ahead of where it was" in why
    assert clocks.time(None, START_NS) == START_NS
    assert clocks.see(1, START_NS + 2 * S, START_NS + 2 * S) is None


def test_the_border_between_one_clock_and_two() -> None:
    """Frames of a logger that lags by more would all come late among ordinary ones."""
    for apart_ns, moved in ((SAME_CLOCK_NS, False), (SAME_CLOCK_NS + 1, True)):
        for sign in (1, -1):
            clocks = LoggerClocks()
            why = clocks.see(1, START_NS, START_NS + sign * apart_ns)
            assert (why is not None) == moved
            assert clocks.time(None, START_NS) == START_NS + sign * apart_ns * moved


@pytest.mark.parametrize("by_ns", [JUMP_NS + 1, -JUMP_NS - 1])
def test_the_first_clock_is_set(by_ns: int) -> None:
    """All others are moved by another distance from then on, each as far as it must be."""
    clocks = LoggerClocks()
    assert clocks.see(1, START_NS, START_NS) is None
    assert clocks.see(2, START_NS, START_NS + by_ns) is None
    now_ns = START_NS + S
    why = clocks.see(1, now_ns, now_ns + by_ns)
    assert why is not None
    assert ("behind" in why) == (by_ns < 0)
    assert clocks.time(None, now_ns) == now_ns + by_ns
    assert clocks.time(2, now_ns) == now_ns
    assert clocks.passed(now_ns) == now_ns + by_ns
    assert clocks.see(1, now_ns + S, now_ns + S + by_ns) is None


def test_another_clock_is_set() -> None:
    """It is moved from then on, and nothing else is."""
    clocks = LoggerClocks()
    assert clocks.see(1, START_NS, START_NS) is None
    assert clocks.see(2, START_NS, START_NS) is None
    assert clocks.see(2, START_NS, START_NS - 2 * S) is not None
    assert clocks.time(2, START_NS - 2 * S) == START_NS
    assert clocks.time(None, START_NS) == clocks.time(1, START_NS) == START_NS


def test_a_clock_that_is_set_back_by_less_than_a_second() -> None:
    """It is told after two seconds, and from then on nothing passes that the logger has not sent."""
    clocks, told = LoggerClocks(), []
    for i in range(1500):
        now_ns = START_NS + i * 10 * MS
        logger_ns = now_ns - 400 * MS * (i >= 300)
        why = clocks.see(1, now_ns, logger_ns - (5 * MS if i % 7 else 0))
        if why is not None:
            told.append((i, why))
        if told:
            assert clocks.passed(now_ns) <= logger_ns
            assert abs(clocks.time(None, now_ns) - logger_ns) <= 5 * MS
    ((when, why),) = told
    # Two seconds, and what is left of those in which it was set.
    assert 500 <= when <= 702
    assert why == "the clock of logger 0x0001 is suddenly 0.4 s behind where it was"


def test_carriers_that_are_held_up_are_no_step() -> None:
    """Those of a second; the fastest before counts on, less no more than a drift."""
    clocks = LoggerClocks()
    for i in range(1000):
        now_ns = START_NS + i * 10 * MS
        late_ns = 300 * MS if 450 <= i < 550 else 5 * MS
        assert clocks.see(1, now_ns, now_ns - late_ns) is None
        assert 5 * MS <= now_ns - clocks.passed(now_ns) < 5 * MS + S // 5000 + MS // 10


@pytest.mark.parametrize("ppm", [-150, 150])
def test_a_drift_is_followed(ppm: int) -> None:
    """For hours, by the fastest of carriers that take up to 40 ms; nothing is told of it."""
    clocks, chance = LoggerClocks(), random.Random(1)
    assert clocks.see(1, START_NS, 5 * S) is not None
    for second in range(1, 20_000):
        now_ns = START_NS + second * S
        logger_ns = 5 * S + second * S + second * ppm * 1000
        assert clocks.see(1, now_ns, logger_ns - chance.randrange(40 * MS)) is None
        if second > 100:
            assert abs(clocks.passed(now_ns) - logger_ns) < 40 * MS
            assert abs(clocks.time(None, now_ns) - logger_ns) < 40 * MS


def test_a_drift_apart_is_told() -> None:
    """Clocks that agreed and do so no longer: from then on the capture's times are moved."""
    clocks = LoggerClocks()
    told = []
    for second in range(30_000):
        now_ns = START_NS + second * S
        told += [second] if clocks.see(1, now_ns, now_ns + second * 100_000) else []
        if second == 999:
            assert clocks.time(None, now_ns) == now_ns
    assert told == [1001]
    assert clocks.time(None, now_ns) == now_ns + 29_999 * 100_000


def test_several_loggers() -> None:
    """The first one's clock counts; one that is far from it is moved, one that is near is not."""
    clocks = LoggerClocks()
    assert clocks.see(1, START_NS, START_NS) is None
    assert clocks.see(2, START_NS, START_NS - 30 * MS) is None
    assert clocks.see(3, START_NS, 7 * S) is None
    assert clocks.time(2, START_NS) == START_NS
    assert clocks.time(3, 8 * S) == START_NS + S
    assert clocks.passed(START_NS) == START_NS - 30 * MS
    assert clocks.see(3, START_NS + S, 20 * S) is not None
    assert clocks.time(3, 20 * S) == START_NS + S


def test_memory_is_bounded() -> None:
    """Damage that invents loggers does not fill it, nor forget the first."""
    clocks = LoggerClocks()
    clocks.see(1, START_NS, 5 * S)
    for device in range(2, 1000):
        assert clocks.see(device, START_NS, device * S) is None
        assert len(clocks._ahead_ns) <= MAX_LOGGERS + 1
    assert clocks.time(None, START_NS) == 5 * S
