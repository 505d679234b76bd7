"""Secrets from the service manager are named, others are paths."""

from pathlib import Path

import pytest

from ecustream.credentials import resolve_credential
from ecustream.errors import ConfigError
from ecustream.publish.keys import make_pair, read_secret


def test_a_name_is_a_file_of_the_managers_folder() -> None:
    """`credential:NAME` lies in $CREDENTIALS_DIRECTORY."""
    environ = {"CREDENTIALS_DIRECTORY": "/run/credentials/ecustream@eth1.service"}
    assert resolve_credential("credential:curve", environ) == "/run/credentials/ecustream@eth1.service/curve"


@pytest.mark.parametrize("path", ["bench.secret", "/etc/keys/bench.secret", "", "credentials/bench"])
def test_everything_else_is_left_as_it_is(path: str) -> None:
    """A path stays a path, also where credentials are handed over."""
    assert resolve_credential(path, {"CREDENTIALS_DIRECTORY": "/run/credentials/x"}) == path


@pytest.mark.parametrize("name", ["", ".", "..", "../shadow", "/etc/shadow", "a/b", "a\0b"])
def test_a_name_does_not_lead_out_of_the_folder(name: str) -> None:
    """Only the names that LoadCredential= knows."""
    with pytest.raises(ConfigError, match="LoadCredential="):
        resolve_credential(f"credential:{name}", {"CREDENTIALS_DIRECTORY": "/run/credentials/x"})


@pytest.mark.parametrize("environ", [{}, {"CREDENTIALS_DIRECTORY": ""}])
def test_outside_the_service(environ: dict[str, str]) -> None:
    """The sentence says why there is nothing, and what to do."""
    with pytest.raises(ConfigError, match="CREDENTIALS_DIRECTORY is not set; outside the service"):
        resolve_credential("credential:curve", environ)


def test_a_key_that_is_handed_over_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mode, 0440 under systemd, is none of a secret that others may read."""
    secret, _ = make_pair("curve", tmp_path)
    secret.rename(tmp_path / "curve").chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert len(read_secret(resolve_credential("credential:curve")).secret) == 40
