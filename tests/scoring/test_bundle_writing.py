"""Bundles are written whole and put in place in one step, and nothing else is ever replaced."""

import os
from pathlib import Path

import pytest

from ecustream.errors import OutputError
from ecustream.scoring.manifest import BundlePdu, fingerprint, read_bundle, write_bundle
from tests.scoring.bundles import PDUS, bundle_files, bundle_info


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


def write(path: Path, steps: int = 7) -> None:
    """Write a bundle that says how many steps trained it."""
    info = bundle_info()
    info.trained["steps"] = steps
    write_bundle(path, info, bundle_files())


def steps_of(path: Path) -> int:
    """Which bundle it is."""
    steps: int = read_bundle(path).info.trained["steps"]
    return steps


def test_a_bundle_is_five_files_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    """The folder and its parents are made; no temporary folder stays."""
    write(tmp_path / "a" / "b" / "bundle")
    assert names(tmp_path / "a" / "b") == ["bundle"]
    assert names(tmp_path / "a" / "b" / "bundle") == [
        "bundle.json",
        "calibration.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_an_older_bundle_is_replaced(tmp_path: Path) -> None:
    """The new bundle is in place, and the old one gone with all it had."""
    write(tmp_path / "bundle", steps=1)
    (tmp_path / "bundle" / "note.txt").write_text("of the old one")
    write(tmp_path / "bundle", steps=2)
    assert steps_of(tmp_path / "bundle") == 2
    assert names(tmp_path) == ["bundle"]
    assert "note.txt" not in names(tmp_path / "bundle")


def test_what_is_put_in_place_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the moment of the rename the new bundle can be read already."""
    path = tmp_path / "bundle"
    write(path, steps=1)
    rename = os.rename
    placed = []

    def watched(source: Path, target: Path) -> None:
        if target == path:
            placed.append(steps_of(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", watched)
    write(path, steps=2)
    assert placed == [2]


@pytest.mark.parametrize("what", ["folder", "empty folder", "file"])
def test_what_is_no_bundle_is_left_alone(tmp_path: Path, what: str) -> None:
    """Somebody else's folder or file in the place is refused and stays as it was."""
    path = tmp_path / "mine"
    if what == "file":
        path.write_text("precious")
    else:
        path.mkdir()
        if what == "folder":
            (path / "thesis.tex").write_text("precious")
    with pytest.raises(OutputError, match="mine exists and is not a bundle; choose another --out"):
        write(path)
    assert names(tmp_path) == ["mine"]
    if what == "folder":
        assert names(path) == ["thesis.tex"]
    elif what == "file":
        assert path.read_text() == "precious"


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    """A file among the parents: one sentence that names the bundle and why."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="bundle: cannot write the bundle: Not a directory"):
        write(tmp_path / "file" / "bundle")


def test_a_name_that_is_too_long_is_a_sentence(tmp_path: Path) -> None:
    """What the file system says of the name is said as OutputError."""
    with pytest.raises(OutputError):
        write(tmp_path / ("x" * 300))


def test_the_bundle_that_one_stands_in_can_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--out .` inside a bundle replaces it or is refused in a sentence."""
    write(tmp_path / "bundle", steps=1)
    monkeypatch.chdir(tmp_path / "bundle")
    try:
        write(Path("."), steps=2)
    except OutputError:
        assert steps_of(tmp_path / "bundle") == 1
    else:
        assert steps_of(tmp_path / "bundle") == 2


def test_a_full_disk_leaves_the_old_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file of the new bundle cannot be written the old one stays, and no half one."""
    write(tmp_path / "bundle", steps=1)
    write_bytes = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "tokenizer.json":
            raise OSError(28, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="cannot write the bundle: No space left on device"):
        write(tmp_path / "bundle", steps=2)
    monkeypatch.undo()
    assert steps_of(tmp_path / "bundle") == 1
    assert names(tmp_path) == ["bundle"]


def test_a_rename_that_fails_leaves_the_old_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the new bundle cannot be put in place the old one is there again."""
    path = tmp_path / "bundle"
    write(path, steps=1)
    rename = os.rename

    def failing(source: Path, target: Path) -> None:
        if target == path and ".new-" in source.name:
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OutputError, match="cannot write the bundle: Permission denied"):
        write(path, steps=2)
    assert path.exists()
    assert steps_of(path) == 1


def test_a_fingerprint_is_of_keys_and_cycles_in_any_order() -> None:
    """Other keys or clearly other cycles are another vehicle; the order and the names are not."""
    same = fingerprint(PDUS)
    assert fingerprint(PDUS[::-1]) == same
    assert fingerprint([BundlePdu(p.key, "renamed", "ETH7", p.cycle_ns) for p in PDUS]) == same
    assert fingerprint(PDUS[:-1]) != same
    assert fingerprint([BundlePdu(p.key, p.name, p.source, 2 * p.cycle_ns) for p in PDUS]) != same


@pytest.mark.parametrize("cycle_ns", [1_000_000, 10_000_000, 100_000_000, 1_000_000_000])
def test_a_fingerprint_is_the_same_for_two_recordings_of_one_vehicle(cycle_ns: int) -> None:
    """Learned cycles of two recordings differ by microseconds, on both sides of the round number."""
    early, late = (fingerprint([BundlePdu("fast", "FAST", "ETH1", cycle_ns + off)]) for off in (-200, 200))
    assert early == late
