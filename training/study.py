"""A study of settings with Optuna: seeded, pruned, and kept in a folder that a later call goes on from."""

import fcntl
import json
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from ecustream.errors import ConfigError, InputError, OutputError

__all__ = [
    "RUNGS",
    "Attempt",
    "Direction",
    "Evaluate",
    "Space",
    "Study",
    "Tried",
    "run_study",
    "setting_text",
    "settings_text",
]

Space = Mapping[str, BaseDistribution]
Direction = Literal["minimize", "maximize"]

RUNGS = 10
_FIRST_RUNG = 3
_ROUNDING = 1e-9
_STUDY_FILE = "study.db"
_FACTS, _REASON, _IDENTITY = "facts", "reason", "search"


class Attempt:
    """One trial, as the function sees it that evaluates it.

    Attributes:
        number: of the trial, from 1.
        params: the settings to try.
        facts: numbers that the function wants to see in the table, by name.
    """

    def __init__(self, trial: optuna.Trial, number: int) -> None:
        self.number = number
        self.params: dict[str, Any] = dict(trial.params)
        self.facts: dict[str, float] = {}
        self.pruned = ""
        self._trial = trial
        self._rung = 0

    def report(self, share: float, value: float) -> bool:
        """Say how good the trial is so far; True asks to end it, and then what it gives does not matter.

        Trials are compared at the same tenths of their cost, so that large and small models are: the
        first value in each tenth counts.

        Args:
            share: of the trial's cost that is spent, 0 to 1.
            value: the objective so far.
        """
        if not math.isfinite(value):
            self.pruned = self.pruned or "diverged"
        rung = math.floor(share * RUNGS + _ROUNDING)
        if rung > self._rung and not self.pruned:
            self._rung = rung
            self._trial.report(value, rung)
            if self._trial.should_prune():
                self.pruned = f"worse than the median at {100 * rung // RUNGS} % of its cost"
        return bool(self.pruned)


Evaluate = Callable[[Attempt], float]


class Tried(msgspec.Struct, frozen=True):
    """A finished trial, the first is number 1. A pruned one has a reason, and no value.

    `so_far` has the values that it reported, by tenths of its cost.
    """

    number: int
    params: dict[str, Any]
    value: float | None
    reason: str
    seconds: float
    so_far: dict[int, float]
    facts: dict[str, float]


class Study(msgspec.Struct, frozen=True):
    """What a search has tried, in order; `importance` gives each setting's share in the differences."""

    name: str
    metric: str
    direction: Direction
    logarithmic: list[str]
    trials: list[Tried]
    importance: dict[str, float]

    @property
    def best(self) -> Tried | None:
        """The best of the trials that were not pruned; None if all were."""
        sign = 1 if self.direction == "minimize" else -1
        complete = [t for t in self.trials if t.value is not None]
        return min(complete, key=lambda t: sign * (t.value or 0), default=None)


def run_study(
    folder: Path,
    name: str,
    metric: str,
    direction: Direction,
    space: Space,
    evaluate: Evaluate,
    *,
    trials: int,
    seconds: float = math.inf,
    seed: int = 0,
    identity: Mapping[str, str],
    say: Callable[[str], None] = lambda sentence: None,
) -> Study:
    """Try settings until `trials` trials are finished, those of earlier calls on the same folder included.

    The settings that are tried depend on the seed and on the finished trials alone: a search that was
    killed tries what it would have tried. Of a killed one, the running trial is lost.

    Args:
        folder: where the study is kept; made if it is not there.
        name: what is searched, such as "pretraining".
        metric: what the value is, with its unit.
        direction: whether less or more of it is better.
        space: distribution of each setting.
        evaluate: gives the value of a trial. An InputError or ConfigError prunes it, as settings that
            diverge or do not fit together raise; so does a value that is not a number.
        trials: finished trials to have in the end, pruned ones included.
        seconds: no trial begins later than this after the call.
        seed: of the settings that are tried.
        identity: what else makes this search another one than a search in the same folder, by name.
        say: told each trial's end in a sentence.

    Raises:
        ConfigError: `trials` is not above 0, or the folder holds another search.
        InputError: the study is damaged, or no trial at all came to its end.
        OutputError: the folder cannot be written, or another process searches in it.
    """
    if trials < 1:
        raise ConfigError(f"a search needs at least one trial, not {trials}")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    identity = {
        "search": name,
        "metric": metric,
        "seed": str(seed),
        **{f"range of {key}": distribution_to_json(value) for key, value in space.items()},
        **identity,
    }
    stop_s = time.monotonic() + seconds
    with _owned(folder), _opened(folder / _STUDY_FILE, name, direction) as study:
        _refuse_another(study, identity, folder)
        for stale in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(stale.number, state=TrialState.FAIL)
        while (done := len(_finished(study))) < trials and time.monotonic() < stop_s:
            tried = _tried(_try(study, space, evaluate, seed, done), done + 1)
            ended = f"pruned, {tried.reason}" if tried.value is None else f"{metric} {tried.value:.4g}"
            say(f"trial {done + 1} of {trials}: {ended}; {settings_text(tried.params)}")
        result = _summary(study, name, metric, direction, space)
    if result.trials and result.best is None:
        raise InputError(f"{folder}: no trial came to its end; the last one: {result.trials[-1].reason}")
    return result


