"""Searches for good settings of pre-training and of fine-tuning."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ecustream.errors import ConfigError, InputError
from ecustream.progress import WorkProgress
from training.bodies import BODIES, Body, new_model
from training.budget import Budget, measure_step
from training.carried import Carried
from training.crops import windows_of
from training.digests import traffic_digest, weights_digest
from training.effects import effects
from training.finetune import FinetuneSettings, Traffic, finetune_model, sequence_length
from training.nats import measure
from training.objectives import OBJECTIVES
from training.pretraining import pretrain
from training.recipe import RECIPES, Recipe, crop_length
from training.shards import Shards
from training.splits import Split
from training.study import RUNGS, Attempt, Space, Study, run_study

__all__ = [
    "FINETUNING_SPACE",
    "PRETRAINING_SPACE",
    "search_finetuning",
    "search_pretraining",
    "with_settings",
]

PRETRAINING_SPACE: Space = {
    "window": CategoricalDistribution([64, 128, 256, 512]),
    "hidden": CategoricalDistribution([64, 96, 128, 192]),
    "layers": IntDistribution(2, 6),
    "learning_rate": FloatDistribution(3e-4, 1e-2, log=True),
    "mask_tokens": FloatDistribution(0.0, 0.2),
    "drop_lines": FloatDistribution(0.0, 0.1),
}
"""Context, size, learning rate and noise, around what fits one vehicle."""

FINETUNING_SPACE: Space = {
    "objective": CategoricalDistribution(OBJECTIVES),
    "alpha": FloatDistribution(0.05, 1.0, log=True),
    "rank": CategoricalDistribution([4, 16, 64]),
    "learning_rate": FloatDistribution(1e-5, 2e-3, log=True),
}
"""What is learned of labelled lines, and how fast, by how large an adapter."""

_MOST_TOKENS = 100_000
_WARMUP_SHARE = 0.1


def search_pretraining(
    folder: Path,
    shards: Shards,
    split: Split,
    flops: int,
    *,
    trials: int,
    body: Body = BODIES["0.3m"],
    recipe: Recipe = RECIPES["default"],
    space: Space = PRETRAINING_SPACE,
    seconds: float = math.inf,
    seed: int = 0,
    say: Callable[[str], None] = lambda sentence: None,
) -> Study:
    """Search for the settings that make validation traffic easiest to predict for a given number of FLOPs.

    Every trial trains a new model for the same FLOPs, so that small ones get more steps, and is judged on
    the same validation lines, whatever its window. Nothing but the budget ends one that is not pruned.

    Args:
        folder: where the study is kept; see `training.study.run_study`.
        shards: clean traffic.
        split: its parts; the test part is not looked at.
        flops: of one trial.
        trials: finished trials to have in the end.
        body: what is not searched of the model.
        recipe: what is not searched of the training. Its limits of steps and time and its patience do not
            count, and no more than a tenth of the steps warms up.
        space: distributions by names of fields of `Body` or `Recipe`.
        seconds: no trial begins later than this after the call.
        seed: of the settings that are tried; all models have `recipe.seed`.
        say: told each trial's end.

    Raises:
        ConfigError: a name in `space` is not a field, or the folder holds another search.
        InputError: there is too little validation traffic, the study is damaged, or no trial came to its end.
        OutputError: the folder cannot be written, or another process searches in it.
    """
    length = crop_length(*with_settings(body, recipe, {key: _highest(value) for key, value in space.items()}))
    if not len(windows_of(split.validation, shards, length)):
        raise InputError(
            f"{shards.folder}: too little traffic for validation: the longest windows of the search need a "
            f"piece of {length} tokens"
        )

    def evaluate(attempt: Attempt) -> float:
        sized, schedule = with_settings(body, recipe, attempt.params)
        flops_per_step = _flops_per_step(sized, schedule, shards.vocabulary)
        steps = max(1, flops // flops_per_step)
        attempt.facts["steps"] = steps
        with WorkProgress(f"trial {attempt.number} of {trials}", 1000) as progress:
            trained = pretrain(
                shards,
                split,
                sized,
                _for_steps(schedule, steps),
                budget=Budget(flops),
                progress=lambda done, total, text: progress.update(done, text),
                report=lambda step, nats_per_line: attempt.report(step / steps, nats_per_line),
            )
        attempt.facts["parameters"] = sum(weight.numel() for weight in trained.model.parameters())
        if attempt.pruned:
            return math.nan
        nats = measure(trained.model, shards, split.validation, length, most_tokens=_MOST_TOKENS)
        return nats.per_line

    return run_study(
        folder,
        "pre-training",
        "validation nats a line",
        "minimize",
        space,
        evaluate,
        trials=trials,
        seconds=seconds,
        seed=seed,
        identity={
            "traffic": traffic_digest(shards, split),
            "number of FLOPs a trial": str(flops),
            **_fixed("body", body, space),
            **_fixed("recipe", recipe, space),
        },
        say=say,
    )


def search_finetuning(
    folder: Path,
    open_base: Callable[[], Any],
    shards: Shards,
    split: Split,
    steps: int,
    *,
    trials: int,
    settings: FinetuneSettings,
    recipe: Recipe,
    space: Space = FINETUNING_SPACE,
    replay: Traffic | None = None,
    clean: Traffic | None = None,
    fields_of_tokens: npt.NDArray[np.int64] | None = None,
    seconds: float = math.inf,
    seed: int = 0,
    say: Callable[[str], None] = lambda sentence: None,
) -> Study:
    """Search for the settings whose model tells labelled validation lines from others best.

    What is maximised is the average precision of lines ranked by their surprisal: losses of different
    objectives cannot be compared. A trial that makes clean traffic more surprising than
    `settings.max_clean_rise` allows is judged by its weights before that, and pruned if there are none.

    Args:
        folder: where the study is kept; see `training.study.run_study`.
        open_base: gives the base model anew, as `training.lora.open_model`.
        shards: traffic with labels.
        split: its parts; the test part is not looked at.
        steps: of one trial.
        trials: finished trials to have in the end.
        settings: what is not searched of the fine-tuning; `lora_alpha` follows the rank.
        recipe: what is not searched of the training. Its limits of steps and time and its patience do not
            count, and no more than a tenth of the steps warms up.
        space: distributions by names of fields of `FinetuneSettings` or `Recipe`.
        replay: see `training.finetune.finetune_model`, for the following too.
        clean: traffic without anomalies.
        fields_of_tokens: of the tokenizer.
        seconds: no trial begins later than this after the call.
        seed: of the settings that are tried.
        say: told each trial's end.

    Raises:
        ConfigError: a name in `space` is not a field, or the folder holds another search.
        InputError: there is no labelled validation line, the study is damaged, or no trial came to its end.
        OutputError: the folder cannot be written, or another process searches in it.
    """
    _tuned(settings, recipe, {key: _highest(value) for key, value in space.items()})
    if shards.labelled is None or not any(
        shards.labelled[p.first_line : p.stop_line].any() for p in split.validation
    ):
        raise InputError(
            f"{shards.folder}: no labelled line in the validation part: there is nothing to rank"
        )

    def evaluate(attempt: Attempt) -> float:
        tuning, schedule = _tuned(settings, recipe, attempt.params)
        model = open_base()
        length = sequence_length(model, schedule)

        def ranking(tuned: Any) -> float:
            found = effects(tuned, shards, split.validation, length, most_tokens=_MOST_TOKENS)
            for kind in ("labelled", "unlabelled"):
                nats = getattr(found, f"{kind}_nats_per_line")
                attempt.facts[f"{kind} nats a line"] = math.nan if nats is None else nats
            return math.nan if found.average_precision is None else found.average_precision

        with WorkProgress(f"trial {attempt.number} of {trials}", 1000) as progress:
            # The adapter's modules are put into `model` itself, but not into a copy of it in 4 bits.
            tuned = finetune_model(
                model,
                shards,
                split._replace(test=[]),
                tuning,
                _for_steps(schedule, steps),
                replay=replay,
                clean=clean,
                fields_of_tokens=fields_of_tokens,
                progress=lambda done, total, text: progress.update(done, text),
                report=None
                if tuning.qlora
                else lambda step, loss: attempt.report(step / steps, ranking(model)),
            )
        return math.nan if attempt.pruned else ranking(tuned.model)

    return run_study(
        folder,
        "fine-tuning",
        "validation average precision",
        "maximize",
        space,
        evaluate,
        trials=trials,
        seconds=seconds,
        seed=seed,
        identity={
            "base model": weights_digest(open_base().state_dict()),
            "traffic": traffic_digest(shards, split),
            "replayed traffic": "none" if replay is None else traffic_digest(*replay),
            "clean traffic": "none" if clean is None else traffic_digest(*clean),
            "number of steps a trial": str(steps),
            **_fixed("settings", settings, space),
            **_fixed("recipe", recipe, space),
        },
        say=say,
    )


def with_settings(body: Body, recipe: Recipe, settings: Mapping[str, Any]) -> tuple[Body, Recipe]:
    """Body and recipe with some of their fields replaced; `inner` follows `hidden` unless it is given.

    Raises:
        ConfigError: a setting is a field of neither.
    """
    if "hidden" in settings:
        settings = {"inner": round(body.inner * settings["hidden"] / body.hidden), **settings}
    return _replaced(settings, body, recipe)


def _tuned(
    tuning: FinetuneSettings, recipe: Recipe, settings: Mapping[str, Any]
) -> tuple[FinetuneSettings, Recipe]:
    if "rank" in settings:
        settings = {"lora_alpha": round(tuning.lora_alpha * settings["rank"] / tuning.rank), **settings}
    return _replaced(settings, tuning, recipe)


_Struct = TypeVar("_Struct", bound=msgspec.Struct)


def _replaced(settings: Mapping[str, Any], first: _Struct, recipe: Recipe) -> tuple[_Struct, Recipe]:
    strangers = settings.keys() - set(first.__struct_fields__) - set(recipe.__struct_fields__)
    if strangers:
        raise ConfigError(
            f"{min(strangers)} cannot be searched: it is no field of {type(first).__name__} or Recipe"
        )
    of_first = {key: value for key, value in settings.items() if key in first.__struct_fields__}
    of_recipe = {key: value for key, value in settings.items() if key in recipe.__struct_fields__}
    return msgspec.structs.replace(first, **of_first), msgspec.structs.replace(recipe, **of_recipe)


def _for_steps(recipe: Recipe, steps: int) -> Recipe:
    """The recipe for so many steps and no other end, with a look at validation in each tenth of them."""
    return msgspec.structs.replace(
        recipe,
        max_steps=steps,
        max_seconds=None,
        patience=None,
        evaluate_every=math.ceil(steps / RUNGS),
        warmup_steps=min(recipe.warmup_steps, math.ceil(_WARMUP_SHARE * steps)),
    )


def _highest(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        numbers = [choice for choice in distribution.choices if isinstance(choice, int | float)]
        return max(numbers) if numbers else distribution.choices[0]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.high


def _flops_per_step(body: Body, recipe: Recipe, vocabulary: int) -> int:
    """FLOPs of an optimiser step, all of its sequences; what they hold does not matter."""
    model = new_model(body, vocabulary)
    trained = Carried(model) if recipe.carried else model
    ids = torch.zeros(
        max(1, recipe.batch // recipe.accumulation), crop_length(body, recipe), dtype=torch.int64
    )
    return recipe.accumulation * measure_step(
        model, lambda: F.cross_entropy(trained(input_ids=ids).logits.flatten(0, 1), ids.flatten())
    )


def _fixed(prefix: str, settings: msgspec.Struct, space: Space) -> dict[str, str]:
    fields = msgspec.to_builtins(settings)
    return {f"{prefix}.{key}": str(value) for key, value in fields.items() if key not in space}
