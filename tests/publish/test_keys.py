"""Key files."""

import os
import re
import stat
from pathlib import Path

import pytest
import zmq

from ecustream.errors import ConfigError, OutputError
from ecustream.publish.keys import make_pair, read_allowed, read_public, read_secret


def test_a_pair_is_two_files(tmp_path: Path) -> None:
    """The secret is its owner's alone, the public key may be given away, and both belong together."""
    secret, public = make_pair("bench-7", tmp_path)
    assert (secret, public) == (tmp_path / "bench-7.secret", tmp_path / "bench-7.public")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    pair = read_secret(secret)
    assert pair.public == read_public(public) == zmq.curve_public(pair.secret)
    assert public.read_text() == f"{pair.public.decode()} bench-7\n"
    assert read_secret(make_pair("other", tmp_path)[0]) != pair


def test_a_pair_is_never_overwritten(tmp_path: Path) -> None:
    """A second pair of one name is refused, even where only one of the files exists, and writes nothing."""
    secret, public = make_pair("a", tmp_path)
    before = public.read_bytes()
    secret.unlink()
    with pytest.raises(OutputError, match=re.escape(f"{public}: exists already")):
        make_pair("a", tmp_path)
    assert public.read_bytes() == before
    assert not secret.exists()


@pytest.mark.parametrize("name", ["", "../a", "a/b", "-a", ".a", "a b"])
def test_names_that_are_no_file_names(name: str, tmp_path: Path) -> None:
    """A name cannot lead out of the folder or hide the file."""
    with pytest.raises(ConfigError, match="is no name for keys"):
        make_pair(name, tmp_path)


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    """Where the files cannot be written, the sentence names the first and the reason."""
    with pytest.raises(OutputError, match=r"a\.secret: cannot be written: No such file"):
        make_pair("a", tmp_path / "nowhere")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_that_others_can_reach(mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a secret is refused with the command that mends it; from the service manager it is taken."""
    secret, _ = make_pair("a", tmp_path)
    secret.chmod(mode)
    with pytest.raises(ConfigError, match=re.escape(f"run chmod 600 {secret}")):
        read_secret(secret)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "elsewhere"))
    with pytest.raises(ConfigError, match="chmod 600"):
        read_secret(secret)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_secret(secret).secret == secret.read_bytes().strip()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "the secret key cannot be read: No such file or directory"),
        (b"", "must hold one secret key, but holds 0"),
        (b"x" * 39, "line 1 does not begin with a secret key (40 characters of Z85)"),
        (b"x" * 41, "line 1 does not begin with a secret key"),
        (b"\n" + b"~" * 40, "line 2 does not begin with a secret key"),
        (b"\xff" * 40, "line 1 does not begin with a secret key"),
        (b"x" * 40 + b"\n" + b"y" * 40, "must hold one secret key, but holds 2"),
    ],
)
def test_what_is_no_secret(content: bytes | None, why: str, tmp_path: Path) -> None:
    """A missing or malformed key file is named in one sentence, which does not show what may be secret."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        read_secret(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert why in str(caught.value)
    assert "xxxx" not in str(caught.value).removeprefix(str(path))


def test_the_list_is_a_file_or_a_folder(tmp_path: Path) -> None:
    """A file has a key a line, with or without a name; of a folder all `*.public` count and nothing else."""
    keys = [read_public(make_pair(name, tmp_path)[1]) for name in ("a", "b")]
    assert read_allowed(tmp_path) == frozenset(keys)
    listed = tmp_path / "readers"
    listed.write_bytes(keys[0] + b"\n\n" + keys[1] + b" of the laptop\n")
    assert read_allowed(listed) == frozenset(keys)
    assert read_allowed(tmp_path / "a.public") == {keys[0]}


def test_a_list_without_a_key(tmp_path: Path) -> None:
    """A list that lets nobody in is a mistake; so is one that is not there."""
    with pytest.raises(ConfigError, match=r"no file \*\.public, so nobody could connect"):
        read_allowed(tmp_path)
    with pytest.raises(ConfigError, match="nowhere: the public key cannot be read"):
        read_allowed(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no public key, so nobody could connect"):
        read_allowed(os.devnull)


def test_the_wrong_key_of_a_pair(tmp_path: Path) -> None:
    """A key that is given in the place of the other one would let nobody in, and say nothing."""
    secret, public = make_pair("bench", tmp_path)
    with pytest.raises(ConfigError, match=r"bench\.secret: is the other key of the pair .* the public one"):
        read_public(secret)
    with pytest.raises(ConfigError, match=r"bench\.public: is the other key of the pair .* the secret one"):
        read_secret(public)
