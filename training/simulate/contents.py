"""What payloads hold before anything changes in them."""

import numpy as np

from training.draws import Draws, below, make_key
from training.simulate.protocols import offer_message
from training.simulate.vehicle import SIGNALS, Role, Vehicle

__all__ = ["draw_constant", "draw_signals", "nm_constant", "offers_of", "service_constant"]

MS = 1_000_000

CONSTANTS = np.array([0x00, 0x00, 0xFF, 0x40], dtype=np.uint8)


def draw_constant(draws: Draws, length: int) -> bytes:
    """`length` bytes of the kind that is found where nothing changes."""
    key = make_key("constant", draws.integer(0, 2**31 - 1))
    return CONSTANTS[below(key, np.arange(length), len(CONSTANTS))].tobytes()


def draw_signals(draws: Draws, length: int) -> tuple[tuple[int, int, int, int], ...]:
    """`PduModel.signals` for a payload of `length` bytes, 8 or more; the first four bytes are left alone."""
    return tuple(
        (place, draws.integer(50, 2_000) * MS, draws.integer(1, 127), draws.integer(0, 255))
        for place in _distinct(draws, 4, length - 1, SIGNALS)
    )


def _distinct(draws: Draws, low: int, high: int, count: int) -> list[int]:
    """`count` different numbers from low to high; few of many, so that repeats are rare."""
    found: list[int] = []
    while len(found) < count:
        number = draws.integer(low, high)
        if number not in found:
            found.append(number)
    return found


def service_constant(role: Role, length: int) -> bytes:
    """The payload of a SOME/IP request or reply after id and length: rest of the header, and zeros."""
    message_type = 0x80 if role == "reply" else 0x00
    return bytes([0, 0, 0, 0, 1, 1, message_type, 0]).ljust(length, b"\0")


def nm_constant(node: int, length: int) -> bytes:
    """The payload of network management: no control bits, and the node id."""
    return bytes([0, node]).ljust(length, b"\xff")


def offers_of(vehicle: Vehicle, ecu: int) -> bytes:
    """The payload of service discovery with which an ECU offers the services of its replies, one or more."""
    replies = [pdu for pdu in vehicle.pdus if pdu.ecu == ecu and pdu.role == "reply"]
    socket = vehicle.sockets[replies[0].sockets[0]]
    services = sorted({(pdu.pdu_id >> 16, 1) for pdu in replies})
    return offer_message(services, socket.source, socket.source_port)
