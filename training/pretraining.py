"""Trains a model from nothing on the tokens of clean traffic.

A minute of one vehicle's traffic is memorised within minutes of training. What keeps the model honest is
masking some of its input tokens, dropping some lines, weight decay, and stopping when traffic from a later
time than it trained on gets no easier to predict.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from ecustream.errors import InputError
from training.bodies import Body, new_model
from training.budget import Budget
from training.carried import Carried
from training.crops import Crops, Lanes
from training.digests import traffic_digest
from training.nats import measure
from training.objectives import make_objective
from training.recipe import Recipe, check_recipe, crop_length
from training.shards import Shards
from training.splits import Part, Split
from training.trainer import Outcome, train

__all__ = ["Pretrained", "pretrain"]


class Pretrained(msgspec.Struct):
    """The best model by validation, in eval mode, and the numbers of the run."""

    model: Any
    outcome: Outcome


def pretrain(
    shards: Shards,
    split: Split,
    body: Body,
    recipe: Recipe,
    *,
    work: Path | None = None,
    resume: bool = False,
    budget: Budget | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
    report: Callable[[int, float], bool] | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Pretrained:
    """Train a new model on `split.train`, as long as `split.validation` gets easier to predict.

    Args:
        shards: the traffic.
        split: its parts.
        body: the model's sizes.
        recipe: batches and schedule; `max_steps` None is one pass over as many tokens as `split.train` has.
        work: folder for checkpoints; see `training.trainer.train`, for the following too.
        resume: go on from the newest checkpoint.
        budget: ends the run.
        progress: called as (done, total, text).
        report: called as (step, validation nats a line); True ends the run.
        say: told what the run will cost.

    Raises:
        InputError: there is too little traffic for one sequence, or a checkpoint is damaged.
        ConfigError: body or recipe cannot be, the budget does not cover one step, training diverges, or a
            checkpoint is of another body, recipe, tokenizer or traffic.
        OutputError: a checkpoint cannot be written.
    """
    check_recipe(recipe)
    length = crop_length(body, recipe)
    for name, parts in (("training", split.train), ("validation", split.validation)):
        if _longest(shards, parts) <= length + 3:
            raise InputError(
                f"too little traffic for {name}: needs a piece of more than {length} tokens "
                f"(about {round(length * (len(shards.first_token) - 1) / len(shards.ids))} lines)"
            )
    tokens = sum(_tokens(shards, part) for part in split.train)
    steps = recipe.max_steps or max(1, tokens // (recipe.batch * length))
    count = steps * recipe.batch
    torch.manual_seed(recipe.seed)
    model = new_model(body, shards.vocabulary)
    # Without chunks to carry over it still brings mixers that are not as slow as Hugging Face's.
    trained: Any = Carried(model) if recipe.carried or body.kind != "qwen2" else model
    data: Any
    if recipe.carried:
        data = Lanes(
            shards, split.train, length, count, recipe.seed, recipe.batch, mask_tokens=recipe.mask_tokens
        )
    else:
        data = Crops(
            shards,
            split.train,
            length,
            count,
            recipe.seed,
            mask_tokens=recipe.mask_tokens,
            drop_lines=recipe.drop_lines,
        )
    outcome = train(
        trained,
        data,
        lambda: measure(trained, shards, split.validation, length),
        make_objective("ce"),
        recipe,
        work=work,
        resume=resume,
        budget=budget,
        origin={
            "traffic or tokenizer": traffic_digest(shards, split),
            **{f"body.{key}": str(value) for key, value in msgspec.to_builtins(body).items()},
        },
        progress=progress,
        report=report,
        say=say,
    )
    return Pretrained(model.eval(), outcome)


def _tokens(shards: Shards, part: Part) -> int:
    return int(shards.first_token[part.stop_line] - shards.first_token[part.first_line])


def _longest(shards: Shards, parts: Sequence[Part]) -> int:
    return max((_tokens(shards, part) for part in parts), default=0)
