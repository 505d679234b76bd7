"""Rates of rare events against scipy and Garwood's table."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, poisson

from training.measures.rates import HOUR_NS, poisson_interval, rate


@given(st.one_of(st.integers(0, 60), st.integers(0, 20_000)), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_as_the_chi_square_quantiles_have_it(count: int, confidence: float) -> None:
    """The interval's other form: half the quantiles of chi square with 2n and 2n + 2 degrees of freedom."""
    tail = (1 - confidence) / 2
    low, high = poisson_interval(count, confidence)
    assert low == pytest.approx(chi2.ppf(tail, 2 * count) / 2 if count else 0.0, rel=1e-9)
    assert high == pytest.approx(chi2.ppf(1 - tail, 2 * count + 2) / 2, rel=1e-9)


@pytest.mark.parametrize(("count", "low", "high"), [(0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.39)])
def test_garwoods_table(count: int, low: float, high: float) -> None:
    """Values as printed."""
    assert poisson_interval(count) == pytest.approx((low, high), rel=1e-3)


@pytest.mark.parametrize("mean", [0.3, 2.0, 9.7, 41.0])
def test_it_covers_the_true_mean(mean: float) -> None:
    """In at least 95 % of all outcomes, whatever the mean."""
    covered = sum(
        poisson.pmf(count, mean)
        for count in range(150)
        if poisson_interval(count)[0] <= mean <= poisson_interval(count)[1]
    )
    assert covered >= 0.95


def test_an_hour_is_an_hour() -> None:
    """3 in half an hour are 6 an hour, and the interval is doubled with them."""
    result = rate(3, HOUR_NS // 2)
    low, high = poisson_interval(3)
    assert result == (3, 0.5, 6.0, 2 * low, 2 * high)


def test_nothing_observed() -> None:
    """Without time nothing is known."""
    result = rate(0, 0)
    assert math.isnan(result.per_hour)
    assert (result.low, result.high) == (0.0, math.inf)


@pytest.mark.parametrize(("count", "confidence"), [(-1, 0.95), (1, 0.0), (1, 1.0)])
def test_nonsense_is_refused(count: int, confidence: float) -> None:
    """Negative counts and certainty have no interval."""
    with pytest.raises(ValueError, match="no interval"):
        poisson_interval(count, confidence)
