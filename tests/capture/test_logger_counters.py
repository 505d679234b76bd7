"""How many messages of a logger are missing."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecustream.capture.logger_counters import BACK, MAX_SERIES, LoggerCounters

Series = tuple[Sequence[int], Sequence[int]]


def of(stream: int) -> Series:
    """A stream of device 1."""
    return (1,), (1, stream)


@pytest.mark.parametrize("together", [True, False])
@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=200),
    st.integers(0, 0xFFFF),
    st.integers(0, 2**32),
)
def test_either_way_of_counting(together: bool, sent: list[tuple[int, bool]], start: int, seed: int) -> None:
    """Exact where all is counted together, once every stream is known; else never too many."""
    counters, chance = LoggerCounters(), random.Random(seed)
    next_of = dict.fromkeys(range(4), start) if together else {s: chance.randrange(0x10000) for s in range(4)}
    for stream in range(4):
        assert counters.missing(next_of[stream] & 0xFFFF, of(stream)) == 0
        for other in next_of if together else (stream,):
            next_of[other] += 1
    lost = told = 0
    for stream, arrives in [*sent, *((stream, True) for stream in range(4))]:
        counter = next_of[stream]
        for other in next_of if together else (stream,):
            next_of[other] += 1
        if arrives:
            missing = counters.missing(counter & 0xFFFF, of(stream))
            told += max(0, missing)
            assert missing >= 0 or not together
        else:
            lost += 1
    assert told == lost if together else told <= lost


def test_streams_that_are_counted_apart() -> None:
    """As soon as that shows, losses are told exactly, also where the counters lie close together."""
    counters = LoggerCounters()
    sequence = [
        (1, 10),
        (2, 500),
        (1, 11),
        (2, 501),
        (1, 14),
        (2, 502),
        (1, 15),
        (1, 503),
        (2, 503),
        (2, 507),
    ]
    told = [counters.missing(counter, of(stream)) for stream, counter in sequence]
    assert told == [0, 0, 0, 0, 2, 0, 0, 487, 0, 3]


def test_a_counter_that_goes_back() -> None:
    """A logger that was started anew, and a message that comes twice, are no loss; nor is what follows."""
    counters = LoggerCounters()
    assert [counters.missing(counter, of(1)) for counter in (5, 6, 6, 7)] == [0, 0, BACK, 0]
    assert [counters.missing(counter, of(1)) for counter in (0, 1, 4)] == [BACK, 0, 2]


def test_the_counter_wraps() -> None:
    """After 65,535 comes 0."""
    counters = LoggerCounters()
    assert [counters.missing(counter, of(1)) for counter in (65534, 65535, 0, 2)] == [0, 0, 0, 1]


def test_memory_is_bounded() -> None:
    """Damage that invents series does not fill it."""
    counters = LoggerCounters()
    for stream in range(MAX_SERIES + 10):
        assert counters.missing(0, of(stream)) == 0
    assert len(counters._last) <= MAX_SERIES
