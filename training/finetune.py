"""Fine-tuning on labelled traffic: an adapter learns what is new, and to be unsure of known anomalies."""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from ecustream.errors import ConfigError, InputError
from training.budget import Budget
from training.carried import Carried
from training.crops import Crops, Item, Lanes
from training.digests import traffic_digest, weights_digest
from training.effects import Effects, effects
from training.lora import Lora, add_lora, lora_of, merge, quantised
from training.objectives import make_objective
from training.recipe import Recipe, check_recipe
from training.replay import Replay
from training.shards import Shards
from training.splits import Part, Split
from training.trainer import Outcome, train
from training.watch import Look, Watch

__all__ = ["SETTINGS", "FinetuneSettings", "Finetuned", "finetune_model", "sequence_length"]

Traffic = tuple[Shards, Sequence[Part]]

_NEEDS_NO_LABELS = ("ce", "mask")


class FinetuneSettings(msgspec.Struct, kw_only=True):
    """What is learned, and by how large an adapter; the schedule is `Recipe`'s.

    Attributes:
        objective: one of `training.objectives.OBJECTIVES`.
        alpha: weight of the objective's term for labelled lines; not the adapter's, which is `lora_alpha`.
        margin_nats: what "margin" asks of a labelled token.
        rank: of the adapter's matrices.
        lora_alpha: the adapter counts lora_alpha / rank times.
        learning_rate: the highest one, instead of the recipe's.
        qlora: train beside a copy of the model in 4 bits, which saves memory on an accelerator.
        replay_share: share of training sequences from older traffic.
        max_clean_rise: training ends, and the weights before count, when a token of clean traffic has become
            more surprising by more than this share; None: never.
    """

    objective: str = "mask"
    alpha: float = 0.5
    margin_nats: float = 5.0
    rank: int = 64
    lora_alpha: int = 64
    learning_rate: float = 5e-4
    qlora: bool = False
    replay_share: float = 0.0
    max_clean_rise: float | None = 0.02


SETTINGS: dict[str, FinetuneSettings] = {
    "default": FinetuneSettings(),
    "paper": FinetuneSettings(objective="entropy", learning_rate=5e-5, max_clean_rise=None),
}
"""Settings by name. "default" is what clean traffic bears: of labelled tokens nothing is learned, neither to
expect them nor to be unsure. "paper" is arXiv 2507.01077: rank 64, learning rate 5e-5, and its
regulariser as its prose has it, with a weight (its alpha) of 0.5. Its equation 3 taken literally is the
objective "paper"."""


class Finetuned(NamedTuple):
    """What fine-tuning gave.

    Attributes:
        model: the best weights by validation, the adapter merged into them; in evaluation mode, on the CPU.
        lora: the adapter.
        outcome: the run; what it calls validation nats is the objective's loss on validation traffic.
        before: effects on the test part before; None where that part is too short, or has no labels.
        after: the same of the merged model.
        clean_nats_before: nats a token of clean traffic, or else of the validation part's unlabelled lines.
        clean_nats_after: the same of the merged model.
    """

    model: Any
    lora: Lora
    outcome: Outcome
    before: Effects | None
    after: Effects | None
    clean_nats_before: float
    clean_nats_after: float


