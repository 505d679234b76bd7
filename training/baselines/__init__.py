"""What an engineer would use instead: rules, control charts and classical learners, behind one protocol."""

from training.baselines.episodes import join, threshold_spans
from training.baselines.interval_rule import IntervalRule

__all__ = ["IntervalRule", "join", "threshold_spans"]
