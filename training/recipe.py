"""How a model is trained: batches, schedule, regularisation, and when to stop."""

import math
from typing import Literal

import msgspec

from ecustream.errors import ConfigError
from training.bodies import Body

__all__ = ["RECIPES", "Recipe", "check_recipe", "crop_length", "learning_rate_at"]


class Recipe(msgspec.Struct, kw_only=True):
    """Batches, schedule and regularisation. The defaults fit one vehicle in ten minutes on two CPU cores.

    Attributes:
        batch: sequences of a step, over all micro-batches and processes.
        accumulation: micro-batches of a step, one after the other in each process.
        crop_windows: length of a sequence in windows of attention.
        length: length of a sequence in tokens where there is no window (recurrent models).
        carried: sequences continue each other, and the model's state is carried over.
        learning_rate: the highest one.
        warmup_steps: steps over which it rises.
        final_share: what is left of it at the end, as a share.
        weight_decay: of every weight, as AdamW takes it.
        betas: of AdamW's two averages.
        clip: longest gradient that is taken as it is.
        mask_tokens: share of input tokens that are made unknown.
        drop_lines: highest share of a sequence's lines that are left out; none where sequences are carried.
        max_steps: None is one pass over the data.
        max_seconds: None is no limit.
        evaluate_every: steps between two looks at validation traffic.
        patience: looks without progress after which training stops; None never stops so.
        save_every: steps between two checkpoints, where there is a folder for them.
        gradient_checkpointing: keep few activations and compute the others again: less memory, more time.
        precision: of products; weights and their averages stay in float32.
        optimiser: "galore" keeps AdamW's averages in few dimensions (arXiv 2403.03507).
        galore_rank: these dimensions.
        galore_gap: steps after which they are chosen anew.
        galore_scale: of a step in them.
        seed: of the first weights and of the data.
    """

    batch: int = 8
    accumulation: int = 1
    crop_windows: int = 4
    length: int = 1024
    carried: bool = False
    learning_rate: float = 2e-3
    warmup_steps: int = 50
    final_share: float = 0.1
    weight_decay: float = 0.2
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    mask_tokens: float = 0.05
    drop_lines: float = 0.03
    max_steps: int | None = 900
    max_seconds: float | None = 420.0
    evaluate_every: int = 50
    patience: int | None = 4
    save_every: int = 100
    gradient_checkpointing: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    optimiser: Literal["adamw", "galore"] = "adamw"
    galore_rank: int = 128
    galore_gap: int = 200
    galore_scale: float = 0.25
    seed: int = 0


RECIPES: dict[str, Recipe] = {
    "default": Recipe(),
    "paper": Recipe(
        batch=24 * 8,
        accumulation=8,
        gradient_checkpointing=True,
        learning_rate=5e-4,
        warmup_steps=1000,
        final_share=0.0,
        weight_decay=0.0,
        betas=(0.9, 0.999),
        mask_tokens=0.0,
        drop_lines=0.0,
        max_steps=None,
        max_seconds=None,
        evaluate_every=250,
        patience=None,
        save_every=250,
    ),
}
"""Recipes by name. "paper" is that of arXiv 2507.01077: 24 sequences times 8 micro-batches, gradient
checkpointing, a learning rate of 5e-4, one epoch over 0.8 of the data (0.1 validates, 0.1 tests).

The paper says "linear decay over first 1000 train steps". To the letter, nothing would be learned after them.
It is read here as Hugging Face's schedule "linear" with 1000 steps of warm-up: up in a line over 1000 steps,
and down in a line to nought over the whole run. What it does not name is Hugging Face's default.
"""


def crop_length(body: Body, recipe: Recipe) -> int:
    """Tokens of a training sequence: some windows, the whole text of full attention, or `recipe.length`."""
    if body.kind != "qwen2":
        return recipe.length
    return body.window * (recipe.crop_windows if body.attention == "sliding" else 1)


def learning_rate_at(recipe: Recipe, step: int, share: float) -> float:
    """The learning rate of a step (the first is 1) when so large a share of steps, time or work is done."""
    decay = 1 - (1 - recipe.final_share) * min(share, 1.0)
    return recipe.learning_rate * min(step / max(recipe.warmup_steps, 1), 1.0) * decay


def check_recipe(recipe: Recipe, processes: int = 1) -> None:
    """Refuse a recipe that cannot be followed.

    Args:
        recipe: what is checked.
        processes: that share a step's sequences.

    Raises:
        ConfigError: the sentence names the key.
    """
    counts = ("batch", "accumulation", "crop_windows", "evaluate_every", "save_every")
    for key in (*counts, "galore_rank", "galore_gap"):
        if getattr(recipe, key) < 1:
            raise ConfigError(f"recipe.{key} is {getattr(recipe, key)}, but must be 1 at least")
    if recipe.length < 2:
        raise ConfigError(f"recipe.length is {recipe.length}, but must be 2 tokens at least")
    _between(recipe, ("mask_tokens", "drop_lines"), 0, 1, open_end=True)
    _between(recipe, ("final_share",), 0, 1)
    _between(recipe, ("weight_decay", "warmup_steps", "seed"), 0, math.inf, open_end=True)
    for key in ("learning_rate", "clip", "galore_scale"):
        if not 0 < getattr(recipe, key) < math.inf:
            raise ConfigError(f"recipe.{key} is {getattr(recipe, key)}, but must be more than 0")
    if not all(0 <= beta < 1 for beta in recipe.betas):
        raise ConfigError(f"recipe.betas are {recipe.betas}, but must be from 0 to less than 1")
    if recipe.max_steps is not None and recipe.max_steps < 1:
        raise ConfigError(f"recipe.max_steps is {recipe.max_steps}: training needs at least one step")
    if recipe.max_seconds is not None and not recipe.max_seconds > 0:
        raise ConfigError(f"recipe.max_seconds is {recipe.max_seconds}: training needs more than no time")
    if recipe.patience is not None and recipe.patience < 1:
        raise ConfigError(f"recipe.patience is {recipe.patience}, but must be 1 at least")
    if recipe.batch % (recipe.accumulation * processes):
        raise ConfigError(
            f"recipe.batch is {recipe.batch}, but must divide into {recipe.accumulation} micro-batches "
            f"for each of {processes} processes"
        )


def _between(recipe: Recipe, keys: tuple[str, ...], low: float, high: float, open_end: bool = False) -> None:
    for key in keys:
        value = getattr(recipe, key)
        if not (low <= value < high if open_end else low <= value <= high):
            most = "" if high == math.inf else f" and {'less than' if open_end else 'at most'} {high}"
            raise ConfigError(f"recipe.{key} is {value}, but must be {low} at least{most}")
