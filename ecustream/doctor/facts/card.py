"""Asks the driver of a network interface (linux/ethtool.h, by the ioctl SIOCETHTOOL)."""

import ctypes
import socket
from dataclasses import dataclass
from fcntl import ioctl
from struct import pack, unpack_from

__all__ = ["CardFacts", "ask_driver", "feature_names", "read_card"]

_SIOCETHTOOL = 0x8946
_GDRVINFO, _GRINGPARAM, _GSTRINGS, _GSSET_INFO = 0x03, 0x10, 0x1B, 0x37
_GFEATURES, _GET_TS_INFO, _GLINKSETTINGS = 0x3A, 0x41, 0x4C
_FEATURES_SET = 4
_NAME_BYTES = 32
_UNKNOWN_SPEED = (0, 0xFFFFFFFF)
_DUPLEX = {0: False, 1: True}
_MOST_FEATURES = 4096


@dataclass(frozen=True)
class CardFacts:
    """What a driver says; None where it does not.

    Attributes:
        driver: its name.
        on: the offloads in force.
        switchable: those that can be switched.
        speed_mbit: Mbit/s.
        full_duplex: whether both sides may send at once.
        rx_slots: frames for which the card has room.
        rx_slots_most: to how many that can be raised.
        clock: number N of its clock `/dev/ptpN`.
    """

    driver: str | None = None
    on: frozenset[str] | None = None
    switchable: frozenset[str] = frozenset()
    speed_mbit: int | None = None
    full_duplex: bool | None = None
    rx_slots: int | None = None
    rx_slots_most: int | None = None
    clock: int | None = None


def read_card(name: str) -> CardFacts:
    """What the driver of the interface says; nothing of this needs a right."""
    on, switchable = _features(name) or (None, frozenset())
    speed, full_duplex = _link_settings(name)
    told = _asked(name, pack("=I", _GDRVINFO), 196)
    rings = _asked(name, pack("=I", _GRINGPARAM), 36)
    times = _asked(name, pack("=I", _GET_TS_INFO), 44)
    clock = unpack_from("=i", times, 8)[0] if times else -1
    return CardFacts(
        driver=_text(told[4:36]) if told else None,
        on=on,
        switchable=switchable,
        speed_mbit=speed,
        full_duplex=full_duplex,
        rx_slots=unpack_from("=I", rings, 20)[0] if rings else None,
        rx_slots_most=unpack_from("=I", rings, 4)[0] if rings else None,
        clock=clock if clock >= 0 else None,
    )


def ask_driver(name: str, command: bytes, size: int) -> bytes:
    """The driver's answer: the command's structure, filled in.

    Args:
        name: of the interface.
        command: how the structure begins, its number first.
        size: of the whole structure, in bytes.

    Raises:
        OSError: there is no such interface, or its driver does not know that command.
    """
    structure = ctypes.create_string_buffer(command, max(size, len(command)))
    request = pack("16sP16x", name.encode(), ctypes.addressof(structure))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
        ioctl(any_socket, _SIOCETHTOOL, request)
    return structure.raw


def feature_names(name: str) -> list[str]:
    """The offloads that this kernel knows, in the order of their bits.

    Raises:
        OSError: as `ask_driver`.
    """
    answer = ask_driver(name, pack("=IIQI", _GSSET_INFO, 0, 1 << _FEATURES_SET, 0), 20)
    count = min(unpack_from("=I", answer, 16)[0], _MOST_FEATURES)
    strings = ask_driver(name, pack("=III", _GSTRINGS, _FEATURES_SET, count), 12 + _NAME_BYTES * count)
    return [_text(strings[at : at + _NAME_BYTES]) for at in range(12, len(strings), _NAME_BYTES)]


def _features(name: str) -> tuple[frozenset[str], frozenset[str]] | None:
    try:
        names = feature_names(name)
        words = (len(names) + 31) // 32
        answer = ask_driver(name, pack("=II", _GFEATURES, words), 8 + 16 * words)
    except OSError:
        return None
    on, switchable = set(), set()
    for number, feature in enumerate(names):
        # For 32 offloads each: which can be switched, were asked for, are on, never change.
        available, _, active, _ = unpack_from("=4I", answer, 8 + 16 * (number // 32))
        bit = 1 << number % 32
        if active & bit:
            on.add(feature)
        if available & bit:
            switchable.add(feature)
    return frozenset(on), frozenset(switchable)


def _link_settings(name: str) -> tuple[int | None, bool | None]:
    """Speed and duplex; the first answer says, as a negative number, how long the second will be."""
    first = _asked(name, pack("=I", _GLINKSETTINGS), 48)
    if first is None:
        return None, None
    words = -unpack_from("=b", first, 15)[0]
    if words <= 0:
        return None, None
    answer = _asked(name, pack("=I11xb", _GLINKSETTINGS, words), 48 + 12 * words)
    if answer is None:
        return None, None
    speed, duplex = unpack_from("=IB", answer, 4)
    return None if speed in _UNKNOWN_SPEED else speed, _DUPLEX.get(duplex)


def _asked(name: str, command: bytes, size: int) -> bytes | None:
    try:
        return ask_driver(name, command, size)
    except OSError:
        return None


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("ascii", "replace")
