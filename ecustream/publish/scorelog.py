"""The score of every line as CSV or JSON lines, for `--score-log`."""

import contextlib
import csv
import errno
import io
import math
import zlib
from collections import deque
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
MOST_WAITING_BYTES = 1 << 22
"""What waits for a disk with room: some seconds of a busy bus."""

_DIGITS = 7
_LOW, _HIGH = 1e-15, 1e22
"""Between them the powers of ten that rounding takes are exact."""


class ScoreLog:
    """Writes one row a line: CSV where the name ends in `.csv`, else JSON lines; compressed with `.gz`.

    Numbers have seven significant digits. Rows are buffered. A write error (disk full) does not end the run:
    what cannot be written waits, up to `MOST_WAITING_BYTES`, rows beyond that are counted in `failed`, and
    each chunk tries again. So also a compressed log is whole once there was room. `trouble` tells while it
    lasts, `problem` at the end.

    Args:
        path: a file, which is replaced.

    Raises:
        OutputError: the file cannot be opened for writing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.rows = 0
        self.failed = 0
        self._why = ""
        self._failing = False
        name = self.path.name.lower()
        self._csv = name.removesuffix(".gz").endswith(".csv")
        # zlib writes no name and no time into the gzip header, so that equal scores give equal files.
        self._gzip = zlib.compressobj(4, wbits=31) if name.endswith(".gz") else None
        self._waiting = bytearray()
        self._chunks: deque[tuple[int, int]] = deque()
        self._written_bytes = self._whole_bytes = 0
        self._file = open_for_writing(path)
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

    @property
    def trouble(self) -> str | None:
        """One sentence while rows cannot be written, None as soon as they can be again."""
        if not self._failing:
            return None
        return f"{self.path}: scores cannot be written: {self._why}; {self.failed:,} rows are missing so far"

    def problem(self) -> str | None:
        """One sentence about rows that could not be written, or None; complete after `close`."""
        if self._failing:
            # A compressor holds rows back, so which of them are in the file only its reader can say.
            count = f"{self.failed}{' or more' if self._gzip is not None else ''} rows are missing"
            return f"{self.path}: cannot be written to its end, {count}: {self._why}"
        if self.failed:
            rows = f"{self.failed} of {self.rows + self.failed} rows"
            return f"{self.path}: {rows} could not be written: {self._why}"
        return None

    def close(self) -> None:
        """Writes what is buffered and closes the file; what cannot be written is cut off between two rows."""
        if self._gzip is not None:
            self._waiting += self._gzip.flush()
            self._chunks.append((self._written_bytes + len(self._waiting), 0))
        self._drain()
        if self._chunks:
            lost = sum(rows for _, rows in self._chunks)
            self.rows -= lost
            self.failed += lost
            if self._gzip is None:
                with contextlib.suppress(OSError):
                    self._file.truncate(self._whole_bytes)
        try:
            self._file.close()
        except OSError as error:
            self._fail(error)

    def _put(self, data: bytes, rows: int) -> None:
        if self._failing:
            self._drain()
        if len(self._waiting) >= MOST_WAITING_BYTES:
            self.failed += rows
            return
        self._waiting += data if self._gzip is None else self._gzip.compress(data)
        self._chunks.append((self._written_bytes + len(self._waiting), rows))
        self.rows += rows
        if len(self._waiting) >= BUFFER_BYTES and not self._failing:
            self._drain()

    def _drain(self) -> None:
        """Writes what waits, as far as that can be."""
        sent = 0
        try:
            with memoryview(self._waiting) as data:
                while sent < len(data):
                    count = self._file.write(data[sent:])
                    if not count:
                        raise BlockingIOError(errno.EAGAIN, "it takes no more data")
                    sent += count
            self._failing = False
        except OSError as error:
            self._fail(error)
        del self._waiting[:sent]
        self._written_bytes += sent
        while self._chunks and self._chunks[0][0] <= self._written_bytes:
            self._whole_bytes = self._chunks.popleft()[0]

    def _fail(self, error: OSError) -> None:
        self._failing = True
        self._why = error.strerror or str(error)


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
