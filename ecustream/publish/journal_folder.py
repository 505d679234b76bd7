"""Opens the folder of a journal: takes its lock, reads what is there, cuts a torn end off."""

import calendar
import fcntl
import logging
import os
import re
import time
from pathlib import Path
from typing import NamedTuple

from ecustream.errors import OutputError
from ecustream.publish.journal_index import Index, Segment
from ecustream.publish.journal_records import scan

__all__ = ["Contents", "lock", "read_back", "segment_name"]

LOCK_NAME = "lock"
UTC_FORMAT = "%Y%m%dT%H%M%SZ"
_log = logging.getLogger(__name__)


class Contents(NamedTuple):
    """What was found: the segments, oldest first, and whether the last one can be written on.

    `torn` counts ends that were cut off, `damaged` lines elsewhere that are left out.
    """

    segments: list[Segment]
    writable: bool
    torn: int
    damaged: int


def segment_name(number: int, wall_ns: int) -> str:
    """`events-<number>-<UTC>.jsonl`: the number gives the order even where the clock went back."""
    utc = time.strftime(UTC_FORMAT, time.gmtime(wall_ns // 1_000_000_000))
    return f"events-{number:08d}-{utc}.jsonl"


def lock(folder: Path) -> int:
    """Makes the folder if need be and locks it; the lock lasts until the descriptor is closed.

    Raises:
        OutputError: it is no folder, cannot be written, or another process has it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(f"{folder}: is no folder; --journal takes the folder of the journal") from error
    except OSError as error:
        raise _cannot(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise OutputError(
                f"{folder}: is the journal of another running ecustream; choose another with --journal"
            ) from error
        raise _cannot(folder, error) from error
    return descriptor


def read_back(folder: Path, index: Index) -> Contents:
    """Reads every segment once, line by line, and enters what is whole in `index`.

    Lines that are not whole at the end of the last segment are cut off, since a kill or a power cut leaves
    such; elsewhere they are left out. A segment in which nothing is whole is left as it is.

    Raises:
        OutputError: a segment cannot be read or cut.
    """
    segments = []
    writable = False
    torn = damaged = 0
    try:
        for path in folder.iterdir():
            segment = _segment(path)
            if segment is not None:
                segments.append(segment)
        segments.sort(key=lambda segment: segment.number)
        for segment in segments:
            bad, whole_bytes = _read(segment, index)
            writable = segment is segments[-1] and (whole_bytes > 0 or segment.size_bytes == 0)
            if writable and whole_bytes < segment.size_bytes:
                _cut(segment, whole_bytes)
                torn += 1
            damaged += bad
    except OSError as error:
        raise _cannot(folder, error) from error
    return Contents(segments, writable, torn, damaged)


def _segment(path: Path) -> Segment | None:
    """The segment of that name; None for a file that is none of ours."""
    match = re.fullmatch(r"events-(\d{8,})-(\d{8}T\d{6}Z)\.jsonl", path.name)
    if match is None:
        return None
    try:
        created_ns = calendar.timegm(time.strptime(match[2], UTC_FORMAT)) * 1_000_000_000
    except ValueError:
        return None
    segment = Segment(path, int(match[1]), created_ns)
    found = path.stat()
    segment.size_bytes, segment.written_ns = found.st_size, found.st_mtime_ns
    return segment


def _read(segment: Segment, index: Index) -> tuple[int, int]:
    """Returns how many lines before the last whole one are damaged, and where that one ends."""
    damaged = waiting = whole_bytes = first_bad = 0
    with segment.path.open("rb") as file:
        for found in scan(file, 0, segment.size_bytes):
            if not found.payload:
                first_bad = first_bad if damaged + waiting else found.offset
                waiting += 1
                continue
            damaged, waiting = damaged + waiting, 0
            whole_bytes = found.end
            index.add(segment, found.run, found.seq, found.offset, found.end)
    if whole_bytes < segment.size_bytes and not whole_bytes:
        _log.warning("%s: there is nothing in it that can be read; it is left as it is", segment.path)
    elif damaged:
        _log.warning("%s: %d damaged lines, the first at byte %d", segment.path, damaged, first_bad)
    return damaged, whole_bytes


def _cut(segment: Segment, whole_bytes: int) -> None:
    _log.warning(
        "%s: cut at byte %d, the %d bytes after it are no whole line",
        segment.path,
        whole_bytes,
        segment.size_bytes - whole_bytes,
    )
    os.truncate(segment.path, whole_bytes)
    segment.size_bytes = whole_bytes


def _cannot(folder: Path, error: OSError) -> OutputError:
    name = error.filename if isinstance(error.filename, str) else str(folder)
    return OutputError(f"{name}: the journal cannot use it: {error.strerror}")
