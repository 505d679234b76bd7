"""Random numbers that are a function of a key and a counter: the same on every machine, in any order.

A number does not depend on which ones were drawn before it, so traffic is the same however it is cut into
batches, and a fault changes nothing but what it touches. Only integer arithmetic and exact float
operations are used: no library's stream and no processor's logarithm decides a bit.
"""

import hashlib
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["Draws", "IntArray", "below", "bits", "exponential", "half_normal", "make_key", "uniform"]

IntArray = npt.NDArray[np.int64]
Item = TypeVar("Item")

# The generator is SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
GAMMA = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
SHIFT_1, SHIFT_2, SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)

TABLE_BITS = 12
CELLS = 1 << TABLE_BITS
ONE = 1 << 20
# Quantiles of the half-normal distribution in units of 1 / ONE; the last is that of 1 - 1 / (4 * CELLS).
HALF_NORMAL = np.array(
    [
        round(ONE * NormalDist().inv_cdf((1 + min(i / CELLS, 1 - 1 / (4 * CELLS))) / 2))
        for i in range(CELLS + 1)
    ],
    dtype=np.int64,
)
# -log of 1 to 1/2 in units of 1 / ONE; halvings beyond are counted in the bits.
MINUS_LOG = np.array([round(-ONE * math.log(1 - i / (2 * CELLS))) for i in range(CELLS + 1)], dtype=np.int64)
LOG_2 = int(MINUS_LOG[CELLS])


def make_key(*path: int | str) -> int:
    """A 64-bit key for a use of random numbers; another path is another, independent sequence."""
    text = "/".join(f"{type(part).__name__}:{part}" for part in path)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def bits(key: int, counter: IntArray) -> npt.NDArray[np.uint64]:
    """64 random bits for each counter."""
    z = np.uint64(key) + (counter.astype(np.uint64) + np.uint64(1)) * GAMMA
    z = (z ^ (z >> SHIFT_1)) * MIX_1
    z = (z ^ (z >> SHIFT_2)) * MIX_2
    return z ^ (z >> SHIFT_3)


def uniform(key: int, counter: IntArray) -> npt.NDArray[np.float64]:
    """Multiples of 2^-53 in [0, 1)."""
    return (bits(key, counter) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(key: int, counter: IntArray, count: int | IntArray) -> IntArray:
    """Whole numbers from 0 to `count` - 1, each as likely; `count` at most 2^31."""
    high = (bits(key, counter) >> np.uint64(32)).astype(np.int64) & 0xFFFFFFFF
    # At most 2^63, so the product fits but for its sign; the shift is one of unsigned numbers.
    return ((high.astype(np.uint64) * np.asarray(count).astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


def half_normal(key: int, counter: IntArray, sigma: int | IntArray) -> IntArray:
    """Half-normal whole numbers, of mean 0.798 sigma and at most 4 sigma; `sigma` below 2^40."""
    drawn = bits(key, counter)
    cell = (drawn >> np.uint64(64 - TABLE_BITS)).astype(np.int64)
    fraction = ((drawn >> np.uint64(64 - TABLE_BITS - 16)) & np.uint64(0xFFFF)).astype(np.int64)
    quantile = HALF_NORMAL[cell] + ((HALF_NORMAL[cell + 1] - HALF_NORMAL[cell]) * fraction >> 16)
    scaled: IntArray = quantile * np.asarray(sigma, dtype=np.int64) >> 20
    return scaled


def exponential(key: int, counter: IntArray, mean: int | IntArray) -> IntArray:
    """Exponentially distributed whole numbers of the given mean, below 2^36; never more than 34 means."""
    drawn = bits(key, counter)
    high = (drawn >> np.uint64(15)).astype(np.int64) | 1
    # high is in [1, 2^49): its leading bit says how often 1 was halved, the bits below where in between.
    exponent = np.frexp(high.astype(np.float64))[1].astype(np.int64)
    mantissa = (high << (49 - exponent)) - (1 << 48)
    cell = mantissa >> (48 - TABLE_BITS)
    fraction = (mantissa >> (48 - TABLE_BITS - 16)) & 0xFFFF
    # The mantissa runs from 1/2 to 1, the table from 1 to 1/2.
    upper, lower = MINUS_LOG[CELLS - cell], MINUS_LOG[CELLS - cell - 1]
    minus_log = upper + ((lower - upper) * fraction >> 16) + (49 - exponent) * LOG_2
    mean = np.asarray(mean, dtype=np.int64)
    scaled: IntArray = minus_log * (mean >> 10) + (minus_log * (mean & 1023) >> 10) >> 10
    return scaled


class Draws:
    """A sequence of random numbers for things that are drawn once, such as a vehicle.

    Args:
        path: what the numbers are for, as for `make_key`.
    """

    def __init__(self, *path: int | str) -> None:
        self._key = make_key(*path)
        self._count = 0

    def _next(self) -> IntArray:
        self._count += 1
        return np.array([self._count], dtype=np.int64)

    def random(self) -> float:
        """A float in [0, 1)."""
        return float(uniform(self._key, self._next())[0])

    def uniform(self, low: float, high: float) -> float:
        """A float in [low, high)."""
        return low + (high - low) * self.random()

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included; high - low below 2^31."""
        return low + int(below(self._key, self._next(), high - low + 1)[0])

    def exponential(self, mean: int) -> int:
        """An exponentially distributed whole number; `mean` below 2^36."""
        return int(exponential(self._key, self._next(), mean)[0])

    def choice(self, items: Sequence[Item], weights: Sequence[float] | None = None) -> Item:
        """One of the items, each as likely or by weight."""
        if weights is None:
            return items[self.integer(0, len(items) - 1)]
        at = self.random() * sum(weights)
        for item, weight in zip(items, weights, strict=True):
            at -= weight
            if at < 0:
                return item
        return items[-1]

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """The items in a random order."""
        shuffled = list(items)
        for last in range(len(shuffled) - 1, 0, -1):
            other = self.integer(0, last)
            shuffled[last], shuffled[other] = shuffled[other], shuffled[last]
        return shuffled

    def sample(self, items: Sequence[Item], count: int) -> list[Item]:
        """`count` different ones of the items, in a random order."""
        return self.shuffled(items)[:count]
