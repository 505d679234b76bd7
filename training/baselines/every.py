"""All baselines, in the order in which tables show them."""

from training.baselines.chart_score import cusum_score, ewma_score
from training.baselines.classifiers import label_classifiers
from training.baselines.forest import IsolationForestScore
from training.baselines.interval_score import IntervalScore
from training.baselines.protocol import Baseline
from training.baselines.random_score import RandomScore
from training.baselines.window_counts import WindowCounts

__all__ = ["every_baseline"]


def every_baseline(seed: int = 0) -> list[Baseline]:
    """Those that learn from clean traffic alone, then those that need labels."""
    return [
        RandomScore(seed),
        IntervalScore(),
        WindowCounts(),
        ewma_score(),
        cusum_score(),
        IsolationForestScore(seed),
        *label_classifiers(seed),
    ]