def finetune_model(
    model: Any,
    shards: Shards,
    split: Split,
    settings: FinetuneSettings,
    recipe: Recipe,
    *,
    replay: Traffic | None = None,
    clean: Traffic | None = None,
    fields_of_tokens: npt.NDArray[np.int64] | None = None,
    tokenizer_json: str | None = None,
    adapter: Lora | None = None,
    work: Path | None = None,
    resume: bool = False,
    budget: Budget | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
    report: Callable[[int, float], bool] | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Finetuned:
    """Train an adapter on `split.train` and merge it into the model.

    Args:
        model: as `training.lora.open_model` gives it; its weights become the merged ones.
        shards: the new traffic, with labels.
        split: its parts; validation chooses the weights, test shows the effects.
        settings: objective and adapter.
        recipe: batches and schedule; `max_steps` None is as many as one pass over `split.train` has.
        replay: older traffic, of which `settings.replay_share` of the sequences are.
        clean: traffic without anomalies, not trained on; None takes the unlabelled lines of validation.
        fields_of_tokens: of the tokenizer; see `training.objectives.make_objective`.
        tokenizer_json: of the model's bundle; checked against that of all traffic.
        adapter: to continue from.
        work: folder for checkpoints; see `training.trainer.train`, for the following too.
        resume: go on from the newest checkpoint.
        budget: ends the run.
        progress: called as (done, total, text).
        report: called as (step, the objective's loss a line); True ends the run.
        say: told what the run will cost.

    Raises:
        InputError: traffic that is too little, without labels or of another tokenizer; an adapter that does
            not fit; a damaged checkpoint.
        ConfigError: settings or recipe cannot be, training diverges, or the checkpoint to go on from is of
            another fine-tuning.
        NothingGainedError: clean traffic suffers at the first look.
        OutputError: a checkpoint cannot be written.
    """
    check_recipe(recipe)
    _check(settings, recipe, replay)
    for traffic in [shards, *(other[0] for other in (replay, clean) if other is not None)]:
        _check_fits(traffic, model, shards.tokenizer_json if tokenizer_json is None else tokenizer_json)
    if settings.objective not in _NEEDS_NO_LABELS and not _has_labels(shards, split.train):
        names = ", ".join(piece.name for piece in shards.pieces)
        raise InputError(
            f"no labelled line in the training part of {names}: there is nothing to fine-tune on; the "
            f"objectives {' and '.join(_NEEDS_NO_LABELS)} need none"
        )
    recipe = msgspec.structs.replace(recipe, learning_rate=settings.learning_rate)
    objective = make_objective(
        settings.objective,
        alpha=settings.alpha,
        margin_nats=settings.margin_nats,
        fields_of_tokens=fields_of_tokens,
    )
    length = sequence_length(model, recipe)
    data = _data(shards, split.train, recipe, length, settings, replay)
    look = Look(shards, split.validation, length)
    clean_look = Look(*(clean or (shards, split.validation)), length)
    origin = {
        **{f"finetune.{key}": str(value) for key, value in msgspec.to_builtins(settings).items()},
        "base model": weights_digest(model.state_dict()),
        "adapter": "none" if adapter is None else weights_digest(adapter.weights),
        "traffic": traffic_digest(shards, split),
        "older traffic": "none" if replay is None else traffic_digest(*replay),
    }
    device = _device()
    model.to(device)
    torch.manual_seed(recipe.seed)
    beside = quantised(model, device) if settings.qlora else model
    tuned = add_lora(beside, settings.rank, settings.lora_alpha, adapter)
    try:
        before = _effects(tuned, shards, split.test, length)
        watch = Watch(tuned, objective, look, clean_look, settings.max_clean_rise, report)
        outcome = train(
            Carried(tuned) if recipe.carried else tuned,
            data,
            watch.validate,
            objective,
            recipe,
            work=work,
            resume=resume,
            budget=budget,
            progress=progress,
            origin=origin,
            report=watch.report,
            say=say,
        )
        outcome = watch.judged(outcome)
        lora = lora_of(tuned)
    finally:
        # Whoever called keeps a model without adapter modules, whatever happened.
        tuned.unload()
    merged = merge(model, lora)
    after = _effects(merged, shards, split.test, length)
    clean_after = clean_look.loss(merged, make_objective("mask"))
    return Finetuned(merged.cpu(), lora, outcome, before, after, watch.clean_before, clean_after)


def sequence_length(model: Any, recipe: Recipe) -> int:
    """Tokens of a training sequence: some windows of attention, or no more than full attention can read."""
    config = model.config
    if config.model_type != "qwen2":
        return recipe.length
    if getattr(config, "sliding_window", None) and "sliding_attention" in config.layer_types:
        return int(config.sliding_window) * recipe.crop_windows
    return min(int(config.max_position_embeddings), recipe.length)


def _check(settings: FinetuneSettings, recipe: Recipe, replay: Traffic | None) -> None:
    if settings.rank < 1 or settings.lora_alpha < 1:
        raise ConfigError(
            f"rank and lora_alpha are {settings.rank} and {settings.lora_alpha}, but must be 1 at least"
        )
    if not 0 < settings.learning_rate < math.inf:
        raise ConfigError(f"learning_rate is {settings.learning_rate}, but must be more than 0")
    if settings.max_clean_rise is not None and not settings.max_clean_rise >= 0:
        raise ConfigError(f"max_clean_rise is {settings.max_clean_rise}, but must be 0 at least")
    if (replay is None) != (settings.replay_share == 0):
        have = "there is no older traffic" if replay is None else "there is older traffic to replay"
        raise ConfigError(f"replay_share is {settings.replay_share}, but {have}")
    if recipe.carried and replay is not None:
        raise ConfigError(
            "recipe.carried and replay exclude each other: lanes of one traffic follow each other"
        )
    if recipe.carried and settings.objective == "contrastive":
        raise ConfigError(
            "recipe.carried and the objective 'contrastive' exclude each other: it compares windows"
        )
    if settings.qlora and not torch.cuda.is_available():
        raise ConfigError("QLoRA needs a CUDA device, and there is none; train without it")


def _check_fits(shards: Shards, model: Any, tokenizer_json: str) -> None:
    if shards.vocabulary != model.config.vocab_size:
        raise InputError(
            f"{shards.folder}: its tokens are of a vocabulary of {shards.vocabulary}, the model has "
            f"{model.config.vocab_size}; tokenize the traffic with the model's own tokenizer"
        )
    if shards.tokenizer_json != tokenizer_json:
        raise InputError(
            f"{shards.folder}: was tokenized by another tokenizer ({shards.tokenizer}) than the model's; "
            "tokenize the traffic with the model's own"
        )


def _has_labels(shards: Shards, parts: Sequence[Part]) -> bool:
    return shards.labelled is not None and any(
        bool(shards.labelled[part.first_line : part.stop_line].any()) for part in parts
    )


def _data(
    shards: Shards,
    parts: Sequence[Part],
    recipe: Recipe,
    length: int,
    settings: FinetuneSettings,
    replay: Traffic | None,
) -> Any:
    tokens = sum(int(shards.first_token[p.stop_line] - shards.first_token[p.first_line]) for p in parts)
    steps = recipe.max_steps or max(1, tokens // (recipe.batch * length))
    items = steps * recipe.batch
    if recipe.carried:
        return Lanes(shards, parts, length, items, recipe.seed, recipe.batch, mask_tokens=recipe.mask_tokens)

    def crops(shards: Shards, parts: Sequence[Part]) -> Dataset[Item]:
        return Crops(
            shards,
            parts,
            length,
            items,
            recipe.seed,
            mask_tokens=recipe.mask_tokens,
            drop_lines=recipe.drop_lines,
        )

    new = crops(shards, parts)
    return new if replay is None else Replay(new, crops(*replay), items, settings.replay_share)


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def _effects(model: Any, shards: Shards, parts: Sequence[Part], length: int) -> Effects | None:
    try:
        return effects(model, shards, parts, length)
    except InputError:
        return None
