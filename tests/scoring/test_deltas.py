"""Middles of bins as whole microseconds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.scoring.deltas import BIN_NAMES, BINS, NO_DELTA, bins_of, middle_ns, middles_us


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.just(0), st.integers(1, 10**13)))
def test_no_two_bins_of_a_pdu_have_the_same_middle(cycle_ns: int) -> None:
    """Whatever the cycle, the middles rise strictly, so that a delta time tells its bin."""
    middles = middles_us(cycle_ns)
    assert middles.shape == (BINS,) == (len(BIN_NAMES),)
    assert middles[NO_DELTA] == -1
    for part in (middles[:128], middles[128:NO_DELTA]):
        assert part[0] >= 0
        assert (np.diff(part) > 0).all()


@pytest.mark.parametrize("cycle_ns", [5_000_000, 10_000_000, 1_000_000_000])
def test_middles_of_usual_cycles_are_only_rounded(cycle_ns: int) -> None:
    """From 5 ms on no bin of a cycle is so narrow that it would have to be moved."""
    middles = middles_us(cycle_ns)[:128]
    for i, middle in enumerate(middles.tolist()):
        exact = middle_ns(i, cycle_ns)
        assert exact is not None
        assert abs(middle * 1000 - exact) <= 500
    assert middles[32] * 1000 == cycle_ns


@settings(max_examples=60, deadline=None)
@given(st.integers(5_000_000, 10**10), st.integers(0, 127))
def test_the_middle_of_a_bin_lies_in_it(cycle_ns: int, delta_bin: int) -> None:
    """The whole microseconds, taken as a delta time, fall into the bin they were written for."""
    middle = float(middles_us(cycle_ns)[delta_bin]) * 1000
    assert bins_of(np.array([middle]), np.array([cycle_ns])).tolist() == [delta_bin]


def test_what_is_no_delta_time_has_no_middle() -> None:
    """A line without a delta time has a bin, which has no middle, and there are no other bins."""
    assert bins_of(np.array([-1.0, -1.0]), np.array([0, 10**7])).tolist() == [NO_DELTA] * 2
    assert [middle_ns(i, 10**7) for i in (-1, NO_DELTA, BINS)] == [None] * 3
