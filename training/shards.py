"""Shards: the tokens of many drives in a few flat files that are mapped into memory, never read whole."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ecustream.errors import InputError, OutputError
from ecustream.folders import disk_errors, written_whole
from ecustream.scoring.tokenizer import LineTokenizer
from ecustream.traffic import Line

__all__ = ["SHARDS_FORMAT", "Piece", "Shards", "open_shards", "write_shards"]

SHARDS_FORMAT = 1
_WHAT = "the shards"

Labels = Callable[[int, Sequence[Line]], npt.NDArray[np.bool_]]


class Piece(msgspec.Struct, frozen=True):
    """One uninterrupted drive: its trace's name and checksum, its count of lines, and its first line."""

    name: str
    sha256: str
    lines: int
    first_line: int


class _Manifest(msgspec.Struct):
    """`shards.json`; `sha256` is that of tokenizer.json, `dtype` that of ids.npy."""

    format: int
    tokenizer: str
    vocabulary: int
    dtype: str
    lines: int
    tokens: int
    labelled: bool
    pieces: list[Piece]
    sha256: str


@dataclass(frozen=True, eq=False)
class Shards:
    """Tokens of the drives of one vehicle, one after the other.

    Attributes:
        folder: where they lie.
        tokenizer: the kind of tokenizer that made them.
        vocabulary: number of its token ids.
        pieces: the drives, in order.
        ids: token ids, shape (tokens,), uint16 or uint32.
        fields: the field of `ecustream.scores.FIELDS` of each token, shape (tokens,), int8.
        first_token: shape (lines + 1,), int64: line i has the tokens first_token[i]:first_token[i + 1].
        labelled: whether each line is a known anomaly, shape (lines,), bool; None without labels.
        tokenizer_json: text of the tokenizer's `tokenizer.json`.
    """

    folder: Path
    tokenizer: str
    vocabulary: int
    pieces: list[Piece]
    ids: npt.NDArray[np.unsignedinteger[Any]]
    fields: npt.NDArray[np.int8]
    first_token: npt.NDArray[np.int64]
    labelled: npt.NDArray[np.bool_] | None
    tokenizer_json: str

    def __reduce__(self) -> tuple[Callable[[Path], "Shards"], tuple[Path]]:
        # A worker process maps the files itself; pickled, the arrays would be read whole.
        return open_shards, (self.folder,)


def open_shards(folder: Path) -> Shards:
    """Map the shards in a folder into memory.

    Raises:
        InputError: there are none, they are damaged, or of another format; the sentence names the file.
    """
    folder = Path(folder).absolute()
    try:
        manifest = msgspec.json.decode((folder / "shards.json").read_bytes(), type=_Manifest)
    except OSError as error:
        raise InputError(f"{folder}: not a folder of shards: shards.json: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{folder}: shards.json is damaged: {error}") from None
    if manifest.format != SHARDS_FORMAT:
        raise InputError(
            f"{folder}: shards.json has format {manifest.format}, this version reads {SHARDS_FORMAT}; "
            "make the shards again"
        )
    if not _pieces_follow(manifest):
        raise InputError(f"{folder}: shards.json is damaged: its pieces do not add up to its lines")
    try:
        text = (folder / "tokenizer.json").read_bytes()
    except OSError as error:
        raise InputError(f"{folder}: tokenizer.json: {error.strerror}") from None
    if hashlib.sha256(text).hexdigest() != manifest.sha256:
        raise InputError(f"{folder}: tokenizer.json is damaged: its checksum is not that in shards.json")
    if manifest.dtype not in ("uint16", "uint32"):
        raise InputError(f"{folder}: shards.json is damaged: {manifest.dtype} is no type of token ids")
    first_token = _map(folder / "first_token.npy", "int64", manifest.lines + 1)
    if int(first_token[0]) != 0 or int(first_token[-1]) != manifest.tokens:
        raise InputError(f"{folder}: first_token.npy is damaged: its lines do not hold all tokens")
    return Shards(
        folder=folder,
        tokenizer=manifest.tokenizer,
        vocabulary=manifest.vocabulary,
        pieces=manifest.pieces,
        ids=_map(folder / "ids.npy", manifest.dtype, manifest.tokens),
        fields=_map(folder / "fields.npy", "int8", manifest.tokens),
        first_token=first_token,
        labelled=_map(folder / "labelled.npy", "bool", manifest.lines) if manifest.labelled else None,
        tokenizer_json=text.decode(),
    )


def _pieces_follow(manifest: _Manifest) -> bool:
    """Whether every piece has lines and begins where the one before it ends."""
    line = 0
    for piece in manifest.pieces:
        if piece.lines < 1 or piece.first_line != line:
            return False
        line += piece.lines
    return 0 < line == manifest.lines


