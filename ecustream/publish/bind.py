"""Binds a socket to an address that nobody else uses, or says in one sentence why not."""

import errno
import fcntl
import grp
import os
import socket as posix
import stat
from typing import Any

import zmq

from ecustream.addresses import check_bind_url
from ecustream.errors import ConfigError, OutputError

__all__ = ["bind"]

IPC_MODE = 0o660


def bind(
    socket: zmq.Socket[Any], url: str, option: str, *, allow_remote: bool, group: str | None = None
) -> int | None:
    """Binds `socket` to `url`.

    A bind to an ipc path takes the path from whoever listens there, and replaces any file, without an
    error (libzmq unlinks first). So the file `PATH.lock` is locked before, and stays locked as long as
    the returned descriptor is open. Close it only after the context is terminated, because until then
    libzmq may still unlink the path.

    Args:
        socket: a socket that is not bound yet.
        url: `tcp://HOST:PORT` or `ipc://PATH`.
        option: the command line option for another address, named in the sentence.
        allow_remote: whether machines other than this one may connect.
        group: whose members may connect to an ipc path, beside the owner; None for that of the process.

    Returns:
        The descriptor of the lock, or None where the address needs none.

    Raises:
        ConfigError: `url` is no such address, or open to other machines without `allow_remote`, or there is
            no such group.
        OutputError: the address is in use or cannot be bound.
    """
    check_bind_url(url, allow_remote=allow_remote)
    group_id = -1 if group is None else _group_id(group)
    path = url.removeprefix("ipc://") if url.startswith("ipc://") else None
    is_file = path is not None and not path.startswith("@")
    lock = _lock_path(path, url, option) if path is not None and is_file else None
    try:
        socket.ipv6 = "[" in url
        socket.bind(url)
        if path is not None and is_file:
            os.chown(path, -1, group_id)
            os.chmod(path, IPC_MODE)  # else it follows the umask
    except (zmq.ZMQError, OSError) as error:
        if lock is not None:
            os.close(lock)
        if error.errno == errno.EADDRINUSE:
            raise _in_use(url, option) from error
        raise _cannot(url, error.errno) from error
    return lock


def _group_id(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f'publish.group is "{group}", but there is no such group') from None


def _lock_path(path: str, url: str, option: str) -> int:
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _cannot(url, error.errno) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _in_use(url, option) from error
        _check_replaceable(path, url, option)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _check_replaceable(path: str, url: str, option: str) -> None:
    """Only the socket of a process that is gone may be replaced."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OutputError(f"{url} cannot be bound: there is a file of that name which is not a socket")
    with posix.socket(posix.AF_UNIX, posix.SOCK_STREAM) as probe:
        if probe.connect_ex(path) == 0:
            raise _in_use(url, option)


def _in_use(url: str, option: str) -> OutputError:
    return OutputError(
        f"{url} is in use; is another ecustream running? give other addresses with --pub and --reply "
        f"(this is {option}), or --no-publish"
    )


def _cannot(url: str, code: int | None) -> OutputError:
    return OutputError(f"{url} cannot be bound: {os.strerror(code or 0)}")
