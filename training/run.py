"""A training run: how far it has come, and what it decides after each step, the same in every process."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
import torch.distributed
from torch import Tensor
from transformers import TrainingArguments

from ecustream.errors import ConfigError, OutputError
from training.budget import Budget
from training.checkpoints import Check, Checkpoint, Checkpoints, Progress
from training.nats import Nats
from training.objectives import Counts, add, count
from training.recipe import Recipe, learning_rate_at

__all__ = ["Outcome", "Report", "Run", "ShowProgress"]

ShowProgress = Callable[[int, int, str], None]
Report = Callable[[int, float], bool]

_LEAST_GAIN_NATS = 1e-3
"""Nats a token by which validation must improve to count as progress."""


class Outcome(msgspec.Struct, kw_only=True):
    """The numbers of a run, those before it was resumed included.

    Attributes:
        steps: optimiser steps.
        tokens: targets that were trained on.
        lines: lines of them.
        seconds: time in training.
        flops: floating-point operations of all processes, forward and backward.
        planned_flops: what all steps would have cost, had nothing ended the run before.
        stopped: what ended it.
        train_nats: mean loss of the last steps, older ones fading.
        validation_nats: nats a token of the best weights.
        validation_nats_per_line: the same a line.
        history: every look at validation traffic.
    """

    steps: int
    tokens: int
    lines: int
    seconds: float
    flops: int
    planned_flops: int
    stopped: str
    train_nats: float
    validation_nats: float
    validation_nats_per_line: float
    history: list[Check]


class _Totals(NamedTuple):
    """What all processes agree on before a step."""

    targets: float
    labelled: float
    windows: float
    lines: float
    seconds: float
    interrupted: float


class Run:
    """The state of a run, and what it decides after each step; the same in every process."""

    def __init__(
        self,
        model: Any,
        validate: Callable[[], Nats],
        recipe: Recipe,
        steps: int,
        arguments: TrainingArguments,
        files: Checkpoints | None,
        budget: Budget | None,
        show: ShowProgress,
        report: Report | None,
        loss: str,
    ) -> None:
        self.model = model
        self.validate = validate
        self.recipe = recipe
        self.steps = steps
        self.rank: int = arguments.process_index
        self.processes: int = arguments.world_size
        self.device: torch.device = arguments.device
        self.files = files
        self.budget = budget
        self.show = show
        self.report = report
        self.loss = loss
        self.interrupted = self.ends_here = False
        self.progress = Progress()
        self.best: dict[str, Tensor] | None = None
        self.optimiser_state: dict[str, Any] | None = None
        self.stopped = ""
        self.counts = Counts(0, 0, 0)
        self.losses: list[Tensor] = []
        self.seconds = 0.0
        self.lines = 0
        self.started = 0.0
        self.source: Path | None = None

    def restore(self, found: Checkpoint) -> None:
        """Take over what a checkpoint holds; the optimiser's state waits for the optimiser."""
        self.source = found.path
        self.progress = found.progress
        self.best = found.best
        self.optimiser_state = found.optimiser
        self._load(found.weights)
        if self.budget is not None:
            self.budget.spent = max(self.budget.spent, self.progress.flops)

    def begin(self, found: Checkpoint | None, plan: str) -> None:
        """Start the clock; `stopped` says whether nothing is left to do.

        Raises:
            ConfigError: the budget does not cover one step; the sentence is `plan`.
        """
        if found is not None and hasattr(self.model, "load_state"):
            self.model.load_state(_carried_path(found.path, self.rank))
        if self.budget is not None:
            self.budget.flops_per_step = self.progress.flops_per_step
        self.seconds = self.progress.seconds
        self.started = time.monotonic() - self.progress.seconds
        self.stopped = self._why_stop()
        if self.stopped and not self.progress.step:
            raise ConfigError(plan)
        if self.stopped and self.best is None:
            self._look()

    def give_state(self, optimiser: Any) -> None:
        """Give a new optimiser the state that it had when the checkpoint was written."""
        if self.optimiser_state is not None:
            optimiser.load_state_dict(self.optimiser_state)
            self.optimiser_state = None

    def count(self, batches: list[Any]) -> None:
        """Count a step's micro-batches over all processes, and agree on the time."""
        counts, lines = Counts(0, 0, 0), 0
        for batch in batches:
            counts = add(counts, count(batch))
            lines += int(batch["lines"].sum())
        elapsed = time.monotonic() - self.started if self.rank == 0 else 0.0
        totals = _Totals(*self._sum([*counts, lines, elapsed, float(self.interrupted)]))
        self.counts = Counts(round(totals.targets), round(totals.labelled), round(totals.windows))
        self.lines, self.seconds = round(totals.lines), totals.seconds
        # One process alone must not leave a step that the others wait for it in.
        self.ends_here = totals.interrupted > 0
        self.losses.clear()

    def rate(self) -> float:
        """Learning rate of the step that begins."""
        return learning_rate_at(self.recipe, self.progress.step + 1, self._share(self.progress.step + 1))

    def judge(self, gradient_norm: Any) -> None:
        """Take this step's loss into the running mean, before its gradient reaches the weights.

        Raises:
            ConfigError: loss or gradient is not a number.
        """
        loss, norm = self._sum([float(sum(self.losses)), float(gradient_norm)])
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise _diverged(self.progress.step + 1)
        running = self.progress.running_nats
        self.progress.running_nats = loss if running is None else 0.95 * running + 0.05 * loss

    def step_done(self, optimiser: Any) -> bool:
        """Count the step; validate, save, stop where it is time to. Says whether training ends.

        Raises:
            KeyboardInterrupt: it was asked for, and this step is saved.
        """
        now = self.progress
        now.step += 1
        now.tokens += self.counts.targets
        now.lines += self.lines
        now.flops += now.flops_per_step
        now.seconds = self.seconds
        if self.budget is not None:
            self.budget.spend(now.flops_per_step)
        self.stopped = self._why_stop()
        if now.step % self.recipe.evaluate_every == 0 or self.stopped:
            self.stopped = "pruned" if self._look() else self._why_stop()
        due = now.step % self.recipe.save_every == 0 or self.stopped or self.ends_here
        if self.files is not None and due:
            self._save(self.files, optimiser)
        self._show()
        if self.ends_here and not self.stopped:
            raise KeyboardInterrupt
        return bool(self.stopped)

    def end(self) -> Outcome:
        """Put the best weights into the model."""
        now = self.progress
        # Every run ends with a look at validation traffic, and its first look finds the best weights so far.
        assert self.best is not None
        assert now.best_nats is not None
        assert now.best_nats_per_line is not None
        self._load(self.best)
        self.model.eval()
        return Outcome(
            steps=now.step,
            tokens=now.tokens,
            lines=now.lines,
            seconds=now.seconds,
            flops=now.flops,
            planned_flops=self.steps * now.flops_per_step,
            stopped=self.stopped,
            train_nats=math.nan if now.running_nats is None else now.running_nats,
            validation_nats=now.best_nats,
            validation_nats_per_line=now.best_nats_per_line,
            history=now.history,
        )

    def _look(self) -> bool:
        """Validate; keep the weights if they are the best. Says whether `report` prunes the run.

        Raises:
            ConfigError: what the model says is not a number.
        """
        now = self.progress
        found = self.validate()
        nats, per_line, pruned = found.per_token, found.per_line, False
        if not math.isfinite(nats):
            raise _diverged(now.step)
        if self.rank == 0 and self.report is not None:
            pruned = self.report(now.step, per_line)
        # The first process decides for all, lest another rounds to another decision.
        mine = [nats, per_line, float(pruned)] if self.rank == 0 else [0.0, 0.0, 0.0]
        nats, per_line, ends = self._sum(mine)
        running = nats if now.running_nats is None else now.running_nats
        now.history.append(Check(now.step, running, nats, per_line))
        now.since_best += 1
        if nats < (math.inf if now.best_nats is None else now.best_nats) - _LEAST_GAIN_NATS:
            now.best_nats, now.best_nats_per_line, now.since_best = nats, per_line, 0
            self.best = {name: tensor.cpu().clone() for name, tensor in _trained(self.model)}
        return ends > 0

    def _save(self, files: Checkpoints, optimiser: Any) -> None:
        now = self.progress
        if self.rank == 0:
            files.begin(now.step)
        self._wait()
        if hasattr(self.model, "save_state"):
            path = _carried_path(files.temporary(now.step), self.rank)
            try:
                self.model.save_state(path)
            except OutputError:
                files.discard(now.step)
                raise
        self._wait()
        if self.rank == 0:
            weights = dict(_trained(self.model))
            files.write(self.recipe, now, self.processes, weights, self.best, optimiser.state_dict())
            files.finish(now.step)
        self._wait()

    def _show(self) -> None:
        if self.rank == 0:
            text = f"{self.loss} {self.progress.running_nats:.2f} in training"
            if self.progress.best_nats is not None:
                text += f", {self.progress.best_nats:.2f} in validation"
            self.show(int(1000 * min(self._share(self.progress.step), 1)), 1000, text)

    def _share(self, step: int) -> float:
        """How much of the run is over: of its steps, its time, or its budget, whichever is most."""
        share = step / self.steps
        if self.recipe.max_seconds is not None:
            share = max(share, self.seconds / self.recipe.max_seconds)
        if self.budget is not None and self.budget.limit:
            ahead = (step - self.progress.step) * self.progress.flops_per_step
            share = max(share, (self.budget.spent + ahead) / self.budget.limit)
        return share

    def _why_stop(self) -> str:
        """What ends the run now; empty if nothing does."""
        if self.recipe.patience is not None and self.progress.since_best >= self.recipe.patience:
            return "validation"
        if self.progress.step >= self.steps:
            return "steps"
        if self.recipe.max_seconds is not None and self.seconds >= self.recipe.max_seconds:
            return "time"
        return "budget" if self.budget is not None and self.budget.exhausted else ""

    @torch.no_grad()
    def _load(self, weights: Mapping[str, Tensor]) -> None:
        mine = dict(_trained(self.model))
        if mine.keys() != weights.keys() or any(mine[k].shape != weights[k].shape for k in mine):
            raise ConfigError(
                f"{self.source}: the checkpoint is of another model; start anew in another folder"
            )
        for name, tensor in mine.items():
            tensor.copy_(weights[name])

    def _sum(self, values: list[float]) -> list[float]:
        """Sums over all processes."""
        if self.processes == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return [float(x) for x in total.tolist()]

    def _wait(self) -> None:
        if self.processes > 1:
            torch.distributed.barrier()


def _trained(model: Any) -> list[tuple[str, Tensor]]:
    """The weights that training changes, by name."""
    return [(name, p.detach()) for name, p in model.named_parameters() if p.requires_grad]


def _diverged(step: int) -> ConfigError:
    return ConfigError(
        f"training diverged at step {step}: the loss is not a number; try a smaller learning rate"
    )


def _carried_path(folder: Path, rank: int) -> Path:
    return folder / f"carried-{rank}.pt"
