"""Lines as arrays: what the baselines learn from and score."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecustream.traffic import Line

__all__ = ["Bools", "Columns", "Floats", "Ints", "Labelled", "PduNumbers", "joined", "labels_of"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Columns(NamedTuple):
    """Lines in their order, one entry a line.

    Attributes:
        time_ns: capture time, shape (lines,).
        pdu: number of the PDU in a `PduNumbers`, int32, shape (lines,).
        state: activity state, int8, shape (lines,).
    """

    time_ns: Ints
    pdu: npt.NDArray[np.int32]
    state: npt.NDArray[np.int8]

    def part(self, start: int, stop: int) -> "Columns":
        """The lines start:stop."""
        return Columns(self.time_ns[start:stop], self.pdu[start:stop], self.state[start:stop])

    def parts(self, lines: int) -> Iterable["Columns"]:
        """The same lines in parts of at most `lines`."""
        return (self.part(i, i + lines) for i in range(0, len(self.time_ns), lines))


class Labelled(NamedTuple):
    """Lines and which of them an annotator labelled, shape (lines,)."""

    columns: Columns
    labels: Bools


class PduNumbers:
    """Numbers PDU keys in order of first sight; one for all traces of a study.

    Attributes:
        keys: by number.
        names: of each PDU, by number.
        sources: interface or bus of each PDU, by number.
    """

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.names: list[str] = []
        self.sources: list[str] = []
        self._number_of: dict[str, int] = {}

    def columns(self, lines: Sequence[Line]) -> Columns:
        """Lines as columns; keys that are new get the next numbers."""
        keys = [line.stream.key for line in lines]
        if not self._number_of.keys() >= set(keys):
            for line in lines:
                if line.stream.key not in self._number_of:
                    self._number_of[line.stream.key] = len(self.keys)
                    self.keys.append(line.stream.key)
                    self.names.append(line.stream.name)
                    self.sources.append(line.stream.source)
        return Columns(
            np.array([line.time_ns for line in lines], dtype=np.int64),
            np.array([self._number_of[key] for key in keys], dtype=np.int32),
            np.array([line.state for line in lines], dtype=np.int8),
        )


def joined(parts: Sequence[Columns]) -> Columns:
    """Parts that follow each other as one; no parts give no lines."""
    if not parts:
        return Columns(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int8))
    return Columns(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def labels_of(labelled: Sequence[Labelled]) -> Bools:
    """Labels of all pieces one after the other."""
    return np.concatenate([np.zeros(0, np.bool_), *(piece.labels for piece in labelled)])
