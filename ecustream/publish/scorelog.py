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

from ecustream.publish.eventlog import open_for_writing
from ecustream.scores import FIELDS, ScoreBlock

__all__ = ["COLUMNS", "ScoreLog"]

COLUMNS = ("number", "time_ns", "pduName", "perplexity", *(f"{field}_nats" for field in FIELDS), "warming")
"""`FIELD_nats` is the surprisal of that field, empty (JSON: null) where the line had no token of it."""

BUFFER_BYTES = 1 << 18


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
            rows.writerows((*row[:-1], int(row[-1])) for row in _rows(scores))
            data = text.getvalue().encode()
        else:
            data = msgspec.json.Encoder().encode_lines(
                [dict(zip(COLUMNS, row, strict=True)) for row in _rows(scores)]
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


def _rows(scores: ScoreBlock) -> Iterator[tuple[Any, ...]]:
    with np.errstate(invalid="ignore"):  # a line without a token has no perplexity
        perplexity = scores.perplexity().tolist()
    for line, value, nats, warming in zip(
        scores.lines, perplexity, scores.field_nats.tolist(), scores.warming.tolist(), strict=True
    ):
        yield line.number, line.time_ns, line.stream.name, _digits(value), *map(_digits, nats), warming


def _digits(value: float) -> float | None:
    return float(f"{value:.7g}") if math.isfinite(value) else None
