"""How good a bundle is on traces; the work is done in `training.evaluation`."""

from training.evaluation.study import evaluate
from training.evaluation.tables import render, render_kinds

__all__ = ["evaluate", "render", "render_kinds"]
