"""Checkpoints of a training run: complete or absent, the newest two kept."""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch

from ecustream.errors import ConfigError, InputError, OutputError
from training.recipe import Recipe

__all__ = ["Check", "Checkpoint", "Checkpoints", "Progress"]

_KEPT = 2
_NAME = re.compile(r"step-(\d+)")
_SAME = (
    "batch",
    "crop_windows",
    "length",
    "carried",
    "mask_tokens",
    "drop_lines",
    "optimiser",
    "galore_rank",
    "seed",
)
"""What a run must have in common with the one that it goes on with: data and optimiser depend on it."""


class Check(msgspec.Struct):
    """What one look at validation traffic found.

    Attributes:
        step: steps done.
        train_nats: mean loss of the last steps.
        validation_nats: nats a token.
        validation_nats_per_line: nats a line.
    """

    step: int
    train_nats: float
    validation_nats: float
    validation_nats_per_line: float


class Progress(msgspec.Struct):
    """How far a run has come, weights apart."""

    step: int = 0
    tokens: int = 0
    lines: int = 0
    seconds: float = 0.0
    flops: int = 0
    flops_per_step: int = 0
    running_nats: float | None = None
    best_nats: float | None = None
    best_nats_per_line: float | None = None
    since_best: int = 0
    history: list[Check] = msgspec.field(default_factory=list)


class _State(msgspec.Struct):
    recipe: dict[str, Any]
    progress: Progress
    processes: int
    origin: dict[str, str] = {}


class Checkpoint(msgspec.Struct):
    """One read back; `weights` and `best` are tensors by name, `best` None before the first validation."""

    path: Path
    progress: Progress
    weights: dict[str, torch.Tensor]
    best: dict[str, torch.Tensor] | None
    optimiser: dict[str, Any]


class Checkpoints:
    """The checkpoints of a run in `folder`, each a folder `step-N`.

    A new one is written under another name and then renamed, so that whoever ends the process at any time
    leaves complete ones only; what was left unfinished is removed when `clean` is called.

    Args:
        folder: need not exist yet.
        origin: what the run is made of beside its recipe, as names and values or digests.
    """

    def __init__(self, folder: Path, origin: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.origin = dict(origin or {})

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, oldest first."""
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def refuse_others(self) -> None:
        """Refuse to begin a run where there is another one.

        Raises:
            OutputError: there are checkpoints.
        """
        if self.steps():
            raise OutputError(f"{self.folder}: holds checkpoints of another run; resume it, or remove them")

    def path(self, step: int) -> Path:
        """Folder of a checkpoint."""
        return self.folder / f"step-{step}"

    def temporary(self, step: int) -> Path:
        """Folder of a checkpoint that is being written."""
        return self.folder / f".step-{step}.partial"

    def clean(self) -> None:
        """Remove what a run that was ended by force left unfinished.

        Raises:
            OutputError: it cannot be removed.
        """
        if self.folder.is_dir():
            for path in self.folder.glob(".step-*.partial"):
                _remove(path)

    def begin(self, step: int) -> Path:
        """Make the folder that `write` fills and `finish` renames.

        Raises:
            OutputError: it cannot be made.
        """
        path = self.temporary(step)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot write a checkpoint: {error.strerror}") from None
        return path

    def write(
        self,
        recipe: Recipe,
        progress: Progress,
        processes: int,
        weights: Mapping[str, torch.Tensor],
        best: Mapping[str, torch.Tensor] | None,
        optimiser: Mapping[str, Any],
    ) -> None:
        """Write what a run needs to go on into the folder that `begin` made.

        Raises:
            OutputError: it cannot be written; nothing is left.
        """
        path = self.temporary(progress.step)
        state = _State(msgspec.to_builtins(recipe), progress, processes, self.origin)
        tensors = {"weights": dict(weights), "best": best and dict(best), "optimiser": dict(optimiser)}
        try:
            with (path / "tensors.pt").open("wb") as file:
                torch.save(tensors, file)
                _flush(file)
            with (path / "state.json").open("wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n")
                _flush(file)
        # torch tells of some failed writes as RuntimeError.
        except (OSError, RuntimeError) as error:
            self.discard(progress.step)
            reason = _reason(error)
            raise OutputError(f"{self.path(progress.step)}: cannot write the checkpoint: {reason}") from None

    def discard(self, step: int) -> None:
        """Remove a checkpoint that could not be written whole."""
        shutil.rmtree(self.temporary(step), ignore_errors=True)

    def finish(self, step: int) -> None:
        """Give a checkpoint its name and remove all but the newest two.

        Raises:
            OutputError: it cannot be renamed, or an old one not removed.
        """
        try:
            if self.path(step).exists():
                _remove(self.path(step))
            self.temporary(step).rename(self.path(step))
        except OSError as error:
            raise OutputError(f"{self.path(step)}: cannot write the checkpoint: {error.strerror}") from None
        for old in self.steps()[:-_KEPT]:
            # Not under its own name: an end in between would leave half of it there.
            try:
                self.path(old).rename(self.temporary(old))
            except OSError as error:
                raise OutputError(f"{self.path(old)}: cannot remove it: {error.strerror}") from None
            _remove(self.temporary(old))

    def read(self, step: int, recipe: Recipe, processes: int) -> Checkpoint:
        """Read one back.

        Args:
            step: which.
            recipe: of the run that goes on with it.
            processes: of that run.

        Raises:
            InputError: it is damaged.
            ConfigError: it is of another recipe or origin.
        """
        path = self.path(step)
        try:
            state = msgspec.json.decode((path / "state.json").read_bytes(), type=_State)
            with torch.serialization.safe_globals(_optimiser_globals()):
                tensors = torch.load(path / "tensors.pt", map_location="cpu", weights_only=True)
            weights, best, optimiser = (tensors[key] for key in ("weights", "best", "optimiser"))
        # torch has no exception of its own for a damaged file.
        except Exception as error:
            raise InputError(
                f"{path}: this checkpoint is damaged ({_reason(error)}); remove it to go on from an older one"
            ) from None
        mine = msgspec.to_builtins(recipe)
        for key in _SAME:
            if state.recipe.get(key) != mine[key]:
                raise ConfigError(
                    f"{path}: was written with recipe.{key} {state.recipe.get(key)}, now it is {mine[key]}; "
                    "start anew in another folder"
                )
        for key in self.origin | state.origin:
            if state.origin.get(key) != self.origin.get(key):
                raise ConfigError(f"{path}: its {key} is not that of this run; start anew in another folder")
        if recipe.carried and state.processes != processes:
            raise ConfigError(
                f"{path}: holds the carried state of {state.processes} processes, now there are {processes}"
            )
        return Checkpoint(path, state.progress, weights, best, optimiser)


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot remove it: {error.strerror}") from None


def _reason(error: BaseException) -> str:
    while error.__context__ is not None and not isinstance(error, OSError):
        error = error.__context__
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text.splitlines()[0]


def _optimiser_globals() -> list[Any]:
    """Classes that an optimiser's state may hold beside tensors."""
    try:
        from galore_torch.galore_projector import GaLoreProjector
    except ImportError:
        return []
    return [GaLoreProjector]
