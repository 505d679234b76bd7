"""Reads traces as CSV in the paper's columns, one line of the log a row.

The columns are `timestamp,pduName,source,sourceIp,sourcePort,destIp,destPort,activityState,deltaTime`,
found by their names in the first row: in any order, in any case, spaces ignored, `sourcelp` taken for
`sourceIp`. The delimiter is a comma, a semicolon or a tab. Timestamps are microseconds unless the name
of the column ends in `_ns`, `_us`, `_ms` or `_s`. `activityState` is a code or a name of
`ecustream.traffic.ACTIVITY_STATES`; without that column it is normal operation. Other columns, such as
`anomaly`, are ignored. So is `deltaTime`: it is computed anew from the timestamps, because what the
exporter took for "the same PDU" need not be the key of this run, its rounding is unknown, and a trace
cut from a longer one would begin with deltas to lines that are not there.
"""

import gzip
import zlib
from collections.abc import Iterator
from operator import itemgetter
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

from ecustream.decode.csv_rows import (
    STATE_CODES,
    UNITS_NS,
    BadRowError,
    Layout,
    read_address,
    read_columns,
    read_header,
    read_port,
    read_row,
    read_time,
    split_row,
)
from ecustream.decode.streams import MAX_STREAMS, Clock, Streams
from ecustream.errors import ConfigError, InputError
from ecustream.ledger import Ledger
from ecustream.traffic import STATE_NORMAL, Line, Stream

__all__ = ["CsvTrace", "is_csv_trace", "read_csv_lines"]

BATCH = 2048
MAX_SENTENCES = 20
CSV_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_GZIP_MAGIC = b"\x1f\x8b"


class CsvTrace:
    """The lines of a CSV trace in batches (`for lines in trace`), once, with flat memory.

    Each row is a PDU of the ledger that ends as `lines`, and whose line is entered, or as
    `unreadable{bad_row}`; reading goes on after a bad row. Where the file breaks off (a cut gzip), the rest
    counts as one `unreadable{truncated_file}`. Lines have frame number 0.

    Attributes:
        damage: a sentence with the line number for each of the first bad rows.
        total_bytes: size of the file on disk.
    """

    def __init__(self, path: str, file: BinaryIO, rows: BinaryIO, layout: Layout, ledger: Ledger, key: str):
        self._path = path
        self._file = file
        self._rows = rows
        self._layout = layout
        self._ledger = ledger
        self._streams = Streams(key)
        self._slots: dict[tuple[str, ...], tuple[Stream, Clock]] = {}
        self._addresses = itemgetter(*layout.addresses)
        self._count = 0
        self.damage: list[str] = []
        self.total_bytes = Path(path).stat().st_size
        self._batches = self._read()

    @property
    def bytes_read(self) -> int:
        """How far the file on disk was read (inside gzip: in compressed bytes), for a progress bar."""
        return self.total_bytes if self._file.closed else min(self._file.tell(), self.total_bytes)

    def __iter__(self) -> Iterator[list[Line]]:
        return self._batches

    def close(self) -> None:
        """Close the file."""
        self._rows.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> Iterator[list[Line]]:
        batch: list[Line] = []
        number = 1
        while True:
            try:
                row = read_row(self._rows)
            except (OSError, EOFError, zlib.error) as error:
                self._bad(number + 1, f"the file breaks off here: {error}", "truncated_file")
                break
            if not row:
                break
            number += 1
            if row.isspace():
                continue
            try:
                batch.append(self._line(row))
            except BadRowError as error:
                self._bad(number, str(error), "bad_row")
            if len(batch) >= BATCH:
                yield self._settle(batch)
                batch = []
        if batch:
            yield self._settle(batch)

    def _settle(self, batch: list[Line]) -> list[Line]:
        self._ledger.enter("pdus", len(batch))
        self._ledger.end("pdus", "lines", len(batch))
        self._ledger.enter("lines", len(batch))
        return batch

    def _bad(self, number: int, why: str, reason: str) -> None:
        self._ledger.enter("pdus")
        self._ledger.end("pdus", "unreadable", reason=reason)
        if len(self.damage) < MAX_SENTENCES:
            self.damage.append(f"{self._path}: line {number}: {why}")
        elif len(self.damage) == MAX_SENTENCES:
            self.damage.append(f"{self._path}: more damage follows, which is only counted")

    def _line(self, row: bytes) -> Line:
        layout = self._layout
        cells = split_row(row, layout.delimiter)
        if len(cells) != layout.cells:
            raise BadRowError(f"has {len(cells)} cells, the first row has {layout.cells}")
        time_ns = read_time(cells[layout.timestamp], layout)
        state = STATE_NORMAL
        if layout.state is not None:
            text = cells[layout.state].strip().lower()
            if text not in STATE_CODES:
                raise BadRowError(f"activityState {text!r} is none of {', '.join(STATE_CODES)}")
            state = STATE_CODES[text]
        addresses: tuple[str, ...] = self._addresses(cells)
        stream, clock = self._slots.get(addresses) or self._open(addresses)
        delta_ns = None if clock.last_ns is None else time_ns - clock.last_ns
        if delta_ns is not None and delta_ns < 0:
            delta_ns = clock.back(time_ns, self._ledger)
        else:
            clock.last_ns = time_ns
        self._count += 1
        return Line(self._count - 1, 0, time_ns, stream, state, delta_ns)

    def _open(self, addresses: tuple[str, ...]) -> tuple[Stream, Clock]:
        name, source, src, sport, dst, dport = (cell.strip() for cell in addresses)
        if not name:
            raise BadRowError("pduName is empty")
        slot = self._streams.open(
            name,
            source,
            read_address(src),
            read_port(sport, "sourcePort"),
            read_address(dst),
            read_port(dport, "destPort"),
        )
        if slot is None:
            raise BadRowError(f"is of a PDU beyond the {MAX_STREAMS} that are told apart")
        # Rows that differ in spelling only share a stream, so there may be more slots than streams.
        if len(self._slots) >= 2 * MAX_STREAMS:
            self._slots.clear()
        self._slots[addresses] = slot
        return slot


