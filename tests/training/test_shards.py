"""Shards hold what the tokenizer made of every line, are replaced whole, and are refused when damaged."""

import errno
import pickle
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from ecustream.errors import InputError, OutputError
from ecustream.scoring.fields import FieldsTokenizer
from ecustream.traffic import STATE_INIT, STATE_NORMAL, Line, Stream
from tests.training.shards_for_tests import NumberTokenizer, made_shards
from training.shards import Piece, Shards, open_shards, write_shards

STREAMS = [Stream(i, f"key{i}", f"PDU_{i}", "ETH1", "a", 1, "b", 2) for i in range(3)]
CYCLES = {stream.key: 10_000_000 for stream in STREAMS}


def drive(count: int, seed: int) -> list[Line]:
    """Lines of three PDUs; where the activity state changes, the fields tokenizer gives three tokens."""
    random = np.random.default_rng(seed)
    states = np.where(random.random(count) < 0.1, STATE_INIT, STATE_NORMAL).tolist()
    return [
        Line(
            i,
            i + 1,
            i * 3_000_000,
            STREAMS[i % 3],
            states[i],
            None if i < 3 else int(random.integers(20_000_000)),
        )
        for i in range(count)
    ]


def in_batches(lines: Sequence[Line], size: int) -> Iterator[Sequence[Line]]:
    return (lines[at : at + size] for at in range(0, len(lines), size))


def written(
    folder: Path, drives: Sequence[list[Line]], labels: Callable[..., Any] | None = None, batch: int = 7
) -> Shards:
    pieces = [(f"d{i}", f"sha{i}", in_batches(lines, batch)) for i, lines in enumerate(drives)]
    return write_shards(folder, FieldsTokenizer(CYCLES), pieces, labels)


def every_third(piece: int, lines: Sequence[Line]) -> npt.NDArray[np.bool_]:
    return np.array([(line.number + piece) % 3 == 0 for line in lines], np.bool_)


def test_shards_hold_the_tokens_of_every_line(tmp_path: Path) -> None:
    """Line by line the same tokens and fields as a fresh tokenizer gives for the drive, and the labels."""
    drives = [drive(50, 1), drive(31, 2), drive(1, 3)]
    shards = written(tmp_path / "s", drives, every_third)
    assert shards.pieces == [
        Piece("d0", "sha0", 50, 0),
        Piece("d1", "sha1", 31, 50),
        Piece("d2", "sha2", 1, 81),
    ]
    assert shards.labelled is not None
    at = 0
    for piece, lines in enumerate(drives):
        tokenizer = FieldsTokenizer(CYCLES)
        for line in lines:
            encoded = tokenizer.encode([line])
            span = slice(int(shards.first_token[at]), int(shards.first_token[at + 1]))
            assert shards.ids[span].tolist() == encoded.ids.tolist()
            assert shards.fields[span].tolist() == encoded.fields.tolist()
            assert shards.labelled[at] == ((line.number + piece) % 3 == 0)
            at += 1
    assert len(shards.first_token) == at + 1
    assert len(shards.ids) == len(shards.fields) == shards.first_token[-1] > 2 * at
    assert shards.ids.dtype == np.uint16
    assert shards.fields.dtype == np.int8
    assert shards.first_token.dtype == np.int64
    tokenizer = FieldsTokenizer(CYCLES)
    assert (shards.tokenizer, shards.vocabulary) == (tokenizer.name, tokenizer.vocabulary_size)
    assert shards.tokenizer_json == tokenizer.to_json()


def test_the_files_are_plain_numpy_files(tmp_path: Path) -> None:
    """What `numpy.load` reads is what was mapped; no other file is there."""
    shards = written(tmp_path / "s", [drive(50, 1)])
    for name in ("ids", "fields", "first_token"):
        np.testing.assert_array_equal(np.load(tmp_path / "s" / f"{name}.npy"), getattr(shards, name))
    assert {path.name for path in (tmp_path / "s").iterdir()} == {
        "shards.json",
        "tokenizer.json",
        "ids.npy",
        "fields.npy",
        "first_token.npy",
    }
    assert shards.labelled is None


def test_batches_do_not_matter(tmp_path: Path) -> None:
    """Lines one by one, with empty batches between, give the files that lines in one batch give."""
    lines = drive(40, 4)
    written(tmp_path / "a", [lines], batch=40)
    batches = (batch for line in lines for batch in ([], [line]))
    write_shards(tmp_path / "b", FieldsTokenizer(CYCLES), [("d0", "sha0", batches)])
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(("vocabulary", "dtype"), [(65_536, "uint16"), (65_537, "uint32")])
def test_ids_are_as_wide_as_the_vocabulary_needs(tmp_path: Path, vocabulary: int, dtype: str) -> None:
    """The last id of a vocabulary survives."""
    line = Line(0, 0, 0, STREAMS[2], STATE_NORMAL, vocabulary - 1)
    shards = write_shards(tmp_path / "s", NumberTokenizer(vocabulary), [("d", "sha", [[line]])])
    assert shards.ids.dtype == dtype
    assert shards.ids.tolist() == [2, vocabulary - 1]