def settings_text(params: Mapping[str, Any]) -> str:
    """Settings on one line: `layers 3, learning_rate 0.00213`."""
    return ", ".join(f"{key} {setting_text(value)}" for key, value in params.items())


def setting_text(value: object) -> str:
    """A setting or a number as a person reads it: three digits if it has a fraction."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _try(study: optuna.Study, space: Space, evaluate: Evaluate, seed: int, done: int) -> FrozenTrial:
    # A sampler that goes on from where it was would need its state kept; one of its own for each trial
    # tries the same after a restart, where the study's first sampler would begin anew and repeat itself.
    study.sampler = optuna.samplers.TPESampler(
        seed=int(np.random.SeedSequence((seed, done)).generate_state(1)[0])
    )
    trial = study.ask(fixed_distributions=dict(space))
    attempt = Attempt(trial, done + 1)
    value = math.nan
    try:
        value = float(evaluate(attempt))
        if not math.isfinite(value):
            attempt.pruned = attempt.pruned or "diverged"
    except (InputError, ConfigError) as error:
        attempt.pruned = attempt.pruned or str(error)
    except BaseException:
        study.tell(trial, state=TrialState.FAIL)
        raise
    trial.set_user_attr(_FACTS, attempt.facts)
    if attempt.pruned:
        trial.set_user_attr(_REASON, attempt.pruned)
        return study.tell(trial, state=TrialState.PRUNED)
    return study.tell(trial, value)


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _tried(trial: FrozenTrial, number: int) -> Tried:
    return Tried(
        number=number,
        params=dict(trial.params),
        value=trial.value if trial.state is TrialState.COMPLETE else None,
        reason=trial.user_attrs.get(_REASON, ""),
        seconds=trial.duration.total_seconds() if trial.duration else 0.0,
        so_far=dict(trial.intermediate_values),
        facts=trial.user_attrs.get(_FACTS, {}),
    )


def _summary(study: optuna.Study, name: str, metric: str, direction: Direction, space: Space) -> Study:
    trials = [_tried(trial, number) for number, trial in enumerate(_finished(study), 1)]
    values = {t.value for t in trials if t.value is not None}
    return Study(
        name=name,
        metric=metric,
        direction=direction,
        logarithmic=[key for key, value in space.items() if getattr(value, "log", False)],
        trials=trials,
        # Of one value there is nothing to explain, and optuna then gives every setting the same share.
        importance=optuna.importance.get_param_importances(study) if len(values) > 1 else {},
    )


def _refuse_another(study: optuna.Study, identity: Mapping[str, str], folder: Path) -> None:
    there = study.user_attrs.get(_IDENTITY)
    if there is None:
        study.set_user_attr(_IDENTITY, dict(identity))
        return
    for key in {**there, **identity}:
        if there.get(key) != identity.get(key):
            raise ConfigError(
                f"{folder}: holds a search with another {key}: {_shown(there.get(key))} there, "
                f"{_shown(identity.get(key))} here; use another folder"
            )


def _shown(text: str | None) -> str:
    if text is None:
        return "none"
    try:
        attributes = json.loads(text)["attributes"]
    except (ValueError, TypeError, KeyError):
        return text if len(text) <= 24 else f"{text[:12]}..."
    return ", ".join(f"{key} {value}" for key, value in attributes.items() if value not in (None, False))


@contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """The folder, for this process alone: a second one would take the first one's trial for a lost one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"{folder}: another process searches in it") from error
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _opened(path: Path, name: str, direction: Direction) -> Iterator[optuna.Study]:
    """The study in a file. Through a connection of its own, as an address would read signs in the path."""
    try:
        storage = optuna.storages.RDBStorage(
            "sqlite://", engine_kwargs={"creator": lambda: sqlite3.connect(path)}
        )
        study = optuna.create_study(
            storage=storage,
            study_name="search",
            direction=direction,
            pruner=optuna.pruners.MedianPruner(
                n_startup_trials=4, n_warmup_steps=_FIRST_RUNG, n_min_trials=3
            ),
            load_if_exists=True,
        )
    except (SQLAlchemyError, sqlite3.Error, RuntimeError) as error:
        raise InputError(f"{path}: is not a study that this version of optuna reads: {error}") from error
    try:
        yield study
    finally:
        storage.remove_session()
        storage.engine.dispose()
