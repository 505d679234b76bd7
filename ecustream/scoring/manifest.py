"""`bundle.json` and the files beside it, read and written without importing torch.

- `config.json`, `model.safetensors`: open with `AutoModelForCausalLM.from_pretrained`
- `tokenizer.json`: opens with `tokenizers.Tokenizer.from_file`
- `calibration.json`: see `ecustream.detect.calibration`
- `bundle.json`: `BundleInfo`: format version, PDUs, names, checksums of the others
"""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from ecustream.errors import BundleError, OutputError
from ecustream.folders import disk_errors, written_whole

__all__ = [
    "BUNDLE_FORMAT",
    "BundleFiles",
    "BundleInfo",
    "BundlePdu",
    "fingerprint",
    "read_bundle",
    "refuse_foreign",
    "write_bundle",
]

BUNDLE_FORMAT = 1
_FILES = ("config.json", "model.safetensors", "tokenizer.json", "calibration.json")


class BundlePdu(msgspec.Struct, frozen=True):
    """A PDU that the model knows: its key (see `ecustream.decode.streams`), name, bus and learned cycle."""

    key: str
    name: str
    source: str
    cycle_ns: int = 0


class BundleInfo(msgspec.Struct):
    """`bundle.json`.

    `pdus` are in the order of their name tokens. `names` are the rows of the name table that the
    traffic was read with, as in `ecustream.decode.names.NameRow`. `key` is what "the same PDU" means.
    """

    format: int
    tokenizer: str
    fields: list[str]
    tokens_per_line: float
    window_tokens: Annotated[int, Meta(ge=1)]
    receptive_field_tokens: Annotated[int, Meta(ge=0)]
    key: str
    pdus: list[BundlePdu]
    fingerprint: str
    activity_states: dict[str, str]
    names: list[list[int | str | None]]
    trained: dict[str, Any]
    sha256: dict[str, str] = {}


class BundleFiles(NamedTuple):
    """A bundle as read from disk, its checksums verified; `data` by file name."""

    path: Path
    info: BundleInfo
    data: Mapping[str, bytes]


def fingerprint(pdus: list[BundlePdu]) -> str:
    """Identity of the traffic a bundle knows: PDU keys, and the order of magnitude of their cycles.

    Two recordings of a vehicle must agree: cycles count as powers of three times 10 ms, rounded, whose
    edges (5.8, 17, 52, 156, 468 ms) are no usual cycles.
    """
    digest = hashlib.sha256()
    for pdu in sorted(pdus, key=lambda p: p.key):
        coarse = round(math.log(pdu.cycle_ns / 1e7, 3)) if pdu.cycle_ns else "none"
        digest.update(f"{pdu.key}\t{coarse}\n".encode())
    return digest.hexdigest()[:16]


def _info_digest(info: BundleInfo) -> str:
    """Checksum of everything in `bundle.json` but the checksums."""
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(info, sha256={}))).hexdigest()


def read_bundle(path: Path) -> BundleFiles:
    """Read the files of a bundle and verify their checksums.

    Raises:
        BundleError: it is missing, damaged, or of another format version; the sentence names the file.
    """
    if not path.is_dir():
        link = f": it is a link to {path.readlink()}, which does not exist" if path.is_symlink() else ""
        raise BundleError(f"{path}: not a bundle: there is no such folder{link}")
    try:
        info = msgspec.json.decode((path / "bundle.json").read_bytes(), type=BundleInfo)
    except OSError as error:
        raise BundleError(f"{path}: not a bundle: bundle.json: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: bundle.json is damaged: {error}") from None
    if info.format != BUNDLE_FORMAT:
        raise BundleError(
            f"{path}: bundle.json has format {info.format}, this version reads {BUNDLE_FORMAT}; "
            "make it again with `python -m training fit`"
        )
    if _info_digest(info) != info.sha256.get("bundle.json"):
        raise BundleError(f"{path}: bundle.json is damaged: its checksum is not that of its contents")
    files: dict[str, bytes] = {}
    for name in _FILES:
        try:
            files[name] = (path / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{path}: {name}: {error.strerror}") from None
        if hashlib.sha256(files[name]).hexdigest() != info.sha256.get(name):
            raise BundleError(f"{path}: {name} is damaged: its checksum is not that in bundle.json")
    return BundleFiles(path, info, files)


def refuse_foreign(path: Path) -> None:
    """Refuse to write a bundle in the place of something else.

    Raises:
        OutputError: something that is no bundle is there, or it cannot be told.
    """
    path = path.absolute()
    with disk_errors(path, "the bundle"):
        foreign = path.exists() and not (path / "bundle.json").is_file()
    if foreign:
        raise OutputError(f"{path} exists and is not a bundle; choose another --out")


def write_bundle(path: Path, info: BundleInfo, files: Mapping[str, bytes]) -> None:
    """Write a bundle whole and then rename it into place; an older bundle there is replaced.

    Args:
        path: the folder.
        info: its `sha256` is filled in here.
        files: contents of config.json, model.safetensors, tokenizer.json and calibration.json.

    Raises:
        OutputError: the folder cannot be written, or something that is no bundle is in its place.
    """
    refuse_foreign(path)
    path = path.absolute()
    info.sha256 = {name: hashlib.sha256(files[name]).hexdigest() for name in _FILES}
    info.sha256["bundle.json"] = _info_digest(info)
    pretty = msgspec.json.format(msgspec.json.encode(info), indent=1)
    with written_whole(path, "the bundle") as new, disk_errors(path, "the bundle"):
        for name in _FILES:
            (new / name).write_bytes(files[name])
        (new / "bundle.json").write_bytes(pretty + b"\n")
