"""A folder in which an evaluation is kept trace by trace, so that it can be resumed and added to."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ecustream.errors import InputError, OutputError
from ecustream.folders import disk_errors
from training.evaluation.cases import Case
from training.evaluation.results import TraceResult

__all__ = ["Arrays", "Store"]

_SETTINGS = "evaluation.json"

Arrays = tuple[npt.NDArray[np.int64], Mapping[str, npt.NDArray[np.float32]]]


class Store:
    """Results of traces by name; in memory alone where there is no folder.

    Args:
        folder: made if it is not there; None: nothing is kept.

    Raises:
        OutputError: the folder holds something else.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.results: dict[str, TraceResult] = {}
        self.arrays: dict[str, Arrays] = {}
        if folder is None:
            return
        with disk_errors(folder, "the evaluation"):
            folder.mkdir(parents=True, exist_ok=True)
            foreign = any(folder.iterdir()) and not (folder / _SETTINGS).exists()
        if foreign:
            raise OutputError(f"{folder} holds something else than an evaluation; choose another --resume")

    def settings(self) -> dict[str, Any] | None:
        """What the evaluation was begun with; None where it was not.

        Raises:
            InputError: the file is damaged.
        """
        if self._folder is None or not (self._folder / _SETTINGS).exists():
            return None
        settings: dict[str, Any] = _read(self._folder / _SETTINGS, dict[str, Any])
        return settings

    def begin(self, settings: dict[str, Any]) -> None:
        """Take the results of an evaluation with the same settings, or begin one.

        Raises:
            OutputError: the folder holds one with other settings.
            InputError: a file in it is damaged.
        """
        if self._folder is None:
            return
        before = self.settings()
        if before is None:
            _write(self._folder / _SETTINGS, msgspec.json.encode(settings))
            return
        other = [key for key in settings if before.get(key) != settings[key]]
        if other:
            raise OutputError(
                f"{self._folder} holds an evaluation with another {other[0]}; give the same options, or "
                "another --resume"
            )
        for path in sorted(self._folder.glob("*.trace.json")):
            result = _read(path, TraceResult)
            self.results[result.name] = result

    def has(self, case: Case) -> bool:
        """Whether a trace is done, and it and its labels are still the same."""
        result = self.results.get(case.name)
        return result is not None and (result.sha256, result.truth_sha256) == (case.sha256, case.truth_sha256)

    def add(self, result: TraceResult, arrays: Arrays | None) -> None:
        """Keep a trace that is done.

        Args:
            result: of the trace.
            arrays: its times and scores; None for a clean trace, whose `quiet` episodes say all.

        Raises:
            OutputError: the folder cannot be written.
        """
        self.results[result.name] = result
        if arrays is not None:
            self.arrays[result.name] = arrays
        if self._folder is None:
            return
        if arrays is not None:
            times_ns, columns = arrays
            path = self._folder / f"{result.name}.scores.npz"
            with disk_errors(path, "scores"), path.open("wb") as file:
                np.savez(file, *columns.values(), times_ns=times_ns, names=np.array(list(columns)))
        # Last: a trace is done when this file is there.
        _write(self._folder / f"{result.name}.trace.json", msgspec.json.encode(result))

    def scores(self) -> dict[str, Arrays]:
        """Times and scores of the traces with labels, by name.

        Raises:
            InputError: a file is damaged or gone.
        """
        if self._folder is not None:
            for name, result in self.results.items():
                if name not in self.arrays and not result.quiet:
                    self.arrays[name] = _load(self._folder / f"{name}.scores.npz")
        return self.arrays


def _load(path: Path) -> Arrays:
    try:
        with np.load(path) as data:
            names = data["names"].tolist()
            return data["times_ns"], {name: data[f"arr_{i}"] for i, name in enumerate(names)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: cannot be read: {error}; remove its .trace.json to do the trace again"
        ) from None


def _read(path: Path, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is damaged: {error}; remove it to do that part again") from None


def _write(path: Path, data: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    with disk_errors(path, "the evaluation"):
        new.write_bytes(data)
        new.replace(path)
