"""Label files: JSON lines, one fault each."""

from pathlib import Path

import pytest

from ecustream.errors import InputError
from training.labels import Label, read_labels

GOOD = '{"start_ns": 20, "end_ns": 30, "kind": "late", "pdus": ["A"], "severity": 0.5}'


def written(tmp_path: Path, text: str | bytes) -> Path:
    """A label file with this content."""
    path = tmp_path / "trace.labels.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_labels_are_sorted_by_start(tmp_path: Path) -> None:
    """Order in the file does not matter; empty lines and unknown keys are ignored."""
    path = written(tmp_path, GOOD + '\n\n{"start_ns": 5, "end_ns": 5, "kind": "drop", "note": "new"}\n')
    assert read_labels(path) == [Label(5, 5, "drop"), Label(20, 30, "late", ["A"], 0.5)]


def test_empty_file_has_no_labels(tmp_path: Path) -> None:
    """A trace whose label file is empty is a clean trace."""
    assert read_labels(written(tmp_path, "")) == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("{", "truncated"),
        ('{"start_ns": 1, "end_ns": 2}', "kind"),
        ('{"start_ns": "1", "end_ns": 2, "kind": "late"}', "start_ns"),
        ('{"start_ns": 1.5, "end_ns": 2, "kind": "late"}', "start_ns"),
        ('{"start_ns": 3, "end_ns": 2, "kind": "late"}', "ends before it starts"),
        ('{"start_ns": 1, "end_ns": 99999999999999999999, "kind": "late"}', "end_ns"),
        ('{"start_ns": -1, "end_ns": 2, "kind": "late"}', "start_ns"),
        ("start,end", "malformed"),
        (b'{"start_ns": 1, "end_ns": 2, "kind": "\xff"}', "line 3"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, bad: str | bytes, words: str) -> None:
    """The sentence has the file, the number of the line as an editor counts, and what is wrong with it."""
    line = bad if isinstance(bad, bytes) else bad.encode()
    path = written(tmp_path, GOOD.encode() + b"\n\n" + line + b"\n" + GOOD.encode() + b"\n")
    with pytest.raises(InputError, match=words) as raised:
        read_labels(path)
    assert str(raised.value).startswith(f"{path}, line 3: ")


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A missing file is an input error with its path and the reason."""
    with pytest.raises(InputError, match=r"none\.jsonl: cannot be read: No such file"):
        read_labels(tmp_path / "none.jsonl")
