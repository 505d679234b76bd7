"""Tiny trainings for tests of the training loop."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch

from tests.training.tiny_shards import tiny_shards, tiny_split
from training.bodies import Body, new_model
from training.budget import Budget
from training.crops import Crops
from training.nats import Nats, measure
from training.objectives import make_objective
from training.recipe import Recipe
from training.trainer import Outcome, train

__all__ = ["BODY", "LENGTH", "RECIPE", "SHARDS", "SPLIT", "crops", "new", "recipe", "same", "trained"]

LENGTH = 32
RECIPE = Recipe(
    batch=8,
    learning_rate=3e-3,
    warmup_steps=1,
    # Between the first gradients and twice or half of them: a gradient of the wrong length shows.
    clip=0.55,
    max_steps=6,
    max_seconds=None,
    evaluate_every=3,
    save_every=3,
)
SHARDS = tiny_shards(600)
SPLIT = tiny_split(SHARDS)
BODY = Body(hidden=16, layers=2, heads=2, inner=32, window=8)


def recipe(**changes: Any) -> Recipe:
    """`RECIPE` with changes."""
    return msgspec.structs.replace(RECIPE, **changes)


def new(body: Body = BODY) -> Any:
    """A model, always the same."""
    torch.manual_seed(0)
    return new_model(body, SHARDS.vocabulary)


def crops(count: int = 1000) -> Crops:
    """What it is trained on."""
    return Crops(SHARDS, SPLIT.train, LENGTH, count, 1, mask_tokens=0.1)


def trained(
    model: Any,
    recipe: Recipe = RECIPE,
    *,
    data: Any = None,
    validate: Callable[[], Nats] | None = None,
    work: Path | None = None,
    resume: bool = False,
    budget: Budget | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
    report: Callable[[int, float], bool] | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Outcome:
    """Train a model on crops with cross-entropy."""
    return train(
        model,
        crops() if data is None else data,
        validate or (lambda: measure(model, SHARDS, SPLIT.validation, LENGTH)),
        make_objective("ce"),
        recipe,
        work=work,
        resume=resume,
        budget=budget,
        progress=progress,
        report=report,
        say=say,
    )


def same(a: Any, b: Any, atol: float = 1e-6) -> None:
    """Hold that weights by name are the same."""
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=atol, msg=name)
