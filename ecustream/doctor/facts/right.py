"""Finds out whether this process may capture, by doing what capture begins with."""

import os
import socket
from dataclasses import dataclass

from ecustream.capture.afpacket import PacketRing
from ecustream.config import CaptureConfig
from ecustream.doctor.facts.link import read_link
from ecustream.errors import ConfigError

__all__ = ["RingTrial", "capture_refusal", "try_ring"]


@dataclass(frozen=True)
class RingTrial:
    """A ring that was made and given back.

    Attributes:
        refusal: why there is none, a sentence; None where all is well.
        promiscuous: whether the interface was promiscuous meanwhile.
    """

    refusal: str | None
    promiscuous: bool = False


def capture_refusal() -> OSError | None:
    """Why a packet socket cannot be opened; None where it can.

    Raises:
        AttributeError: this is no Linux.
    """
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except OSError as error:
        return error
    return None


def try_ring(index: int, name: str, capture: CaptureConfig) -> RingTrial:
    """Make the ring that a run would make on this interface; no frame gets in."""
    try:
        ring = PacketRing(
            index,
            name,
            capture.ring_mib << 20,
            promiscuous=capture.promiscuous,
            outgoing=capture.outgoing,
        )
    except ConfigError as error:
        return RingTrial(str(error))
    except OSError as error:
        return RingTrial(f"interface {name}: {os.strerror(error.errno or 0)}")
    try:
        link = read_link(name)
        return RingTrial(None, link is not None and link.promiscuity > 0)
    finally:
        ring.close()
