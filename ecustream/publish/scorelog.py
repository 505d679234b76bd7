"""The score of every line as CSV or JSON lines, for `--score-log`."""

import csv
import gzip
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ecustream.publish.eventlog import open_for_writing
from ecustream.scores import FIELDS, ScoreBlock

__all__ = ["COLUMNS", "ScoreLog"]

COLUMNS = ("number", "time_ns", "pduName", "perplexity", *(f"{field}_nats" for field in FIELDS), "warming")
"""`FIELD_nats` is the surprisal of that field, empty (JSON: null) where the line had no token of it."""

BUFFER_BYTES = 1 << 18
_DIGITS = 7
_LOW, _HIGH = 1e-15, 1e22
"""Between them the powers of ten that rounding takes are exact."""


class ScoreLog:
    """Writes one row a line: CSV where the name ends in `.csv`, else JSON lines; compressed with `.gz`.

    Numbers have seven significant digits. Rows are buffered; a write error (disk full) ends the log and
    not the run, rows from then on are counted in `failed`, and `problem` tells at the end.

    Args:
        path: a file, which is replaced.

    Raises:
        OutputError: the file cannot be opened for writing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.rows = 0
        self.failed = 0
        self._why: str | None = None
        name = self.path.name.lower()
        self._csv = name.removesuffix(".gz").endswith(".csv")
        self._buffer = io.BufferedWriter(open_for_writing(path), BUFFER_BYTES)
        self._file: io.BufferedWriter[io.FileIO] | gzip.GzipFile = self._buffer
        if name.endswith(".gz"):
            # No name and no time inside, so that equal scores give equal files.
            self._file = gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=self._buffer, mtime=0)
        if self._csv:
            self._put((",".join(COLUMNS) + "\n").encode(), rows=0)

    def write(self, scores: ScoreBlock) -> None:
        """Writes the rows of a chunk of lines."""
        if self._csv:
            text = io.StringIO()
            rows = csv.writer(text, lineterminator="\n")
            rows.writerows(_rows(scores, scores.warming.astype(np.int64).tolist()))
            data = text.getvalue().encode()
        else:
            data = msgspec.json.Encoder().encode_lines(
                [dict(zip(COLUMNS, row, strict=True)) for row in _rows(scores, scores.warming.tolist())]
            )
        self._put(data, rows=len(scores.lines))

    def problem(self) -> str | None:
        """One sentence about rows that could not be written, or None; complete after `close`."""
        if self._why is None:
            return None
        rows = f", {self.failed} or more rows are missing" if self.failed else ""
        return f"{self.path}: cannot be written to its end{rows}: {self._why}"

    def close(self) -> None:
        """Writes what is buffered and closes the file."""
        for file in (self._file, self._buffer):
            try:
                file.close()
            except OSError as error:
                self._why = self._why or error.strerror or str(error)

    def _put(self, data: bytes, rows: int) -> None:
        if self._why is None:
            try:
                self._file.write(data)
                self.rows += rows
                return
            except OSError as error:
                self._why = error.strerror or str(error)
        self.failed += rows


def _rows(scores: ScoreBlock, warming: list[Any]) -> Iterator[tuple[Any, ...]]:
    with np.errstate(invalid="ignore"):  # a line without a token has no perplexity
        perplexity = scores.perplexity()
    lines = scores.lines
    return zip(
        [line.number for line in lines],
        [line.time_ns for line in lines],
        [line.stream.name for line in lines],
        _digits(perplexity),
        *map(_digits, scores.field_nats.T),
        warming,
        strict=True,
    )


def _digits(values: npt.NDArray[np.floating]) -> list[float | None]:
    """The values with seven significant digits; None for those that are not finite."""
    values = values.astype(np.float64)
    size = np.abs(values)
    usual = (size > _LOW) & (size < _HIGH)
    magnitude = np.floor(np.log10(size, out=np.zeros_like(size), where=usual))
    # A whole number below 1e7 over an exact power of ten, or times one, is the float nearest to its decimal.
    up = 10.0 ** np.maximum(_DIGITS - 1 - magnitude, 0)
    down = 10.0 ** np.maximum(magnitude - _DIGITS + 1, 0)
    told: list[float | None] = np.where(usual, np.rint(values * up / down) * down / up, values).tolist()
    for i in np.flatnonzero(~usual & (values != 0)).tolist():
        value = float(values[i])
        told[i] = float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return told
