"""Chooses what captures on an interface: the kernel's ring, or scapy where there is none."""

import socket
from typing import Literal

from ecustream.capture.afpacket import PacketRing
from ecustream.capture.frame_source import FrameSource
from ecustream.capture.scapy_socket import ScapySocket
from ecustream.errors import ConfigError

__all__ = ["Backend", "open_source"]

Backend = Literal["auto", "afpacket", "scapy"]


def open_source(
    backend: Backend, index: int, name: str, ring_bytes: int, *, promiscuous: bool, outgoing: bool
) -> FrameSource:
    """What captures on an interface from its `start` on.

    Args:
        backend: `auto` is `afpacket` where the system has it, else `scapy`.
        index: of the interface.
        name: of the interface.
        ring_bytes: see `PacketRing`; scapy's buffer is what it is.
        promiscuous: see `PacketRing`.
        outgoing: see `PacketRing`.

    Raises:
        ConfigError: it cannot be captured on this way.
        OSError: the interface is gone; or, with scapy, down.
    """
    has_ring = hasattr(socket, "AF_PACKET")
    if backend == "scapy" or (backend == "auto" and not has_ring):
        return ScapySocket(name, promiscuous=promiscuous, outgoing=outgoing)
    if not has_ring:
        raise ConfigError('capture.backend is "afpacket", which only Linux has; "auto" falls back on scapy')
    return PacketRing(index, name, ring_bytes, promiscuous=promiscuous, outgoing=outgoing)