def _map(path: Path, dtype: str, size: int) -> npt.NDArray[Any]:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is damaged: {error}") from None
    if array.shape != (size,) or array.dtype != np.dtype(dtype):
        raise InputError(
            f"{path} is damaged: it holds {array.dtype} of shape {array.shape}, shards.json says {dtype} "
            f"of shape ({size},)"
        )
    return np.asarray(array)  # a plain array over the same pages: slices of np.memmap are slow


def write_shards(
    folder: Path,
    tokenizer: LineTokenizer,
    pieces: Iterable[tuple[str, str, Iterable[Sequence[Line]]]],
    labels: Labels | None = None,
) -> Shards:
    """Tokenize drives in one pass and with flat memory; older shards in the folder are replaced.

    Args:
        folder: written whole beside and then renamed into place.
        tokenizer: a fresh one is made of it for every drive.
        pieces: each drive as (name, sha256 of its trace, batches of lines).
        labels: called as (number of the piece, lines) for every batch, in order; says which lines are known
            anomalies, shape (lines,).

    Raises:
        InputError: there is no drive, or one without lines.
        OutputError: the folder cannot be written, or something that is no shards is in its place.
    """
    folder = Path(folder).absolute()
    with disk_errors(folder, _WHAT):
        foreign = folder.exists() and not (folder / "shards.json").is_file()
    if foreign:
        raise OutputError(f"{folder} exists and is no folder of shards; choose another")
    with written_whole(folder, _WHAT) as new:
        _write(folder, new, tokenizer, pieces, labels)
    return open_shards(folder)


class _Column:
    """A flat .npy file that grows; its header is written again when its length is known."""

    def __init__(self, path: Path, dtype: str) -> None:
        self.size = 0
        self._dtype = np.dtype(dtype)
        # Unbuffered: a full disk then shows where something is written, not where the file is closed.
        self._file = path.open("xb", buffering=0)
        self._write_header()

    def append(self, values: npt.NDArray[Any]) -> None:
        """Write values behind those so far."""
        left = memoryview(values.astype(self._dtype).tobytes())
        while left:
            left = left[self._file.write(left) :]
        self.size += len(values)

    def finish(self) -> None:
        """Write the true length into the header."""
        self._file.seek(0)
        self._write_header()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write_header(self) -> None:
        # numpy pads headers so that the first dimension can grow to 21 digits in place.
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.size,)}
        np.lib.format.write_array_header_1_0(self._file, header)


def _write(
    folder: Path,
    new: Path,
    tokenizer: LineTokenizer,
    pieces: Iterable[tuple[str, str, Iterable[Sequence[Line]]]],
    labels: Labels | None,
) -> None:
    """Write all files into the folder `new`; sentences name `folder`."""
    dtypes = {
        "ids": "uint16" if tokenizer.vocabulary_size <= 1 << 16 else "uint32",
        "fields": "int8",
        "first_token": "int64",
    }
    if labels is not None:
        dtypes["labelled"] = "bool"
    done: list[Piece] = []
    with ExitStack() as stack:
        columns: dict[str, _Column] = {}
        with disk_errors(folder, _WHAT):
            for name, dtype in dtypes.items():
                columns[name] = _Column(new / f"{name}.npy", dtype)
                stack.callback(columns[name].close)
            columns["first_token"].append(np.zeros(1, np.int64))
        first_line = 0
        for number, (name, sha256, batches) in enumerate(pieces):
            tokenize = tokenizer.fresh()
            count = 0
            for lines in batches:
                if lines:
                    arrays = _encode(tokenize, lines, columns["ids"].size)
                    if labels is not None:
                        arrays["labelled"] = labels(number, lines)
                    with disk_errors(folder, _WHAT):
                        for column, values in arrays.items():
                            columns[column].append(values)
                    count += len(lines)
            if not count:
                raise InputError(f"{name}: there is no PDU in this trace")
            done.append(Piece(name, sha256, count, first_line))
            first_line += count
        if not done:
            raise InputError("there is no trace to make shards of")
        with disk_errors(folder, _WHAT):
            for file in columns.values():
                file.finish()
    text = tokenizer.to_json().encode()
    manifest = _Manifest(
        format=SHARDS_FORMAT,
        tokenizer=tokenizer.name,
        vocabulary=tokenizer.vocabulary_size,
        dtype=dtypes["ids"],
        lines=first_line,
        tokens=columns["ids"].size,
        labelled=labels is not None,
        pieces=done,
        sha256=hashlib.sha256(text).hexdigest(),
    )
    with disk_errors(folder, _WHAT):
        (new / "tokenizer.json").write_bytes(text)
        (new / "shards.json").write_bytes(
            msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
        )


def _encode(
    tokenizer: LineTokenizer, lines: Sequence[Line], tokens_before: int
) -> dict[str, npt.NDArray[Any]]:
    """The columns' next values; `first_token` has the ends of these lines, the starts of the next."""
    encoded = tokenizer.encode(lines)
    ends = np.cumsum(np.bincount(encoded.line_of, minlength=len(lines)))
    return {"ids": encoded.ids, "fields": encoded.fields, "first_token": ends + tokens_before}
