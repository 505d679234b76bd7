"""What is true of a trace: its faults and what else happened, intervals in capture time, as JSON lines."""

from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from ecustream.errors import InputError

__all__ = ["Context", "Label", "beside", "encode", "read_context", "read_labels"]

Time = Annotated[int, Meta(ge=0, le=9_000_000_000_000_000_000)]
"""Nanoseconds since 1970, to the year 2255: what lies beyond does not fit into 64 bits with what is added."""


class Label(msgspec.Struct, frozen=True):
    """One fault.

    Attributes:
        start_ns: when the traffic began to be wrong: the first message concerned came, or should have come.
        end_ns: when it was right again, nanoseconds since 1970 both.
        kind: what went wrong, for instance `delay`.
        pdus: names of the PDUs concerned; none: several.
        severity: 1 hardly visible, 2 slight, 3 clear, 4 gross: comparable between kinds.
        category: `delay`, `eliminate`, `inject`, `manipulate` or `reorder`, the taxonomy of the SecVI data
            set of HAW Hamburg (arXiv 2405.01324).
        size: how much, in `unit`.
        unit: for instance `cycles`, `messages`, `s`, `percent`.
        activity: activity state at its start.
    """

    start_ns: Time
    end_ns: Time
    kind: str
    pdus: list[str] = []
    severity: float | None = None
    category: str | None = None
    size: float | None = None
    unit: str | None = None
    activity: int | None = None


class Context(msgspec.Struct, frozen=True):
    """Something that happened and is no fault of the communication.

    Attributes:
        start_ns: when it began.
        end_ns: when it ended, nanoseconds since 1970 both.
        kind: `activity` (the vehicle's activity state), `mode` (something was active, for instance lane
            keeping) or `control` (looks like a fault but must not be reported, such as a frozen payload).
        name: the activity state in words, the mode, or the kind of control.
        state: the activity state's code; None for other kinds.
        pdus: names of the PDUs concerned; none: all or several.
        size: how much, in `unit`.
        unit: for instance `s` or `ms`.
    """

    start_ns: Time
    end_ns: Time
    kind: str
    name: str
    state: int | None = None
    pdus: list[str] = []
    size: float | None = None
    unit: str | None = None


Row = TypeVar("Row", Label, Context)


def beside(trace: Path, what: str) -> Path:
    """The file that says something of a trace: X.labels.jsonl of X.pcapng.gz for "labels"."""
    return trace.with_name(f"{trace.name.split('.', 1)[0]}.{what}.jsonl")


def encode(row: Label | Context) -> bytes:
    """A row as a line of its file; what is not known (None) is left out."""
    known: dict[str, Any] = {
        key: value for key, value in msgspec.structs.asdict(row).items() if value is not None
    }
    return msgspec.json.encode(known) + b"\n"


def read_labels(path: Path) -> list[Label]:
    """Read a label file, sorted by start.

    Raises:
        InputError: it cannot be read; the sentence names the line.
    """
    return _read(path, Label)


def read_context(path: Path) -> list[Context]:
    """Read a context file, sorted by start.

    Raises:
        InputError: it cannot be read; the sentence names the line.
    """
    return _read(path, Context)


def _read(path: Path, row_type: type[Row]) -> list[Row]:
    rows: list[Row] = []
    number = 0
    try:
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if line.strip():
                row = msgspec.json.decode(line, type=row_type)
                if row.end_ns < row.start_ns:
                    raise InputError(f"{path}, line {number}: the label ends before it starts")
                rows.append(row)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}, line {number}: {error}") from None
    return sorted(rows, key=lambda row: row.start_ns)
