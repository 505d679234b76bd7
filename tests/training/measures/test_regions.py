"""Regions as in the paper, and why their recall alone says little."""

import numpy as np
import pytest

from training.measures.lines import confusion
from training.measures.regions import by_region


def flags(text: str) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return np.array([character == "x" for character in text])


def test_consecutive_lines_by_hand() -> None:
    """Three labelled regions, two found; three told regions, two right; lines say less."""
    labelled = flags("..xxxx...xx....x.")
    told = flags("...x..x..xxx......"[:17])
    regions = by_region(np.arange(17), told, labelled, 1)
    assert regions[:] == (2, 3, 2, 3)
    assert regions.recall == regions.precision == pytest.approx(2 / 3)
    assert confusion(told, labelled)[:] == (3, 7, 3, 5)


def test_a_told_region_over_two_labelled_ones_finds_both() -> None:
    """It is one told region, and right."""
    assert by_region(np.arange(8), flags(".xxxxxx."), flags(".x....x."), 1)[:] == (2, 2, 1, 1)


def test_time_joins_over_lines_of_other_pdus() -> None:
    """Labelled lines 8 ms apart with good lines between them are one region if 10 ms join."""
    times = np.arange(0, 40, 2) * 1_000_000
    labelled = np.isin(np.arange(20), [2, 6, 10, 17])
    told = np.isin(np.arange(20), [6])
    assert by_region(times, told, labelled, 10_000_000)[:] == (1, 2, 1, 1)
    assert by_region(times, told, labelled, 7_000_000)[:] == (1, 4, 1, 1)


def test_nothing_told_or_labelled() -> None:
    """No share of nothing."""
    none, some = flags("..."), flags(".x.")
    assert (
        by_region(np.arange(3), none, some, 1).recall,
        by_region(np.arange(3), none, some, 1).precision,
    ) == (0, None)
    assert (
        by_region(np.arange(3), some, none, 1).recall,
        by_region(np.arange(3), some, none, 1).precision,
    ) == (None, 0)


def test_a_coin_finds_most_regions() -> None:
    """Random alarms on 3 % of the lines: recall about 0.8 of regions of 5 to 200 lines, precision 0.02."""
    rng = np.random.default_rng(4)
    labelled = np.zeros(200_000, np.bool_)
    for start in range(2000, 200_000, 5000):
        labelled[start : start + int(rng.integers(5, 201))] = True
    coin = by_region(np.arange(200_000), rng.random(200_000) < 0.03, labelled, 1)
    assert coin.recall is not None
    assert coin.precision is not None
    assert coin.recall > 0.7
    assert coin.precision < 0.04
