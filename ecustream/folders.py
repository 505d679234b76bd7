"""Folders that are whole or not there: written beside, then renamed into place."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecustream.errors import OutputError

__all__ = ["disk_errors", "written_whole"]


@contextmanager
def disk_errors(path: Path, what: str) -> Iterator[None]:
    """Makes an error of the disk a sentence; for what is written, never for what is read.

    Raises:
        OutputError: for every OSError in the block.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot write {what}: {error.strerror}") from None


@contextmanager
def written_whole(path: Path, what: str) -> Iterator[Path]:
    """A new empty folder that takes the place of `path` at the end of the block.

    Where the block raises, or the place cannot be taken, what was there stays and nothing else does.

    Args:
        path: absolute; a folder there is replaced.
        what: is written, for the sentence.

    Raises:
        OutputError: the folder cannot be made or renamed.
    """
    unique = uuid.uuid4().hex[:8]
    new, old = (path.with_name(f".{path.name}.{kind}-{unique}") for kind in ("new", "old"))
    try:
        with disk_errors(path, what):
            new.mkdir(parents=True)
        yield new
        with disk_errors(path, what):
            _replace(path, new, old)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _replace(path: Path, new: Path, old: Path) -> None:
    """Put `new` in the place of `path`; where that fails the old folder is there again."""
    if not path.exists():
        os.rename(new, path)
        return
    os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(old, path)
        raise
