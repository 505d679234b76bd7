"""Reads the Interface Description Block of pcapng: whose packets they are and how their clock counts."""

from struct import Struct
from typing import NamedTuple

__all__ = ["Interface", "parse_interface"]

END_OF_OPTIONS = 0
IF_NAME = 2
IF_TSRESOL = 9
IF_TSOFFSET = 14
FIXED_PART = 8
DEFAULT_TSRESOL = 6
NS_DIGITS = 9


class Interface(NamedTuple):
    """What packets of one interface have in common.

    A time stamp of `ticks` is `ticks * multiply // divide + offset_ns` nanoseconds since 1970.
    `snap_length` is 0 where packets are not cut.
    """

    name: str
    linktype: int
    snap_length: int
    multiply: int
    divide: int
    offset_ns: int


def parse_interface(body: bytes, order: str, default_name: str) -> tuple[Interface | None, str | None]:
    """Read a block's body (draft-ietf-opsawg-pcapng section 4.2).

    Args:
        body: the block between its two lengths.
        order: byte order of the section, `<` or `>`.
        default_name: name of an interface that has none.

    Returns:
        The interface with all that could be read of it, None where not even its link type is there; and
        a clause about what is wrong, or None.
    """
    if len(body) < FIXED_PART:
        return None, f"an interface description of {len(body)} bytes, at least {FIXED_PART} are needed"
    linktype, _, snap_length = Struct(order + "HHI").unpack_from(body)
    name = default_name
    multiply, divide = _ns_of_ticks(DEFAULT_TSRESOL)
    offset_ns = 0
    problem = None
    unpack_option = Struct(order + "HH").unpack_from
    at = FIXED_PART
    while at + 4 <= len(body):
        code, length = unpack_option(body, at)
        if code == END_OF_OPTIONS:
            break
        value = body[at + 4 : at + 4 + length]
        if len(value) < length:
            problem = f"option {code} of an interface is {length} bytes long, {len(value)} are there"
            break
        if code == IF_NAME:
            name = value.decode("utf-8", "replace").rstrip("\0") or default_name
        elif code == IF_TSRESOL and length == 1:
            multiply, divide = _ns_of_ticks(value[0])
        elif code == IF_TSOFFSET and length == 8:
            offset_ns = Struct(order + "q").unpack(value)[0] * 10**NS_DIGITS
        elif code in (IF_TSRESOL, IF_TSOFFSET):
            problem = f"time option {code} of an interface is {length} bytes long and is ignored"
        at += 4 + length + (-length % 4)
    return Interface(name, linktype, snap_length, multiply, divide, offset_ns), problem


def _ns_of_ticks(tsresol: int) -> tuple[int, int]:
    """Factor and divisor from ticks to nanoseconds; a tick is 10^-n s, or 2^-n s with the top bit set."""
    exponent = tsresol & 0x7F
    if tsresol & 0x80:
        return 10**NS_DIGITS, 1 << exponent
    if exponent <= NS_DIGITS:
        return 10 ** (NS_DIGITS - exponent), 1
    return 1, 10 ** (exponent - NS_DIGITS)
