"""The two addresses of a publisher, as a person writes them."""

import re

from ecustream.errors import ConfigError

__all__ = ["addresses"]


def addresses(text: str) -> tuple[str, str]:
    """The PUB and the reply address in `PUB,REPLY`, or in `PUB` alone: then the reply port is the next one.

    Raises:
        ConfigError: the reply address is missing and cannot be told from the other.
    """
    pub, comma, reply = text.partition(",")
    if comma:
        return pub, reply
    match = re.fullmatch(r"(tcp://.+:)(\d{1,5})", pub)
    if match is None:
        raise ConfigError(f'--connect "{text}": write tcp://HOST:PORT, or both addresses as PUB,REPLY')
    return pub, f"{match[1]}{int(match[2]) + 1}"
