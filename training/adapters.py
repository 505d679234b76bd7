"""A folder of adapters, `<folder>/<software release>/`, each as peft writes it, with where it comes from.

- `adapter_config.json`, `adapter_model.safetensors`: open with `peft.PeftModel.from_pretrained`
- `release.json`: `Release`: whose base model it belongs to, where it comes from, checksums of the others
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from ecustream.errors import ConfigError, InputError, OutputError
from ecustream.folders import disk_errors, written_whole
from training.lora import Lora

__all__ = [
    "ADAPTER_FORMAT",
    "Adapter",
    "Release",
    "check_release",
    "open_adapter",
    "releases",
    "save_adapter",
]

ADAPTER_FORMAT = 1
_CONFIG, _WEIGHTS, _RELEASE = "adapter_config.json", "adapter_model.safetensors", "release.json"
_NAME = re.compile(r"\w([\w.+ -]*[\w+-])?")
_MOST_NAME_BYTES = 100


class Release(msgspec.Struct, kw_only=True):
    """`release.json`.

    Attributes:
        name: of the software release, and of the folder.
        base_sha256: of the base model's `model.safetensors`.
        parent: the release whose adapter this one was continued from; None if it began anew.
        settings: what it was fine-tuned with.
        traces: what it was fine-tuned on, by name and checksum.
        effects: what that did, before and after.
        format: version of the folder's layout.
        sha256: checksums of the files and of this one's contents; filled in by `save_adapter`.
    """

    name: str
    base_sha256: str
    parent: str | None = None
    settings: dict[str, Any] = {}
    traces: list[dict[str, Any]] = []
    effects: dict[str, Any] = {}
    format: int = ADAPTER_FORMAT
    sha256: dict[str, str] = {}


class Adapter(NamedTuple):
    """An adapter as read from disk, its checksums verified."""

    path: Path
    release: Release
    lora: Lora


def check_release(folder: Path, name: str, parent: str | None) -> None:
    """Refuse what `save_adapter` would, before there is an adapter to save.

    Args:
        folder: of all adapters.
        name: of the release.
        parent: the release that it is continued from, if any.

    Raises:
        ConfigError: the release's name cannot be a folder's, or the release is its own parent.
        OutputError: something that is no adapter is in its place, or it cannot be told.
    """
    path = _path(folder, name)
    if parent == name:
        raise ConfigError(f"the release {name!r} cannot be continued from itself; give it another name")
    with disk_errors(path, "the adapter"):
        place = folder if folder.exists() and not folder.is_dir() else path
        foreign = place.exists() and not (place / _RELEASE).is_file()
    if foreign:
        raise OutputError(f"{place} exists and is not an adapter; choose another folder or release")


def save_adapter(folder: Path, release: Release, lora: Lora) -> Path:
    """Write an adapter whole and then rename it into place; an older one of the release is replaced.

    Args:
        folder: of all adapters; made if it is not there.
        release: its checksums are filled in here.
        lora: the adapter.

    Returns:
        The adapter's own folder.

    Raises:
        ConfigError: the release's name cannot be a folder's, or the release is its own parent.
        OutputError: the folder cannot be written, or something that is no adapter is in its place.
    """
    check_release(folder, release.name, release.parent)
    path = _path(folder, release.name).absolute()
    files = {
        _CONFIG: json.dumps(lora.config, indent=1, sort_keys=True).encode() + b"\n",
        _WEIGHTS: save_safetensors({k: v.contiguous() for k, v in lora.weights.items()}, {"format": "pt"}),
    }
    release.sha256 = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    release.sha256[_RELEASE] = _digest(release)
    files[_RELEASE] = msgspec.json.format(msgspec.json.encode(release), indent=1) + b"\n"
    with written_whole(path, "the adapter") as new, disk_errors(path, "the adapter"):
        for name, data in files.items():
            (new / name).write_bytes(data)
    return path


def open_adapter(folder: Path, name: str, base_sha256: str) -> Adapter:
    """Read a release's adapter and verify its checksums.

    Args:
        folder: of all adapters.
        name: of the release.
        base_sha256: of the `model.safetensors` that it is to be used with.

    Raises:
        ConfigError: there is no such release; the sentence lists those that are there.
        InputError: it is damaged, of another format version, or was trained on another base model.
    """
    path = _path(folder, name)
    if not (path / _RELEASE).is_file():
        there = ", ".join(releases(folder)) or "no adapter at all"
        raise ConfigError(f"{folder}: has no adapter of the release {name!r}; there is {there}")
    release = _read_release(path)
    if release.name != name:
        raise InputError(f"{path}: {_RELEASE} is of the release {release.name!r}; was the folder renamed?")
    if release.base_sha256 != base_sha256:
        raise InputError(
            f"{path}: was trained on another base model ({release.base_sha256[:12]}), not on this one "
            f"({base_sha256[:12]})"
        )
    data = {file: _read(path, file, release.sha256) for file in (_CONFIG, _WEIGHTS)}
    try:
        config = json.loads(data[_CONFIG])
        weights = load_safetensors(data[_WEIGHTS])
    except (ValueError, KeyError, RecursionError, SafetensorError) as error:
        raise InputError(f"{path}: the adapter cannot be read: {error}") from None
    return Adapter(path, release, Lora(config, weights))


def releases(folder: Path) -> Sequence[str]:
    """Names of the releases that have an adapter in `folder`, sorted; none where there is no folder.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        return sorted(
            p.name for p in folder.iterdir() if _NAME.fullmatch(p.name) and (p / _RELEASE).is_file()
        )
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}") from None


def _path(folder: Path, name: str) -> Path:
    if not _NAME.fullmatch(name) or len(name.encode()) > _MOST_NAME_BYTES:
        raise ConfigError(
            f"{name!r} cannot name a release: letters, digits and . + - _ or blanks within, not beginning "
            f"with a dot, at most {_MOST_NAME_BYTES} bytes"
        )
    return folder / name


def _read_release(path: Path) -> Release:
    try:
        data = (path / _RELEASE).read_bytes()
        release = msgspec.json.decode(data, type=Release)
    except OSError as error:
        raise InputError(f"{path}: {_RELEASE}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {_RELEASE} is damaged: {error}") from None
    if release.format != ADAPTER_FORMAT:
        raise InputError(
            f"{path}: {_RELEASE} has format {release.format}, this version reads {ADAPTER_FORMAT}; "
            "fine-tune the release again"
        )
    if _digest(release) != release.sha256.get(_RELEASE):
        raise InputError(f"{path}: {_RELEASE} is damaged: its checksum is not that of its contents")
    return release


def _read(path: Path, name: str, sha256: Mapping[str, str]) -> bytes:
    try:
        data = (path / name).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {name}: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != sha256.get(name):
        raise InputError(f"{path}: {name} is damaged: its checksum is not that in {_RELEASE}")
    return data


def _digest(release: Release) -> str:
    """Checksum of everything in `release.json` but that checksum itself."""
    others = {name: digest for name, digest in release.sha256.items() if name != _RELEASE}
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(release, sha256=others))).hexdigest()
