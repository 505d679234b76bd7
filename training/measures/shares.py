"""A share of trials with an interval that is exact for few trials, and the size at which shares reach one."""

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Share", "crossing", "share"]


class Share(NamedTuple):
    """Hits of trials.

    Attributes:
        hits: trials that succeeded.
        trials: all.
        value: hits / trials; NaN without trials.
        low: lower end of its confidence interval, 0 without trials.
        high: upper end, 1 without trials.
    """

    hits: int
    trials: int
    value: float
    low: float
    high: float


def share(hits: int, trials: int, confidence: float = 0.95) -> Share:
    """The share with its exact two-sided interval (Clopper and Pearson, Biometrika 26, 1934).

    The lower end is the probability at which so many hits or more are just as improbable as
    (1 - confidence) / 2, the upper end that at which so many or fewer are. It covers the true probability at
    least as often as it says, never less.

    Raises:
        ValueError: there are more hits than trials or fewer than none, or the confidence is not between 0
            and 1.
    """
    if not 0 <= hits <= trials or not 0 < confidence < 1:
        raise ValueError(f"no interval for {hits} of {trials} at confidence {confidence:g}")
    if not trials:
        return Share(0, 0, math.nan, 0.0, 1.0)
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else _probability_where(hits - 1, trials, 1 - tail)
    high = 1.0 if hits == trials else _probability_where(hits, trials, tail)
    return Share(hits, trials, hits / trials, low, high)


def crossing(sizes: Sequence[float], values: Sequence[float], level: float) -> float | None:
    """The size from which on values stay at or above a level, on straight lines between sizes.

    Args:
        sizes: ascending.
        values: of each size.
        level: to be reached.

    Returns:
        The first size if all values reach it; None where the last one does not.

    Raises:
        ValueError: there is not one value for each size.
    """
    if len(sizes) != len(values):
        raise ValueError(f"{len(sizes)} sizes, but {len(values)} values")
    below = [i for i, value in enumerate(values) if not value >= level]
    if not below:
        return sizes[0] if sizes else None
    last = below[-1]
    if last == len(sizes) - 1:
        return None
    rise = (level - values[last]) / (values[last + 1] - values[last])
    return sizes[last] + rise * (sizes[last + 1] - sizes[last])


def _probability_where(hits: int, trials: int, tail: float) -> float:
    """The probability of a hit at which `hits` or fewer have probability `tail`, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(hits, trials, middle) > tail:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _at_most(hits: int, trials: int, probability: float) -> float:
    """Probability of `hits` or fewer."""
    if probability <= 0:
        return 1.0
    if probability >= 1:
        return float(hits >= trials)
    log_p, log_q = math.log(probability), math.log1p(-probability)
    return math.fsum(
        math.exp(
            math.lgamma(trials + 1)
            - math.lgamma(k + 1)
            - math.lgamma(trials - k + 1)
            + k * log_p
            + (trials - k) * log_q
        )
        for k in range(hits + 1)
    )
