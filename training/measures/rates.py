"""How often something rare happens, with an interval that is exact for rare things."""

import math
from typing import NamedTuple

__all__ = ["HOUR_NS", "Rate", "poisson_interval", "rate"]

HOUR_NS = 3_600_000_000_000


class Rate(NamedTuple):
    """Events an hour.

    Attributes:
        events: seen.
        hours: observed time.
        per_hour: events / hours; NaN where nothing was observed.
        low: lower end of its confidence interval, an hour.
        high: upper end; where nothing was seen in h hours at 95 %, 3.69 / h.
    """

    events: int
    hours: float
    per_hour: float
    low: float
    high: float


def rate(count: int, observed_ns: int, confidence: float = 0.95) -> Rate:
    """Events an hour with their exact interval, see `poisson_interval`.

    Args:
        count: events seen.
        observed_ns: for how long; where it is 0 the rate is not known, NaN between 0 and infinity.
        confidence: of the interval.
    """
    hours = observed_ns / HOUR_NS
    if not hours:
        return Rate(count, 0.0, math.nan, 0.0, math.inf)
    low, high = poisson_interval(count, confidence)
    return Rate(count, hours, count / hours, low / hours, high / hours)


def poisson_interval(count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided confidence interval of a Poisson mean (Garwood, Biometrika 28, 1936).

    The lower end is the mean at which so many or more are just as improbable as (1 - confidence) / 2, the
    upper end that at which so many or fewer are; 0 seen has 0 for its lower end and at 95 % 3.689 for its
    upper one. It covers the true mean at least as often as it says, never less.

    Raises:
        ValueError: the count is negative, or the confidence not between 0 and 1.
    """
    if count < 0 or not 0 < confidence < 1:
        raise ValueError(f"no interval for {count} events at confidence {confidence:g}")
    tail = (1 - confidence) / 2
    low = _mean_where(count - 1, 1 - tail) if count else 0.0
    return low, _mean_where(count, tail)


def _mean_where(count: int, probability: float) -> float:
    """The mean at which `count` or fewer events have this probability, by bisection."""
    low, high = 0.0, 2.0 * count + 10.0
    while _at_most(count, high) > probability:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        if _at_most(count, middle) > probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _at_most(count: int, mean: float) -> float:
    """Probability of `count` or fewer events."""
    if mean <= 0:
        return 1.0
    # From the likeliest term down, so that nothing underflows that matters.
    top = min(count, int(mean))
    log_top = top * math.log(mean) - mean - math.lgamma(top + 1)
    total, term = 1.0, 1.0
    for k in range(top, 0, -1):
        term *= k / mean
        total += term
        if term < 1e-18 * total:
            break
    term = 1.0
    for k in range(top + 1, count + 1):
        term *= mean / k
        total += term
        if term < 1e-18 * total:
            break
    return total * math.exp(log_top)
