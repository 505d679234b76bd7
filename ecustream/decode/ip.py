"""Finds the UDP datagram in a captured frame: link layer, VLAN tags, IPv4, IPv6 and its extension headers.

Nothing here raises on bad input: each function returns what it found or the `End` of the frame.
Checksums are not verified: a capture taken on the sending host holds half-computed ones.

Sources: IEEE 802.1Q, RFC 791 (IPv4), RFC 8200 (IPv6), RFC 4302 (AH), RFC 768 (UDP), and the LINKTYPE_
registry of tcpdump.org for the cooked headers.
"""

from struct import Struct
from typing import NamedTuple

__all__ = [
    "BAD_EXTENSION_HEADER",
    "DECODED",
    "EMPTY_DATAGRAM",
    "NOT_UDP",
    "SNAP_LENGTH",
    "UDP",
    "End",
    "Fragment",
    "Link",
    "Packet",
    "find_link",
    "find_packet",
    "find_udp",
    "walk_extensions",
]


class End(NamedTuple):
    """How a frame ended: a class of the ledger and its reason."""

    kind: str
    reason: str | None = None


DECODED = End("decoded")
EMPTY_DATAGRAM = End("filtered", "empty_datagram")
NOT_IP = End("filtered", "not_ip")
NOT_UDP = End("filtered", "not_udp")
BAD_EXTENSION_HEADER = End("unreadable", "bad_extension_header")
BAD_FRAGMENT = End("unreadable", "bad_fragment")
BAD_IP_HEADER = End("unreadable", "bad_ip_header")
BAD_UDP_LENGTH = End("unreadable", "bad_udp_length")
JUMBOGRAM = End("unreadable", "jumbogram")
SNAP_LENGTH = End("unreadable", "snap_length")
TOO_MANY_VLAN_TAGS = End("unreadable", "too_many_vlan_tags")
TRUNCATED_ETHERNET = End("unreadable", "truncated_ethernet")
TRUNCATED_IP = End("unreadable", "truncated_ip")
TRUNCATED_LINK = End("unreadable", "truncated_link_header")
TRUNCATED_UDP = End("unreadable", "truncated_udp")
TRUNCATED_VLAN = End("unreadable", "truncated_vlan")

UDP = 17
MAX_VLAN_TAGS = 2
_VLAN_TAGS = frozenset((0x8100, 0x88A8, 0x9100))
_IPV4, _IPV6 = 0x0800, 0x86DD
_COOKED = {113: (16, 14), 276: (20, 0)}
"""Linktype to (header length, offset of the protocol field): Linux SLL and SLL2."""
_RAW_IP = {101: (4, 6), 228: (4,), 229: (6,)}
"""Linktype to the IP versions that may follow without a link header."""

_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AH, _DESTINATION = 0, 43, 44, 51, 60
_ipv4_header = Struct(">BxHHHxB2x4s4s").unpack_from
_udp_header = Struct(">HHH").unpack_from


class Link(NamedTuple):
    """What the link layer carries: IP version, offset of the IP header, innermost VLAN id."""

    version: int
    start: int
    vlan: int | None


class Fragment(NamedTuple):
    """A piece of a larger packet; `offset` in bytes, `more` where pieces follow."""

    ident: int
    offset: int
    more: bool


class Packet(NamedTuple):
    """An IP packet: raw addresses, protocol, and where its payload lies in the frame."""

    src: bytes
    dst: bytes
    protocol: int
    start: int
    end: int
    fragment: Fragment | None


def find_link(linktype: int, data: bytes) -> Link | End:
    """Skip the link header and up to two VLAN tags."""
    if linktype == 1:
        offset, protocol_at, truncated = 14, 12, TRUNCATED_ETHERNET
    elif linktype in _COOKED:
        offset, protocol_at = _COOKED[linktype]
        truncated = TRUNCATED_LINK
    elif linktype in _RAW_IP:
        if not data:
            return TRUNCATED_IP
        version = data[0] >> 4
        return Link(version, 0, None) if version in _RAW_IP[linktype] else BAD_IP_HEADER
    else:
        return End("unreadable", f"linktype_{linktype}")
    if len(data) < offset:
        return truncated
    protocol = int.from_bytes(data[protocol_at : protocol_at + 2], "big")
    vlan = None
    tags = 0
    while protocol in _VLAN_TAGS:
        if tags == MAX_VLAN_TAGS:
            return TOO_MANY_VLAN_TAGS
        if len(data) < offset + 4:
            return TRUNCATED_VLAN
        tags += 1
        vlan = int.from_bytes(data[offset : offset + 2], "big") & 0xFFF
        protocol = int.from_bytes(data[offset + 2 : offset + 4], "big")
        offset += 4
    if protocol == _IPV4:
        return Link(4, offset, vlan)
    if protocol == _IPV6:
        return Link(6, offset, vlan)
    return NOT_IP


