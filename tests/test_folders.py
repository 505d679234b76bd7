"""Folders that are whole or not there."""

import os
from pathlib import Path

import pytest

from ecustream.errors import OutputError
from ecustream.folders import written_whole


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def write(path: Path, name: str, error: BaseException | None = None) -> None:
    """A thing of one file; the block may fail after it."""
    with written_whole(path, "the thing") as new:
        (new / name).write_text(name)
        if error is not None:
            raise error


def test_a_folder_is_replaced_when_all_is_written(tmp_path: Path) -> None:
    """Until the end of the block the old one is there, after it nothing of it is."""
    path = tmp_path / "deep" / "thing"
    with written_whole(path, "the thing") as new:
        (new / "a").write_text("first")
        assert not path.exists()
    with written_whole(path, "the thing") as new:
        (new / "b").write_text("second")
        assert contents(path) == {"a": "first"}
    assert contents(tmp_path) == {"deep/thing/b": "second"}


def test_what_was_there_stays_where_the_block_fails(tmp_path: Path) -> None:
    """The error goes on as it is."""
    path = tmp_path / "thing"
    write(path, "a")
    with pytest.raises(KeyboardInterrupt):
        write(path, "b", KeyboardInterrupt())
    assert contents(tmp_path) == {"thing/a": "a"}
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_there_comes_back_where_the_place_cannot_be_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of the two renames fails, as on a disk that breaks just then."""
    path = tmp_path / "thing"
    write(path, "a")
    rename = os.rename

    def fails(source: Path, target: Path) -> None:
        if ".new-" in source.name:
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr("os.rename", fails)
    with pytest.raises(OutputError, match="thing: cannot write the thing: Input/output error"):
        write(path, "b")
    assert contents(tmp_path) == {"thing/a": "a"}


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file is where a folder above should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/thing: cannot write the thing: "):
        write(tmp_path / "file" / "thing", "a")
