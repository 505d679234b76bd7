"""True labels of a trace: intervals in capture time, as JSON lines."""

from pathlib import Path

import msgspec

from ecustream.errors import InputError

__all__ = ["Label", "read_labels"]


class Label(msgspec.Struct, frozen=True):
    """One fault: from when to when, of what kind, in which PDUs (none named: several)."""

    start_ns: int
    end_ns: int
    kind: str
    pdus: list[str] = []
    severity: float | None = None


def read_labels(path: Path) -> list[Label]:
    """Read a label file, sorted by start.

    Raises:
        InputError: it cannot be read; the sentence names the line.
    """
    labels = []
    try:
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if line.strip():
                label = msgspec.json.decode(line, type=Label)
                if label.end_ns < label.start_ns:
                    raise InputError(f"{path}, line {number}: the label ends before it starts")
                labels.append(label)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}, line {number}: {error}") from None
    return sorted(labels, key=lambda label: label.start_ns)
