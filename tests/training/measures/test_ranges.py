"""RangeAUC-PR and VUS-PR against the paper's definition, published code, and chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.measures import definitions
from tests.training.measures.series import LABELS, SCORES, Series, arrays, series
from training.measures.intervals import Intervals, union
from training.measures.ranges import range_auc_pr, soft_labels, vus_pr
from training.metrics import Span


@settings(deadline=None)
@given(series(), st.integers(0, 14))
def test_as_defined(case: Series, buffer: int) -> None:
    """Positions for times: the definition, threshold by threshold."""
    times, scores, faults = arrays(*case)
    assert soft_labels(times, faults, buffer).tolist() == pytest.approx(definitions.soft(case[0], buffer))
    assert range_auc_pr(times, scores, faults, buffer) == pytest.approx(definitions.range_auc(*case, buffer))


@pytest.mark.parametrize(
    ("buffer", "area"), [(4, 0.7417211943158822), (8, 0.830976026743983), (20, 0.9710566830930553)]
)
def test_as_published(buffer: int, area: float) -> None:
    """Values of vus 0.0.6 (PyPI), summed as steps where it draws lines."""
    times, scores, faults = arrays(LABELS, SCORES)
    assert range_auc_pr(times, scores, faults, buffer) == pytest.approx(area)


def test_volume_is_the_mean_over_buffers() -> None:
    """Of as many areas as there are buffers."""
    times, scores, faults = arrays(LABELS, SCORES)
    areas = [range_auc_pr(times, scores, faults, buffer) or 0.0 for buffer in (0, 4, 8)]
    assert vus_pr(times, scores, faults, [0, 4, 8]) == pytest.approx(sum(areas) / 3)
    with pytest.raises(ValueError, match="a buffer"):
        vus_pr(times, scores, faults, [])


@settings(deadline=None)
@given(series(), st.integers(0, 10), st.integers(1, 50))
def test_only_order_and_proportion_count(case: Series, buffer: int, unit: int) -> None:
    """Growing transforms of the score change nothing, nor does another unit of time, or its beginning."""
    times, scores, faults = arrays(*case)
    same = range_auc_pr(times, scores, faults, 2 * buffer)
    assert range_auc_pr(times, np.exp(scores) - 3, faults, 2 * buffer) == same
    later = Intervals(faults.starts_ns * unit + 7, faults.ends_ns * unit + 7)
    assert range_auc_pr(times * unit + 7, scores, later, 2 * buffer * unit) == pytest.approx(same)


@settings(deadline=None)
@given(series())
def test_without_a_buffer_a_perfect_score_has_1(case: Series) -> None:
    """And only there."""
    times, _, faults = arrays(*case)
    labels = np.array(case[0], np.float64)
    assert range_auc_pr(times, labels, faults, 0) == pytest.approx(1.0)


def test_a_random_score_has_about_the_share_of_faults() -> None:
    """20 faults of 100 lines in 100,000; a constant score, which tells all or nothing, has the same."""
    rng = np.random.default_rng(2)
    labels = [i % 5000 < 100 for i in range(100_000)]
    times, random, faults = arrays(labels, rng.random(100_000).tolist())
    assert range_auc_pr(times, random, faults, 0) == pytest.approx(0.02, rel=0.1)
    assert range_auc_pr(times, np.zeros(100_000), faults, 0) == pytest.approx(0.02)


def test_an_alarm_a_little_late_counts_in_time_not_in_lines() -> None:
    """A line soon after a fault counts with a buffer only, however many lines lie between."""
    crowd = np.arange(1000, 11_000, 10)
    times = np.concatenate([[0, 500, 1000], crowd[1:], [50_000]])
    faults = union([Span(400, 600, 0)])
    late = np.where(times == times[900], 1.0, 0.0)
    hard = range_auc_pr(times, late, faults, 0)
    soft = range_auc_pr(times, late, faults, 2 * 10_000)
    assert hard is not None
    assert soft is not None
    assert hard < 0.01 < soft


def test_faults_without_lines_are_left_out() -> None:
    """Nothing could rank them; where none holds a line nothing is known."""
    times = np.array([0, 10, 20], np.int64)
    scores = np.array([0.0, 1.0, 0.0])
    empty, full = Span(3, 5, 0), Span(9, 11, 0)
    assert range_auc_pr(times, scores, union([empty, full]), 0) == pytest.approx(1.0)
    assert range_auc_pr(times, scores, union([empty]), 0) is None


def test_lines_must_be_in_order_and_scores_numbers() -> None:
    """What cannot be ranked is refused."""
    faults = union([Span(0, 1, 0)])
    with pytest.raises(ValueError, match="order of time"):
        range_auc_pr(np.array([1, 0]), np.zeros(2), faults, 0)
    with pytest.raises(ValueError, match="not a number"):
        range_auc_pr(np.array([0, 1]), np.array([0.0, np.nan]), faults, 0)
    with pytest.raises(ValueError, match="one entry"):
        range_auc_pr(np.array([0, 1]), np.zeros(3), faults, 0)