def read_csv_lines(
    path: str | PathLike[str], ledger: Ledger, key: str = "stream", time_unit: str = "us"
) -> CsvTrace:
    """Open a CSV trace, plain or in gzip.

    Args:
        path: the file.
        ledger: where rows are counted.
        key: what "the same PDU" means, see `ecustream.decode.streams`.
        time_unit: `ns`, `us`, `ms` or `s`; what a timestamp column without a unit in its name holds.

    Raises:
        InputError: the file cannot be read or lacks a column; the sentence says which.
        ConfigError: there is no such key or unit.
    """
    if time_unit not in UNITS_NS:
        raise ConfigError(f"time unit {time_unit!r} is none of {', '.join(UNITS_NS)}")
    name = fspath(path)
    try:
        file = cast(BinaryIO, open(name, "rb"))  # noqa: SIM115 - the trace owns and closes it
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from None
    try:
        is_gzip = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        rows = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if is_gzip else file
        layout = read_header(read_row(rows), name, time_unit)
        return CsvTrace(name, file, rows, layout, ledger, key)
    except (OSError, EOFError, zlib.error) as error:
        file.close()
        raise InputError(f"{name}: cannot be read: {error}") from None
    except (InputError, ConfigError):
        file.close()
        raise


def is_csv_trace(path: str | PathLike[str]) -> bool:
    """Whether to read a trace as CSV: its name says so, or its first row has the paper's columns.

    False where the file cannot be read or is not a regular file (a pipe cannot be looked into).
    """
    file = Path(path)
    if not file.is_file():
        return False
    if file.name.lower().endswith(CSV_SUFFIXES):
        return True
    try:
        with file.open("rb") as raw:
            is_gzip = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            row = read_row(cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if is_gzip else raw)
    except (OSError, EOFError, zlib.error):
        return False
    columns, _ = read_columns(row)
    return "timestamp" in columns and "pduname" in columns