def find_packet(link: Link, data: bytes, wire_length: int) -> Packet | End:
    """Read the IP header; the packet ends where its length field says, not where the frame does.

    Args:
        link: what `find_link` found in the frame.
        data: the captured bytes.
        wire_length: length of the frame on the wire, to tell a snap length from a damaged packet.
    """
    found = _ipv4(data, link.start) if link.version == 4 else _ipv6(data, link.start)
    if found == TRUNCATED_IP and wire_length > len(data):
        return SNAP_LENGTH
    return found


def _ipv4(data: bytes, at: int) -> Packet | End:
    if len(data) < at + 20:
        return TRUNCATED_IP
    first, length, ident, flags, protocol, src, dst = _ipv4_header(data, at)
    header = (first & 0xF) * 4
    if first >> 4 != 4 or header < 20 or length < header:
        return BAD_IP_HEADER
    end = at + length
    if end > len(data):
        return TRUNCATED_IP
    offset = (flags & 0x1FFF) * 8
    more = bool(flags & 0x2000)
    start = at + header
    fragment = None
    if offset or more:
        if not _plausible_fragment(offset, more, end - start):
            return BAD_FRAGMENT
        fragment = Fragment(ident, offset, more)
    return Packet(src, dst, protocol, start, end, fragment)


def _ipv6(data: bytes, at: int) -> Packet | End:
    if len(data) < at + 40:
        return TRUNCATED_IP
    if data[at] >> 4 != 6:
        return BAD_IP_HEADER
    length = int.from_bytes(data[at + 4 : at + 6], "big")
    protocol = data[at + 6]
    if length == 0 and protocol == _HOP_BY_HOP:
        return JUMBOGRAM
    end = at + 40 + length
    if end > len(data):
        return TRUNCATED_IP
    upper = walk_extensions(data, protocol, at + 40, end)
    if isinstance(upper, End):
        return upper
    return Packet(data[at + 8 : at + 24], data[at + 24 : at + 40], upper[0], upper[1], end, upper[2])


def walk_extensions(data: bytes, protocol: int, at: int, end: int) -> tuple[int, int, Fragment | None] | End:
    """Follow IPv6 extension headers from `at` to the upper layer or to a fragment header.

    Returns:
        Protocol number, offset of what it heads, and the fragment where there is one (the walk stops
        there: the rest can be read only when the packet is whole again).
    """
    while True:
        if protocol in (_HOP_BY_HOP, _ROUTING, _DESTINATION, _AH):
            if at + 8 > end:
                return BAD_EXTENSION_HEADER
            size = (data[at + 1] + 2) * 4 if protocol == _AH else (data[at + 1] + 1) * 8
            if at + size > end:
                return BAD_EXTENSION_HEADER
            protocol = data[at]
            at += size
        elif protocol == _FRAGMENT:
            if at + 8 > end:
                return BAD_EXTENSION_HEADER
            protocol = data[at]
            field = int.from_bytes(data[at + 2 : at + 4], "big")
            ident = int.from_bytes(data[at + 4 : at + 8], "big")
            offset, more = field & 0xFFF8, bool(field & 1)
            at += 8
            # A header that says "first and last" is an atomic fragment (RFC 6946): a whole packet.
            if offset or more:
                if not _plausible_fragment(offset, more, end - at):
                    return BAD_FRAGMENT
                return protocol, at, Fragment(ident, offset, more)
        else:
            return protocol, at, None


def _plausible_fragment(offset: int, more: bool, size: int) -> bool:
    """Whether a piece can belong to a packet: not empty, in eights unless it is the last, within 64 KiB."""
    return size > 0 and offset + size <= 0xFFFF and not (more and size % 8)


def find_udp(data: bytes, start: int, end: int) -> tuple[int, int, int, int] | End:
    """Read the UDP header at `start` of an IP payload that ends at `end`.

    Returns:
        Source port, destination port, and start and end of the datagram's payload.
    """
    if start + 8 > end:
        return TRUNCATED_UDP
    sport, dport, length = _udp_header(data, start)
    if length == 0:
        return JUMBOGRAM
    if length < 8:
        return BAD_UDP_LENGTH
    if start + length > end:
        return TRUNCATED_UDP
    if length == 8:
        return EMPTY_DATAGRAM
    return sport, dport, start + 8, start + length
