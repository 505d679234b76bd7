"""A window that slides forward over the bytes of a file or pipe, unzipped where they are gzip."""

import os
import stat
from collections.abc import Iterator
from io import FileIO
from itertools import chain
from pathlib import Path

from ecustream.capture.gunzip import GZIP_MAGIC, GzipDamageError, gunzip
from ecustream.errors import InputError

__all__ = ["Window"]

PIECE = 1 << 20
COMPRESSED_PIECE = 1 << 16


class Window:
    """A forward-only view of a capture: the parser looks at `data` and says how far it got.

    Attributes:
        path: the file.
        data: the bytes at hand.
        offset: position of `data[0]` in the (unzipped) file.
        unit: what `offset` counts, `byte` or `unzipped byte`.
        total_bytes: size on disk, None where it is not a regular file.
        bytes_read: bytes taken from the disk or pipe so far.
        fault: why the bytes ended before their time, as a ledger reason and a clause; None at a clean end.

    Raises:
        InputError: the file cannot be opened or is empty.
    """

    def __init__(self, path: Path) -> None:
        try:
            # FileIO is unbuffered, so that a pipe hands over what is there and does not wait for more.
            self._file = FileIO(path, "rb")
        except OSError as error:
            raise InputError(f"{path}: cannot be opened: {error.strerror}") from error
        status = os.fstat(self._file.fileno())
        self.path = path
        self.total_bytes = status.st_size if stat.S_ISREG(status.st_mode) else None
        self.bytes_read = 0
        self.fault: tuple[str, str] | None = None
        self.data = b""
        self.offset = 0
        self.unit = "byte"
        self._pieces = self._disk(COMPRESSED_PIECE)
        self.advance(0, len(GZIP_MAGIC))
        if self.data.startswith(GZIP_MAGIC):
            self._pieces = gunzip(chain([self.data], self._disk(COMPRESSED_PIECE)))
            self.data = b""
            self.unit = "unzipped byte"
        else:
            self._pieces = self._disk(PIECE)

    def _disk(self, size: int) -> Iterator[bytes]:
        while piece := self._file.read(size):
            self.bytes_read += len(piece)
            yield piece

    def advance(self, used: int, want: int) -> bool:
        """Drop the first `used` bytes, then read on until `want` bytes are at hand.

        Memory follows what the file really holds, never `want` alone.

        Returns:
            Whether `want` bytes are at hand; False means that the file ends before.
        """
        pieces = [self.data[used:]]
        have = len(pieces[0])
        self.offset += used
        try:
            while have < want and (piece := next(self._pieces, b"")):
                pieces.append(piece)
                have += len(piece)
        except GzipDamageError as damage:
            self.fault = (damage.reason, damage.clause)
        except OSError as error:
            self.fault = ("read_error", f"the file cannot be read on: {error.strerror}")
        self.data = b"".join(pieces)
        return have >= want

    def close(self) -> None:
        """Close the file."""
        self._file.close()
