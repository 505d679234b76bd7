"""Secrets that the service manager hands over as files (`LoadCredential=` of systemd)."""

import os
from collections.abc import Mapping

from ecustream.errors import ConfigError

__all__ = ["is_credential", "resolve_credential"]

_PREFIX = "credential:"


def is_credential(value: str) -> bool:
    """Whether a value of the configuration means a credential, and no path."""
    return value.startswith(_PREFIX)


def resolve_credential(value: str, environ: Mapping[str, str] | None = None) -> str:
    """The path of a secret: of `credential:NAME` the file NAME in `$CREDENTIALS_DIRECTORY`, else `value`.

    Args:
        value: as it stands in the configuration.
        environ: where that variable is read; None for the process's environment.

    Raises:
        ConfigError: the name is no file name, or nothing is handed over.
    """
    if not is_credential(value):
        return value
    name = value.removeprefix(_PREFIX)
    # The folder holds nothing but credentials, and a name must not lead out of it.
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise ConfigError(f'"{value}" must be {_PREFIX}NAME, with a NAME that LoadCredential= gives')
    folder = (os.environ if environ is None else environ).get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise ConfigError(
            f'"{value}" is handed over by systemd, but CREDENTIALS_DIRECTORY is not set; '
            "outside the service name the file itself"
        )
    return os.path.join(folder, name)
