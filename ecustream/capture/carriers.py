"""What a logger's own frame carries, whichever protocol it is in, and where in the frame that begins."""

from collections.abc import Sequence
from typing import NamedTuple

from ecustream.capture.packet_filter import LOGGER_TYPES
from ecustream.traffic import Frame

__all__ = [
    "CARRIER",
    "CRC_ERROR",
    "HEADER",
    "MAX_TIME_NS",
    "PLP",
    "SEGMENT",
    "SNAP_LENGTH",
    "TIME",
    "TRUNCATED",
    "VERSION",
    "Carrier",
    "End",
    "Entry",
    "candidates",
    "find_payload",
]

TECMP_OR_CMP, PLP = LOGGER_TYPES
MAX_TIME_NS = (1 << 63) - 1
"""The year 2262; later times do not fit the 64 bits in which they are kept downstream."""

_ETHERNET = 1
_TAGS = frozenset((0x8100, 0x88A8, 0x9100))
_MAX_TAGS = 2

_FIRST_OF_TAGS = {kind >> 8 for kind in _TAGS}
_FIRST_OF_LOGGERS = {kind >> 8 for kind in LOGGER_TYPES}
_FIRST_BELOW_A_TAG = _FIRST_OF_TAGS | _FIRST_OF_LOGGERS


class End(NamedTuple):
    """How a frame ended: a class of the ledger and its reason."""

    kind: str
    reason: str


CARRIER = End("filtered", "logger_carrier")
CRC_ERROR = End("unreadable", "logger_crc_error")
HEADER = End("unreadable", "logger_header")
SEGMENT = End("unreadable", "logger_segment")
SNAP_LENGTH = End("unreadable", "snap_length")
TIME = End("unreadable", "logger_time")
TRUNCATED = End("unreadable", "logger_truncated")
VERSION = End("unreadable", "logger_version")


class Entry(NamedTuple):
    """One recorded frame of any bus.

    Attributes:
        interface: id of the logger's input.
        time_ns: when it was recorded, by the logger's clock, nanoseconds since 1970.
        data: the frame, where it is an Ethernet frame and whole as far as the logger has it.
        wire_length: see `Frame`.
        end: how it ends where it is none.
    """

    interface: int
    time_ns: int
    data: bytes
    wire_length: int
    end: End | None


class Carrier(NamedTuple):
    """What one frame of a logger says.

    Attributes:
        end: how the frame itself ends.
        entries: what it carries; each is entered as a frame of its own.
        device: id of the logger; None where not even that can be read.
        counter: the logger counts its messages with it, 16 bits.
        series: the widest and the narrowest set of messages that may be counted together, this one in both.
        overflows: how many entries say that recordings before them were lost.
        overflowed: the logger says that it has lost recordings at some time.
    """

    end: End
    entries: Sequence[Entry] = ()
    device: int | None = None
    counter: int = 0
    series: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    overflows: int = 0
    overflowed: bool = False


def candidates(frames: list[Frame]) -> bool:
    """Whether a logger's frame may be among these.

    It is asked of all frames there are, so it looks at two bytes of each, where a logger's EtherType begins:
    at 12, or after a tag at 16, or where a second tag is there.
    """
    try:
        first = {frame.data[12] for frame in frames}
        if not _FIRST_OF_LOGGERS.isdisjoint(first):
            return True
        if _FIRST_OF_TAGS.isdisjoint(first):
            return False
        return not _FIRST_BELOW_A_TAG.isdisjoint({frame.data[16] for frame in frames})
    except IndexError:
        return any(find_payload(frame) is not None for frame in frames)


def find_payload(frame: Frame) -> tuple[int, int] | None:
    """A logger's EtherType and where its payload begins, after up to two VLAN tags; None for other frames."""
    if frame.linktype != _ETHERNET:
        return None
    data, at = frame.data, 12
    for _ in range(_MAX_TAGS + 1):
        kind = int.from_bytes(data[at : at + 2], "big")
        if kind in LOGGER_TYPES:
            return kind, at + 2
        if kind not in _TAGS:
            return None
        at += 4
    return None
