"""The folder that a detector loads: weights, tokenizer, calibration and what they know.

config.json, model.safetensors   opens with `AutoModelForCausalLM.from_pretrained`
tokenizer.json                   opens with `tokenizers.Tokenizer.from_file`
calibration.json                 see `ecustream.detect.calibration`
bundle.json                      `BundleInfo`: format version, PDUs, names, checksums of the others
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors

from ecustream.errors import BundleError, OutputError
from ecustream.scoring.fields import FieldsTokenizer
from ecustream.scoring.qwen2 import Qwen2

__all__ = ["BUNDLE_FORMAT", "Bundle", "BundleInfo", "BundlePdu", "fingerprint", "load_bundle", "write_bundle"]

BUNDLE_FORMAT = 1
_FILES = ("config.json", "model.safetensors", "tokenizer.json", "calibration.json")


class BundlePdu(msgspec.Struct, frozen=True):
    """A PDU that the model knows: its key (see `ecustream.decode.lines`), addresses and learned cycle."""

    key: str
    name: str
    source: str
    cycle_ns: int = 0


class BundleInfo(msgspec.Struct, forbid_unknown_fields=False):
    """`bundle.json`. `pdus` are in the order of their name tokens; `names_csv` is the name table used."""

    format: int
    tokenizer: str
    fields: list[str]
    tokens_per_line: float
    window_tokens: int
    receptive_field_tokens: int
    key: str
    pdus: list[BundlePdu]
    fingerprint: str
    activity_states: dict[str, str]
    names_csv: str | None
    trained: dict[str, Any]
    sha256: dict[str, str] = {}


class Bundle:
    """A loaded bundle. `calibration_json` is left to the detection stage to read."""

    def __init__(self, path: Path, info: BundleInfo, files: Mapping[str, bytes]) -> None:
        self.path = path
        self.info = info
        self.calibration_json = files["calibration.json"]
        self._tokenizer_json = files["tokenizer.json"].decode()
        try:
            config = json.loads(files["config.json"])
            weights: dict[str, torch.Tensor] = load_safetensors(files["model.safetensors"])
        except (ValueError, SafetensorError) as error:
            raise BundleError(f"{path}: the model cannot be read: {error}") from None
        try:
            self.model = Qwen2(config, weights)
            tokenizer = self.new_tokenizer()
            tokenizer.check_json(self._tokenizer_json)
            if tokenizer.vocabulary_size != self.model.vocab:
                raise BundleError(
                    f"bundle.json lists {tokenizer.vocabulary_size} tokens, the model has {self.model.vocab}"
                )
        except BundleError as error:
            raise BundleError(f"{path}: {error}") from None

    def new_tokenizer(self) -> FieldsTokenizer:
        """A tokenizer in its initial state, for one stream."""
        return FieldsTokenizer({pdu.key: pdu.cycle_ns for pdu in self.info.pdus})


def fingerprint(pdus: list[BundlePdu]) -> str:
    """Identity of the traffic a bundle knows: PDU keys, and their cycles to about 10 %."""
    digest = hashlib.sha256()
    for pdu in sorted(pdus, key=lambda p: p.key):
        coarse = round(pdu.cycle_ns / 10 ** max(0, len(str(pdu.cycle_ns)) - 1)) if pdu.cycle_ns else 0
        digest.update(f"{pdu.key}\t{coarse}e{len(str(pdu.cycle_ns))}\n".encode())
    return digest.hexdigest()[:16]


def load_bundle(path: Path) -> Bundle:
    """Read and check a bundle.

    Raises:
        BundleError: it is missing, damaged, of another format version, or cannot be streamed; the
            sentence names the folder and the file.
    """
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
    if info.tokenizer != FieldsTokenizer.name:
        raise BundleError(f"{path}: bundle.json names an unknown tokenizer {info.tokenizer!r}")
    files: dict[str, bytes] = {}
    for name in _FILES:
        try:
            files[name] = (path / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{path}: {name}: {error.strerror}") from None
        if hashlib.sha256(files[name]).hexdigest() != info.sha256.get(name):
            raise BundleError(f"{path}: {name} is damaged: its checksum is not that in bundle.json")
    return Bundle(path, info, files)


def write_bundle(path: Path, info: BundleInfo, files: Mapping[str, bytes]) -> None:
    """Write a bundle whole and then rename it into place; an older bundle there is replaced.

    Args:
        path: the folder.
        info: its `sha256` is filled in here.
        files: contents of config.json, model.safetensors, tokenizer.json and calibration.json.

    Raises:
        OutputError: the folder cannot be written, or something that is no bundle is in its place.
    """
    if path.exists() and not (path / "bundle.json").is_file():
        raise OutputError(f"{path} exists and is not a bundle; choose another --out")
    info.sha256 = {name: hashlib.sha256(files[name]).hexdigest() for name in _FILES}
    unique = uuid.uuid4().hex[:8]
    new, old = (path.with_name(f".{path.name}.{what}-{unique}") for what in ("new", "old"))
    try:
        new.mkdir(parents=True)
        for name in _FILES:
            (new / name).write_bytes(files[name])
        pretty = msgspec.json.format(msgspec.json.encode(info), indent=1)
        (new / "bundle.json").write_bytes(pretty + b"\n")
        if path.exists():
            os.rename(path, old)
        os.rename(new, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot write the bundle: {error.strerror}") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
