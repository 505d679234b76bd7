"""CURVE keys in files: a key of 40 characters (Z85) a line, after which a name may follow."""

import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

import zmq

from ecustream.errors import ConfigError, OutputError

__all__ = ["KeyPair", "make_pair", "read_allowed", "read_public", "read_secret"]

PUBLIC = ".public"
SECRET = ".secret"
# Far above any list of readers; keeps a trace given by mistake from being read.
MAX_FILE_BYTES = 1_000_000


class KeyPair(NamedTuple):
    """Both keys as 40 characters of Z85."""

    public: bytes
    secret: bytes


def make_pair(name: str, folder: Path) -> tuple[Path, Path]:
    """Writes a new pair as `NAME.secret`, which only its owner may read, and `NAME.public`.

    Raises:
        ConfigError: `name` cannot be part of a file name.
        OutputError: a file of that name exists, or cannot be written.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise ConfigError(f'"{name}" is no name for keys; use letters, digits and "_", ".", "-"')
    public, secret = zmq.curve_keypair()
    paths = folder / f"{name}{SECRET}", folder / f"{name}{PUBLIC}"
    for path in paths:
        if path.exists():
            raise OutputError(f"{path}: exists already; delete it first if nobody uses it any more")
    _write(paths[0], f"{secret.decode()}\n", 0o600)
    _write(paths[1], f"{public.decode()} {name}\n", 0o644)
    return paths


def read_secret(path: str | Path) -> KeyPair:
    """The secret key in a file and the public key that belongs to it.

    Raises:
        ConfigError: there is no such key, or others than its owner may read it.
    """
    path = Path(path)
    keys = _read(path, "secret")
    if len(keys) != 1:
        raise ConfigError(f"{path}: must hold one secret key, but holds {len(keys)}")
    # The service manager gives credentials to one user alone, by an access list that looks like a group.
    managed = os.environ.get("CREDENTIALS_DIRECTORY")
    if stat.S_IMODE(path.stat().st_mode) & 0o077 and not (managed and path.is_relative_to(managed)):
        raise ConfigError(f"{path}: others may read or change this secret key; run chmod 600 {path}")
    return KeyPair(zmq.curve_public(keys[0]), keys[0])


def read_public(path: str | Path) -> bytes:
    """The one public key in a file.

    Raises:
        ConfigError: there is no such key.
    """
    keys = _read(Path(path), "public")
    if len(keys) != 1:
        raise ConfigError(f"{path}: must hold one public key, but holds {len(keys)}")
    return keys[0]


def read_allowed(path: str | Path) -> frozenset[bytes]:
    """The public keys in a file, one a line, or in all files `*.public` of a folder.

    Raises:
        ConfigError: there is none, or one is malformed.
    """
    path = Path(path)
    files = sorted(path.glob(f"*{PUBLIC}")) if path.is_dir() else [path]
    keys = frozenset(key for file in files for key in _read(file, "public"))
    if not keys:
        what = f"no file *{PUBLIC}" if path.is_dir() else "no public key"
        raise ConfigError(f"{path}: there is {what}, so nobody could connect")
    return keys


def _read(path: Path, what: str) -> list[bytes]:
    """The keys of a file; says never what a malformed line holds, which may be a secret."""
    if path.suffix == {"public": SECRET, "secret": PUBLIC}[what]:
        raise ConfigError(f"{path}: is the other key of the pair by its name; here belongs the {what} one")
    try:
        with path.open("rb") as file:
            lines = file.read(MAX_FILE_BYTES).splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: the {what} key cannot be read: {error.strerror}") from error
    keys = []
    for number, line in enumerate(lines, 1):
        words = line.split(maxsplit=1)
        if words and not re.fullmatch(rb"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}", words[0]):
            raise ConfigError(
                f"{path}: line {number} does not begin with a {what} key (40 characters of Z85); "
                "`ecustream keys new` makes them"
            )
        keys += words[:1]
    return keys


def _write(path: Path, text: str, mode: int) -> None:
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "w") as file:
            file.write(text)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
