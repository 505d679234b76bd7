"""Finds out whether addresses are free and folders can be written, and leaves both as they are."""

import fcntl
import os
import socket as posix
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

import zmq

from ecustream.config import PublishConfig
from ecustream.errors import EcustreamError
from ecustream.publish.bind import bind

__all__ = ["FolderFacts", "address_trouble", "read_folder"]

_PROBE_BYTES = 1 << 16


@dataclass(frozen=True)
class FolderFacts:
    """A folder that is to be written to.

    Attributes:
        folder: the folder.
        trouble: why it cannot be used, a clause; None where it can.
        exists: whether it is there; else it will be made.
        used: bytes of the files in it.
        free: bytes that are left where it is.
    """

    folder: Path
    trouble: str | None
    exists: bool = True
    used: int = 0
    free: int = 0


def address_trouble(url: str, option: str, publish: PublishConfig) -> str | None:
    """Why a socket cannot be bound to this address, a sentence; None where it can."""
    if url.startswith("ipc://") and not url.startswith("ipc://@"):
        # Binding would leave files behind, which the service's own user could then not replace.
        return _path_trouble(Path(url.removeprefix("ipc://")), url)
    allowed = publish.allow_remote or publish.curve_secret is not None
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        with context.socket(zmq.PUB) as socket:
            socket.linger = 0
            bind(socket, url, option, allow_remote=allowed, group=publish.group)
    except EcustreamError as error:
        return str(error)
    finally:
        context.term()
    return None


def read_folder(folder: Path) -> FolderFacts:
    """What there is to know about a folder of a journal; nothing is left in it."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    exists = place == folder
    if not place.is_dir():
        return FolderFacts(folder, f"{place} is no folder", exists)
    try:
        told = os.statvfs(place)
        free = told.f_bavail * told.f_frsize
        used = sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) if exists else 0
        if exists:
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(bytes(_PROBE_BYTES))
                probe.flush()
        elif not os.access(place, os.W_OK | os.X_OK, effective_ids=True):
            return FolderFacts(
                folder, f"it cannot be made in {place}: there is no right to write there", exists
            )
        taken = exists and _is_locked(folder / "lock")
    except OSError as error:
        return FolderFacts(folder, f"it cannot be used: {error.strerror}", exists)
    trouble = "another ecustream writes to it" if taken else None
    return FolderFacts(folder, trouble, exists, used, free)


def _path_trouble(path: Path, url: str) -> str | None:
    folder = path.parent
    if not folder.is_dir():
        return f"{url} cannot be bound: there is no folder {folder}"
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        return f"{url} cannot be bound: there is no right to write to {folder}"
    try:
        if _is_locked(Path(f"{path}.lock")):
            return f"{url} is in use; is another ecustream running?"
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{url} cannot be bound: {error.filename}: {error.strerror}"
    if not stat.S_ISSOCK(mode):
        return f"{url} cannot be bound: there is a file of that name which is not a socket"
    with posix.socket(posix.AF_UNIX, posix.SOCK_STREAM) as probe:
        if probe.connect_ex(str(path)) == 0:
            return f"{url} is in use; is another program listening there?"
    return None


def _is_locked(path: Path) -> bool:
    """Whether another process holds the lock; a file that is not there is not made.

    Raises:
        OSError: it cannot be opened as its owner opens it.
    """
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
