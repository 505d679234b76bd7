"""Events as JSON lines in a file or on standard output, the same objects as on the socket."""

import errno
import fcntl
import io
import os
import sys
from pathlib import Path
from typing import BinaryIO

from ecustream.errors import OutputError
from ecustream.events import Event
from ecustream.publish.messages import encode

__all__ = ["EventLog", "open_for_writing"]

_EVENT_BEGINS = b'{"schema":"ecustream.event/'
_LONGEST_EVENT_BYTES = 1 << 20


class EventLog:
    """Writes each event as one line at once, so that a reader and a crash find whole lines only.

    But for the last: where SIGKILL comes in the middle of a write, the kernel ends it between two pages.

    A write error in mid-run (disk full) does not end the run: the event is counted in `failed`, a half
    written line is taken back, and the next event is tried again. `trouble` tells while it lasts, `problem`
    at the end.

    Args:
        path: a file, or `-` for standard output.
        append: whether to go on at the end of a file instead of replacing it; an event that a crash has left
            there half written is cut off. A file with anything but events is refused then.

    Raises:
        OutputError: the file cannot be opened for writing, or another log writes to it.
    """

    def __init__(self, path: str | Path, *, append: bool = False) -> None:
        self.name = "standard output" if str(path) == "-" else str(path)
        self.written = 0
        self.failed = 0
        self._why = ""
        self._failing = False
        self._good_bytes = 0
        self._torn = False
        self._closes = str(path) != "-"
        if not self._closes:
            self._file = _standard_output()
        elif Path(path).exists() and not Path(path).is_file():
            self._file = open_for_writing(path)  # a pipe
        else:
            self._file = _open_own(Path(path), append=append)
            self._good_bytes = self._file.tell()

    def write(self, event: Event) -> bool:
        """Writes one event; returns whether its whole line was written."""
        line = encode(event) + b"\n"
        try:
            self._write_all(b"\n" + line if self._torn else line)
        except (OSError, ValueError) as error:  # ValueError: somebody closed standard output
            self.failed += 1
            self._failing = True
            self._why = getattr(error, "strerror", None) or str(error)
            self._take_back()
            return False
        self.written += 1
        self._failing = False
        return True

    @property
    def trouble(self) -> str | None:
        """One sentence while the last event could not be written, None as soon as one was written again."""
        if not self._failing:
            return None
        return f"{self.name}: events cannot be written: {self._why}; {self.failed:,} are missing so far"

    def problem(self) -> str | None:
        """One sentence about events that could not be written, or None."""
        if not self.failed:
            return None
        total = self.written + self.failed
        return f"{self.name}: {self.failed} of {total} events could not be written: {self._why}"

    def close(self) -> None:
        """Closes the file; every line is already written."""
        if self._closes:
            self._file.close()

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            count = self._file.write(rest)
            if not count:
                raise BlockingIOError(errno.EAGAIN, "it takes no more data")
            self._torn = True
            rest = rest[count:]
        self._file.flush()
        self._torn = False
        self._good_bytes += len(data)

    def _take_back(self) -> None:
        """Cuts a half written line off; where that cannot be (a pipe), the next line starts afresh."""
        if self._torn and self._closes:
            try:
                self._file.truncate(self._good_bytes)
                self._file.seek(self._good_bytes)
                self._torn = False
            except OSError:
                pass


def open_for_writing(path: str | Path) -> io.FileIO:
    """A new or emptied file without a buffer.

    Raises:
        OutputError: with the path and the reason.
    """
    try:
        return open(path, "wb", buffering=0)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error


def _open_own(path: Path, *, append: bool) -> io.FileIO:
    """A file that nobody else writes to: emptied, or at its end and without an event that is half written.

    Raises:
        OutputError: with the path and the reason.
    """
    try:
        file = open(path, "ab+", buffering=0)  # noqa: SIM115 - the log closes it
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        _lock(file, path)
        if not append:
            file.truncate(0)
        _cut_torn_end(file, path)
    except OSError as error:
        file.close()
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
    except OutputError:
        file.close()
        raise
    return file


def _lock(file: io.FileIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(f"{path}: another ecustream writes to it; give --events another file") from None


def _cut_torn_end(file: io.FileIO, path: Path) -> None:
    file.seek(0)
    begins = file.read(len(_EVENT_BEGINS)) or b""
    if not _EVENT_BEGINS.startswith(begins):
        raise OutputError(f"{path}: is there and holds no events; give --events another file")
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _LONGEST_EVENT_BYTES))
    rest = (file.read() or b"").rpartition(b"\n")[2]
    file.truncate(size - len(rest))
    file.seek(0, io.SEEK_END)


def _standard_output() -> BinaryIO:
    """Standard output without a buffer: one that keeps unsent data would complain at exit (`| head`)."""
    sys.stdout.flush()
    try:
        return os.fdopen(sys.stdout.fileno(), "wb", buffering=0, closefd=False)
    except io.UnsupportedOperation:  # a test or a notebook stands in for it
        return sys.stdout.buffer
