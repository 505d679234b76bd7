"""How good a bundle is on traces; the work is done in `training.evaluation`."""

from training.evaluation import evaluate, render, render_kinds

__all__ = ["evaluate", "render", "render_kinds"]
