"""What fine-tuning looks at while it trains: its loss, and whether clean traffic suffers."""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import torch
from torch.utils.data import default_collate

from ecustream.errors import ConfigError
from ecustream.scoring.products import fast_products
from training.crops import Crops
from training.nats import Nats
from training.objectives import Counts, Objective, add, count, make_objective
from training.shards import Shards
from training.splits import Part
from training.trainer import Outcome

__all__ = ["Look", "NothingGainedError", "Watch"]

_MOST_TOKENS = 24 * 1024
_TOKENS_AT_ONCE = 8192
_WORST = sys.float_info.max
"""Stands for weights that must not be kept: worse than any, and yet a number."""


class NothingGainedError(ConfigError):
    """Clean traffic suffered so soon that no weights but those of before are left."""


class Look:
    """The same sequences of some traffic at every look, nothing of them hidden.

    Args:
        shards: the traffic.
        parts: which lines of it.
        length: tokens of a sequence.

    Raises:
        InputError: no part is long enough.
    """

    def __init__(self, shards: Shards, parts: Sequence[Part], length: int) -> None:
        tokens = sum(int(shards.first_token[p.stop_line] - shards.first_token[p.first_line]) for p in parts)
        self._size = max(1, min(tokens, _MOST_TOKENS) // length)
        self._items = Crops(shards, parts, length, self._size, seed=0)
        self._length = length
        items = [self._items[i] for i in range(self._size)]
        self.tokens_per_line = self._size * length / max(1, sum(int(item["lines"]) for item in items))

    @torch.no_grad()
    def loss(self, model: Any, objective: Objective) -> float:
        """The objective's loss, in nats; the model is left in the mode that it is in."""
        device = next(model.parameters()).device
        rows = max(1, _TOKENS_AT_ONCE // self._length)
        batches = [
            default_collate([self._items[i] for i in range(first, min(first + rows, self._size))])
            for first in range(0, self._size, rows)
        ]
        counts = Counts(0, 0, 0)
        for batch in batches:
            counts = add(counts, count(batch))
        training, loss = model.training, 0.0
        model.eval()
        for batch in batches:
            with fast_products(batch["input_ids"].numel(), getattr(model.config, "hidden_size", 0)):
                loss += float(objective(model, {k: v.to(device) for k, v in batch.items()}, counts))
        model.train(training)
        return loss


class Watch:
    """Validates by the objective, and ends training when clean traffic suffers.

    Args:
        model: that is trained.
        objective: its loss.
        look: validation traffic.
        clean: traffic whose unlabelled lines must stay as predictable as they are.
        max_clean_rise: share by which a token of them may become more surprising; None is any.
        report: the caller's; see `training.trainer.train`.

    Attributes:
        clean_before: nats a token of clean traffic now, before training.
    """

    def __init__(
        self,
        model: Any,
        objective: Objective,
        look: Look,
        clean: Look,
        max_clean_rise: float | None,
        report: Callable[[int, float], bool] | None,
    ) -> None:
        self._model = model
        self._objective = objective
        self._look = look
        self._clean = clean
        self._max_rise = math.inf if max_clean_rise is None else max_clean_rise
        self._report = report
        self._unlabelled = make_objective("mask")
        self.clean_before = self._clean_now = clean.loss(model, self._unlabelled)
        self._loss = math.nan

    def validate(self) -> Nats:
        """The objective's loss as if it were nats; the worst number once clean traffic suffers too much."""
        loss = self._loss = self._look.loss(self._model, self._objective)
        self._clean_now = self._clean.loss(self._model, self._unlabelled)
        # Not "more than": a model whose nats are no numbers has suffered.
        if not self._clean_now <= self.clean_before * (1 + self._max_rise):
            loss = _WORST
        return Nats(
            per_token=loss,
            per_line=self._per_line(loss),
            per_field={},
            accuracy=math.nan,
            field_accuracy={},
            tokens_per_line=self._look.tokens_per_line,
            lines=0,
            tokens=0,
        )

    def report(self, step: int, nats_per_line: float) -> bool:
        """Whether training ends: for the sake of clean traffic, or because the caller says so."""
        if nats_per_line == _WORST:
            return True
        return self._report is not None and self._report(step, nats_per_line)

    def judged(self, outcome: Outcome) -> Outcome:
        """The outcome of a run that clean traffic may have ended, in plain numbers.

        Raises:
            NothingGainedError: it was ended at its first look, so that there is nothing to keep.
        """
        last = outcome.history[-1]
        if last.validation_nats != _WORST:
            return outcome
        if outcome.validation_nats == _WORST:
            raise NothingGainedError(
                f"nothing was gained: at the first look, after {last.step} steps, clean traffic had become "
                f"{self._clean_now / self.clean_before - 1:.1%} more surprising, {self._max_rise:.1%} are "
                "allowed; try a smaller learning rate or alpha, replay, or looks after fewer steps"
            )
        last = msgspec.structs.replace(
            last, validation_nats=self._loss, validation_nats_per_line=self._per_line(self._loss)
        )
        return msgspec.structs.replace(
            outcome, stopped="clean traffic", history=[*outcome.history[:-1], last]
        )

    def _per_line(self, loss: float) -> float:
        return loss if loss == _WORST else loss * self._look.tokens_per_line
