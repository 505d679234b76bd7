"""Reads the rows and cells of a CSV trace; the columns are described in `ecustream.decode.csv_lines`."""

import csv
from collections.abc import Mapping
from decimal import Decimal
from typing import BinaryIO, NamedTuple

from ecustream.decode.addresses import canonical_address
from ecustream.errors import InputError
from ecustream.traffic import ACTIVITY_STATES

__all__ = [
    "STATE_CODES",
    "UNITS_NS",
    "BadRowError",
    "Layout",
    "read_address",
    "read_columns",
    "read_header",
    "read_port",
    "read_row",
    "read_time",
    "split_row",
]

UNITS_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
STATE_CODES = {str(code): code for code in ACTIVITY_STATES} | {
    text: code for code, text in ACTIVITY_STATES.items()
}
_MAX_ROW = 65_536
_DELIMITERS = ",;\t"
_ADDRESS_COLUMNS = ("pduName", "source", "sourceIp", "sourcePort", "destIp", "destPort")
_MISREAD = {"sourcelp": "sourceip", "destlp": "destip"}
_BOM = b"\xef\xbb\xbf"


class BadRowError(Exception):
    """A row that cannot be a line; the message says why."""


class Layout(NamedTuple):
    """Where the columns are; `addresses` are those from pduName to destPort."""

    delimiter: str
    cells: int
    timestamp: int
    unit_ns: int
    addresses: tuple[int, ...]
    state: int | None


def read_row(rows: BinaryIO) -> bytes:
    """The next row; of a row that is longer than any can be only the beginning, so that it is refused."""
    row = rows.readline(_MAX_ROW)
    rest = row
    while len(rest) == _MAX_ROW and not rest.endswith(b"\n"):
        rest = rows.readline(_MAX_ROW)
    return row


def split_row(row: bytes, delimiter: str) -> list[str]:
    """The cells of a row.

    Raises:
        BadRowError: the row is too long, not UTF-8, or not CSV.
    """
    if len(row) >= _MAX_ROW:
        raise BadRowError(f"is longer than {_MAX_ROW} bytes")
    try:
        text = row.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise BadRowError("is not UTF-8 text") from None
    if '"' not in text:
        return text.split(delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise BadRowError(f"is not CSV: {error}") from None


def read_columns(row: bytes) -> tuple[Mapping[str, int], str]:
    """Column name in lower case (`timestamp` without its unit) to index, and the delimiter."""
    delimiter = max(_DELIMITERS, key=lambda mark: row.count(mark.encode()))
    try:
        cells = split_row(row.removeprefix(_BOM), delimiter)
    except BadRowError:
        return {}, delimiter
    columns = {}
    for index, cell in enumerate(cells):
        name = "".join(cell.split()).lower()
        if name.partition("_")[0] == "timestamp":
            name = "timestamp"
        columns[_MISREAD.get(name, name)] = index
    return columns, delimiter


def read_header(row: bytes, path: str, time_unit: str) -> Layout:
    """The layout that a first row describes.

    Raises:
        InputError: a column is missing, or the timestamp's unit is unknown.
    """
    if not row:
        raise InputError(f"{path}: the file is empty")
    columns, delimiter = read_columns(row)
    for column in ("timestamp", *_ADDRESS_COLUMNS):
        if column.lower() not in columns:
            raise InputError(
                f"{path}: line 1: no column {column!r}; a CSV trace has the columns timestamp,pduName,"
                "source,sourceIp,sourcePort,destIp,destPort,activityState,deltaTime"
            )
    cells = split_row(row.removeprefix(_BOM), delimiter)
    suffix = "".join(cells[columns["timestamp"]].split()).lower().partition("_")[2] or time_unit
    if suffix not in UNITS_NS:
        raise InputError(f"{path}: line 1: the unit {suffix!r} of the timestamp is none of ns, us, ms, s")
    return Layout(
        delimiter,
        len(cells),
        columns["timestamp"],
        UNITS_NS[suffix],
        tuple(columns[column.lower()] for column in _ADDRESS_COLUMNS),
        columns.get("activitystate"),
    )


def read_time(text: str, layout: Layout) -> int:
    """A timestamp cell in nanoseconds, exactly.

    Raises:
        BadRowError: the cell is no time.
    """
    try:
        return _checked(int(text) * layout.unit_ns)
    except ValueError:
        pass
    if layout.delimiter != ",":
        text = text.replace(",", ".")
    try:
        exact = Decimal(text.strip()) * layout.unit_ns
        # Compared before it is made an integer: 1e999999999 would fill the memory.
        return _checked(round(exact) if abs(exact) < 1 << 63 else -1)
    except (ArithmeticError, ValueError):
        raise BadRowError(f"the timestamp {text!r} is no time") from None


def _checked(time_ns: int) -> int:
    if not 0 <= time_ns < 1 << 63:
        raise BadRowError("the timestamp is no time after 1970")
    return time_ns


def read_address(text: str) -> str:
    """Canonical where it is an address, else as it is: some exporters anonymise or write names."""
    try:
        return canonical_address(text)
    except ValueError:
        return text


def read_port(text: str, column: str) -> int:
    """A port cell.

    Raises:
        BadRowError: the cell is no port.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 0xFFFF):
        raise BadRowError(f"{column} {text!r} is no port")
    return int(text)
