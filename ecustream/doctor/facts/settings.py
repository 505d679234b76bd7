"""Reads the configuration, and what it names, as far as that can be done without a run."""

from pathlib import Path
from typing import Any

from ecustream.config import Config, load_config
from ecustream.decode.names import NameTable
from ecustream.decode.pdus import Sockets
from ecustream.errors import ConfigError
from ecustream.publish.curve import Curve

__all__ = ["check_settings", "read_settings"]


def read_settings(path: Path | None, source: str | None) -> Config:
    """The configuration in force; `source` is the command line's.

    Raises:
        ConfigError: it cannot be used.
    """
    overrides: dict[str, Any] = {"input.source": source}
    return load_config(path, overrides)


def check_settings(config: Config) -> None:
    """Check what the configuration names: layouts, names, keys.

    Raises:
        EcustreamError: something of it is wrong; the sentence names the key or file.
    """
    try:
        Sockets(config.input.layouts)
    except ConfigError as error:
        raise ConfigError(f"input.layouts: {error}") from None
    if config.input.names is not None:
        NameTable.load(config.input.names)
    publish = config.publish
    if publish.enabled and publish.curve_secret is not None and publish.curve_clients is not None:
        Curve(publish.curve_secret, publish.curve_clients)
