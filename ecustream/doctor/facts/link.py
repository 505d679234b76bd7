"""Asks the kernel about one network interface (rtnetlink(7), RTM_GETLINK)."""

import errno
import socket
from dataclasses import dataclass
from struct import Struct, pack, unpack, unpack_from

__all__ = ["LinkFacts", "parse_link", "read_link"]

_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_NLMSG_ERROR = 2
_REQUEST = 1
_IFNAME, _MTU, _STATS64, _PROMISCUITY, _CARRIER = 3, 4, 23, 30, 33
_ATTRIBUTE_TYPE = 0x3FFF
_IFF_UP = 0x1
_LONGEST_NAME = 15
_MOST_BYTES = 1 << 16
_header = Struct("=IHHII")
_link = Struct("=BxHiII")
# struct rtnl_link_stats64 (linux/if_link.h).
_stats = Struct("=16Q")


@dataclass(frozen=True)
class LinkFacts:
    """An interface as the kernel knows it.

    Attributes:
        index: its number.
        hardware: type of its frames, ARPHRD_ of linux/if_arp.h: 1 is Ethernet, 772 loopback.
        up: whether it is switched on.
        carrier: whether the other side is there; None where the kernel does not say.
        mtu: largest payload of a frame, bytes.
        promiscuity: how many want it promiscuous.
        rx_packets: frames received since it was made.
        rx_errors: of these, how many were bad.
        rx_crc: how many had a wrong checksum.
        rx_dropped: frames that the kernel had no use or no room for.
        rx_missed: frames for which the card had no room.
        rx_fifo: frames lost in the card's FIFO.
        rx_over: frames that came too fast for the card.
    """

    index: int
    hardware: int = 1
    up: bool = True
    carrier: bool | None = True
    mtu: int = 1500
    promiscuity: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_crc: int = 0
    rx_dropped: int = 0
    rx_missed: int = 0
    rx_fifo: int = 0
    rx_over: int = 0


def read_link(name: str) -> LinkFacts | None:
    """What the kernel says of the interface; None where there is none of that name.

    Raises:
        OSError: the kernel cannot be asked.
    """
    encoded = name.encode()
    if not 0 < len(encoded) <= _LONGEST_NAME or b"\0" in encoded:
        return None
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        attribute = pack("=HH16s", 20, _IFNAME, encoded)
        request = _link.pack(0, 0, 0, 0, 0) + attribute
        kernel.send(_header.pack(_header.size + len(request), _RTM_GETLINK, _REQUEST, 1, 0) + request)
        kernel.settimeout(2)
        return parse_link(kernel.recv(_MOST_BYTES))


def parse_link(message: bytes) -> LinkFacts | None:
    """Read the answer to RTM_GETLINK; None where it says that there is no such interface.

    Raises:
        OSError: it is another error, or no such answer.
    """
    if len(message) < _header.size + 4:
        raise OSError(errno.EBADMSG, "the kernel's answer is too short")
    length, kind, *_ = _header.unpack_from(message)
    if kind == _NLMSG_ERROR:
        code = -unpack_from("=i", message, _header.size)[0]
        if code == errno.ENODEV:
            return None
        raise OSError(code, "the kernel does not tell of its interfaces")
    body = message[_header.size : min(length, len(message))]
    if kind != _RTM_NEWLINK or len(body) < _link.size:
        raise OSError(errno.EBADMSG, f"the kernel's answer is of another kind ({kind})")
    _, hardware, index, flags, _ = _link.unpack_from(body)
    found = _attributes(body[_link.size :])
    carrier = found.get(_CARRIER)
    counts = found.get(_STATS64, b"")
    stats = _stats.unpack_from(counts) if len(counts) >= _stats.size else (0,) * 16
    return LinkFacts(
        index=index,
        hardware=hardware,
        up=bool(flags & _IFF_UP),
        carrier=bool(carrier[0]) if carrier else None,
        mtu=_number(found.get(_MTU)),
        promiscuity=_number(found.get(_PROMISCUITY)),
        rx_packets=stats[0],
        rx_errors=stats[4],
        rx_dropped=stats[6],
        rx_over=stats[11],
        rx_crc=stats[12],
        rx_fifo=stats[14],
        rx_missed=stats[15],
    )


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & _ATTRIBUTE_TYPE] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _number(value: bytes | None) -> int:
    return int(unpack("=I", value)[0]) if value is not None and len(value) == 4 else 0
