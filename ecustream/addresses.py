"""Addresses that a socket may be bound to."""

import ipaddress
import re

from ecustream.errors import ConfigError

__all__ = ["check_bind_url"]


def check_bind_url(url: str, *, allow_remote: bool) -> None:
    """Refuses a URL that cannot be bound as meant, before libzmq takes it for something else.

    libzmq takes the port modulo 65536 and replaces any file that stands at an ipc path.

    Raises:
        ConfigError: neither `tcp://HOST:PORT` nor `ipc://PATH`, or open to other machines although
            `allow_remote` is false.
    """
    if re.fullmatch(r"ipc://[^*].*", url):
        return
    match = re.fullmatch(r"tcp://(\[[^\]]+\]|[^:\[\]/]+):(\d{1,5}|\*)", url)
    if match is None or (match[2] != "*" and int(match[2]) > 65535):
        raise ConfigError(
            f'"{url}" is no socket address; write tcp://HOST:PORT (PORT up to 65535) or ipc://PATH'
        )
    if not allow_remote and not _is_loopback(match[1].strip("[]")):
        raise ConfigError(
            f'"{url}" would let other machines read the events; '
            "give publish.curve_secret and publish.curve_clients, or bind to 127.0.0.1, "
            "or set publish.allow_remote = true to let in everybody"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "lo")
