"""IP addresses as canonical text, so that equal addresses are equal strings wherever they come from."""

from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

__all__ = ["address_text", "canonical_address"]


@lru_cache(maxsize=4096)
def address_text(raw: bytes) -> str:
    """An IPv4 (4 bytes) or IPv6 (16 bytes) address of a packet as text (RFC 5952)."""
    return inet_ntop(AF_INET if len(raw) == 4 else AF_INET6, raw)


def canonical_address(text: str) -> str:
    """The same address in the form in which packets are shown, e.g. `FD53:0:0::48` as `fd53::48`.

    Raises:
        ValueError: the text is no IPv4 or IPv6 address.
    """
    try:
        if ":" in text:
            return address_text(inet_pton(AF_INET6, text))
        return address_text(inet_pton(AF_INET, text))
    except OSError:
        raise ValueError(f"{text!r} is no IPv4 or IPv6 address") from None