def test_shards_are_replaced_whole(tmp_path: Path) -> None:
    """Newer shards take the place of older ones; nothing else stays beside them."""
    written(tmp_path / "s", [drive(50, 1)], every_third)
    again = written(tmp_path / "s", [drive(8, 1)])
    assert [piece.lines for piece in again.pieces] == [8]
    assert not (tmp_path / "s" / "labelled.npy").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_what_is_no_shards_is_not_replaced(tmp_path: Path) -> None:
    """A folder of something else, and a file, are refused and stay."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    for name in ("work", "work/thesis.txt"):
        with pytest.raises(OutputError, match=r"exists and is no folder of shards; choose another"):
            written(tmp_path / name, [drive(5, 1)])
    assert (tmp_path / "work" / "thesis.txt").read_text() == "years"


def test_a_drive_without_lines_is_a_sentence(tmp_path: Path) -> None:
    """It names the trace; the shards that were there stay as they were."""
    before = written(tmp_path / "s", [drive(50, 1)])
    with pytest.raises(InputError, match=r"^d1: there is no PDU in this trace$"):
        written(tmp_path / "s", [drive(5, 1), [], drive(5, 1)])
    with pytest.raises(InputError, match="there is no trace"):
        written(tmp_path / "s", [])
    assert open_shards(tmp_path / "s").pieces == before.pieces
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_an_error_of_the_traffic_passes_and_leaves_nothing(tmp_path: Path) -> None:
    """What goes wrong in reading a trace is told as it is, not as an error of the output."""

    def damaged() -> Iterator[list[Line]]:
        yield drive(5, 1)
        raise FileNotFoundError(errno.ENOENT, "gone", "trace.pcapng")

    with pytest.raises(FileNotFoundError, match="gone"):
        write_shards(tmp_path / "s", FieldsTokenizer(CYCLES), [("d", "sha", damaged())])
    assert list(tmp_path.iterdir()) == []


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes: the system refuses as it does when a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 100, 200, 400, 1000])
def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path, size: int) -> None:
    """Wherever the disk gets full, the older shards stay and no new file does."""
    before = written(tmp_path / "s", [drive(8, 1)])
    with (
        pytest.raises(OutputError, match=r"/s: cannot write the shards: File too large"),
        files_limited_to(size),
    ):
        written(tmp_path / "s", [drive(50, 1)])
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert open_shards(tmp_path / "s").pieces == before.pieces


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    """A file where a folder is needed."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write the shards: Not a directory"):
        written(tmp_path / "file" / "s", [drive(5, 1)])


def _edit(key: str, value: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = msgspec.json.decode((folder / "shards.json").read_bytes())
        content[key] = value
        (folder / "shards.json").write_bytes(msgspec.json.encode(content))

    return edit


def _cut(name: str, size: int) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[:size])

    return cut


def _shift_first_token(folder: Path) -> None:
    array = np.load(folder / "first_token.npy")
    np.save(folder / "first_token.npy", array + 1)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / "shards.json").unlink(), r"s: not a folder of shards: shards\.json: No such file"),
        (_cut("shards.json", 40), r"s: shards\.json is damaged: "),
        (lambda f: (f / "shards.json").write_bytes(b"\xff\xfe"), r"s: shards\.json is damaged: "),
        (_edit("format", 9), r"s: shards\.json has format 9, this version reads 1"),
        (_edit("lines", 51), r"s: shards\.json is damaged: its pieces do not add up"),
        (_edit("pieces", []), r"s: shards\.json is damaged: its pieces do not add up"),
        (_edit("dtype", "object"), r"s: shards\.json is damaged: object is no type of token ids"),
        (_edit("dtype", "uint32"), r"ids\.npy is damaged: it holds uint16 "),
        (_edit("tokens", 7), r"first_token\.npy is damaged: its lines do not hold all tokens"),
        (_shift_first_token, r"first_token\.npy is damaged: its lines do not hold all tokens"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), r"s: tokenizer\.json is damaged: its checksum"),
        (lambda f: (f / "tokenizer.json").unlink(), r"s: tokenizer\.json: No such file"),
        (lambda f: (f / "ids.npy").unlink(), r"ids\.npy: No such file"),
        (_cut("ids.npy", 0), r"ids\.npy is damaged: "),
        (_cut("fields.npy", 60), r"fields\.npy is damaged: "),
        (_cut("ids.npy", 140), r"ids\.npy is damaged: "),
        (
            lambda f: (f / "labelled.npy").write_bytes(b"PK\x03\x04" + bytes(200)),
            r"labelled\.npy is damaged: ",
        ),
        (
            lambda f: np.save(f / "labelled.npy", np.zeros(3, bool)),
            r"labelled\.npy is damaged: .* shape \(50,\)",
        ),
    ],
)
def test_damaged_shards_are_refused(tmp_path: Path, damage: Callable[[Path], Any], sentence: str) -> None:
    """The sentence names the file."""
    written(tmp_path / "s", [drive(50, 1)], every_third)
    damage(tmp_path / "s")
    with pytest.raises(InputError, match=sentence):
        open_shards(tmp_path / "s")


def test_shards_go_to_other_processes_by_their_folder(tmp_path: Path) -> None:
    """Pickled, they are a path, not their tokens; what comes back reads the same."""
    shards = made_shards(tmp_path / "s", [3000], 40, 1)
    sent = pickle.dumps(shards)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).ids, shards.ids)


def test_made_shards_can_be_learned_and_repeated(tmp_path: Path) -> None:
    """Most names follow from the one before; the same seed gives the same tokens, labels as many as asked."""
    shards = made_shards(tmp_path / "a", [3000, 2000], 40, 1, 0.1)
    again = made_shards(tmp_path / "b", [3000, 2000], 40, 1, 0.1)
    np.testing.assert_array_equal(shards.ids, again.ids)
    names = shards.ids[0:6000:2].astype(int)
    follows = (names[1:] - names[:-1]) % len(np.unique(names)) == 1
    assert 0.6 < follows.mean() < 0.85
    assert shards.labelled is not None
    assert 0.07 < shards.labelled.mean() < 0.13
    assert shards.ids.max() < 40
