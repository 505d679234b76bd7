"""The paper's filter on lines of labelled traffic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.reproduction.verdicts import PAPER_THRESHOLD, PAPER_WIDTH, Lines, detect, held

VALUES = st.lists(st.sampled_from([1.0, 1.2, 1.5, 1.6, 3.0, 9.0]), max_size=30)


def told_slowly(values: list[float], threshold: float, width: int) -> list[bool]:
    """Lines in runs of at least `width` above the threshold, found by walking."""
    told = [False] * len(values)
    start = 0
    while start < len(values):
        stop = start
        while stop < len(values) and values[stop] > threshold:
            stop += 1
        if stop - start >= width:
            told[start:stop] = [True] * (stop - start)
        start = max(stop, start + 1)
    return told


@given(VALUES, st.sampled_from([1.0, 1.1, 1.5, 2.0, 8.0]), st.integers(1, 5))
def test_one_score_replaces_the_filter(values: list[float], threshold: float, width: int) -> None:
    """At every threshold the lines told are those in runs that are long enough."""
    assert (held(np.array(values), width) > threshold).tolist() == told_slowly(values, threshold, width)


def lines(perplexity: list[float], faulty: list[int] = [], annotated: list[int] = []) -> Lines:  # noqa: B006
    """A line every 10 ms; `faulty` and `annotated` are indices."""
    count = len(perplexity)
    return Lines(
        np.arange(count) * 10_000_000,
        np.array(perplexity),
        np.isin(np.arange(count), annotated),
        np.isin(np.arange(count), faulty),
    )


def test_thresholds_come_from_clean_traffic_alone() -> None:
    """One line in a thousand of it is told, whatever is judged; the paper's own threshold stays."""
    clean = [lines(np.random.default_rng(0).exponential(size=20_000).tolist())]
    calm, wild = ({"a": [lines([value] * 60)]} for value in (0.1, 50.0))
    rules = detect(clean, calm)
    assert [rule.threshold for rule in rules] == [rule.threshold for rule in detect(clean, wild)]
    assert (rules[0].threshold, rules[0].width) == (PAPER_THRESHOLD, PAPER_WIDTH)
    assert [rule.width for rule in rules[1:]] == [1, PAPER_WIDTH]
    for rule in rules[1:]:
        assert rule.clean_share == pytest.approx(0.001, rel=0.2)


def test_lines_and_regions_are_counted_over_all_pieces() -> None:
    """By hand: a single high line is erased, three in a row are told; labels count apart."""
    high = [1.0] * 20 + [9.0] + [1.0] * 30 + [9.0] * 3 + [1.0] * 20
    piece = lines(high, faulty=[20, 52], annotated=[52, 53, 60])
    rule = detect([lines([1.0] * 2000)], {"a": [piece], "b": [piece]})[0]
    assert (rule.true_lines.found, rule.true_lines.labelled) == (2, 4)
    assert (rule.true_lines.right, rule.true_lines.told) == (2, 6)
    assert rule.true_lines.recall == 0.5
    assert rule.true_lines.precision == pytest.approx(1 / 3)
    assert (rule.annotated_lines.found, rule.annotated_lines.labelled) == (4, 6)
    # Lines 52, 53 and 60 are 70 ms apart at most: one region, in each of the two.
    assert (rule.annotated_regions.found, rule.annotated_regions.labelled) == (2, 2)
    assert (rule.true_regions.found, rule.true_regions.labelled) == (2, 4)
    assert (rule.true_regions.right, rule.true_regions.told) == (2, 2)
