"""Splits datagrams into PDUs: AUTOSAR SoAd headers, SOME/IP, or the whole datagram as one PDU.

Layouts of a socket (destination address and port):

    soad    [u32 id][u32 length][payload], big-endian, repeated (AUTOSAR SWS Socket Adaptor 7.3; the
            length does not count the header).
    someip  [u32 service<<16|method][u32 length][u32 request id][u8 protocol version][u8 interface
            version][u8 message type][u8 return code][payload], repeated; the length counts from the
            request id on (AUTOSAR PRS_SOMEIPProtocol). The PDU's id is service<<16|method, so service
            discovery is the ordinary id 0xffff8100; its payload is what follows the 16 bytes.
    none    no header: the datagram is one PDU without an id.
    auto    nothing is known: the first datagrams are taken one by one, each as what it chains as
            exactly (someip with plausible version and type, else soad, else none). When 20 datagrams in
            sequence were of one layout, the socket has that layout from then on. Nothing waits for the
            decision. Only a socket believed to be someip becomes soad when a datagram chains as soad
            alone: a SoAd payload may look like a SOME/IP header for long.

Once a socket's layout is known it is strict, and what does not chain is damage. The good PDUs in front
are delivered; the rest of the datagram counts as one PDU that ended `unreadable`: `pdu_truncated` (the
length points past the datagram), `pdu_trailing_bytes` (less than a header is left) or
`bad_someip_length` (shorter than its own header). Of a segmented SOME/IP message (SOME/IP-TP) only the
first segment is delivered, the others end `filtered{someip_tp_segment}`, as the message was sent once.
So `pdus entered = delivered + unreadable + filtered`; those delivered end as `lines` in
`ecustream.decode.lines`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from struct import Struct

from ecustream.decode.addresses import canonical_address
from ecustream.decode.ip import End
from ecustream.errors import ConfigError
from ecustream.traffic import Flow, Frame, Pdu

__all__ = ["LAYOUTS", "PROOF", "Socket", "Sockets", "Splitter", "guess_layout"]

PROOF = 20
"""So many datagrams in sequence with one layout prove it; a count of the project's notes."""

Splitter = Callable[[Frame, Flow, bytes, int, int, list[Pdu], Counter[End]], None]
"""Takes a frame, its flow, and data[start:end] of a datagram; appends PDUs, counts those that ended."""

_TRUNCATED = End("unreadable", "pdu_truncated")
_TRAILING = End("unreadable", "pdu_trailing_bytes")
_BAD_LENGTH = End("unreadable", "bad_someip_length")
_SEGMENT = End("filtered", "someip_tp_segment")

_SOMEIP_TYPES = frozenset((0x00, 0x01, 0x02, 0x40, 0x41, 0x42, 0x80, 0x81, 0xC0, 0xC1))
_TP = 0x20
_SOMEIP_TP_TYPES = frozenset(kind | _TP for kind in _SOMEIP_TYPES)
_MAX_RETURN_CODE = 0x5E

_id_and_length = Struct(">II").unpack_from


def _split_soad(
    frame: Frame, flow: Flow, data: bytes, start: int, end: int, out: list[Pdu], ends: Counter[End]
) -> None:
    number = frame.number
    time_ns = frame.time_ns
    append = out.append
    last = end - 8
    while start <= last:
        pdu_id, length = _id_and_length(data, start)
        start += 8
        stop = start + length
        if stop > end:
            ends[_TRUNCATED] += 1
            return
        append(Pdu(number, time_ns, flow, pdu_id, data[start:stop]))
        start = stop
    if start != end:
        ends[_TRAILING] += 1


def _split_someip(
    frame: Frame, flow: Flow, data: bytes, start: int, end: int, out: list[Pdu], ends: Counter[End]
) -> None:
    while start < end:
        if start + 16 > end:
            ends[_TRAILING] += 1
            return
        pdu_id, length = _id_and_length(data, start)
        if length < 8:
            ends[_BAD_LENGTH] += 1
            return
        stop = start + 8 + length
        if stop > end:
            ends[_TRUNCATED] += 1
            return
        body = start + 16
        if data[start + 14] in _SOMEIP_TP_TYPES and data[start + 12] == 1:
            if stop < body + 4:
                ends[_BAD_LENGTH] += 1
                return
            # The upper 28 bits are the offset of the segment, in units of 16 bytes.
            if int.from_bytes(data[body : body + 4], "big") >> 4:
                ends[_SEGMENT] += 1
                start = stop
                continue
            body += 4
        out.append(Pdu(frame.number, frame.time_ns, flow, pdu_id, data[body:stop]))
        start = stop


def _split_none(
    frame: Frame, flow: Flow, data: bytes, start: int, end: int, out: list[Pdu], ends: Counter[End]
) -> None:
    out.append(Pdu(frame.number, frame.time_ns, flow, None, data[start:end]))


_SPLITTERS: dict[str, Splitter] = {"soad": _split_soad, "someip": _split_someip, "none": _split_none}
LAYOUTS = (*_SPLITTERS, "auto")


def guess_layout(data: bytes, start: int, end: int) -> str:
    """The layout as which data[start:end] reads without a remainder: `someip`, `soad` or `none`.

    Every SOME/IP chain is a SoAd chain as well, so it is asked first. A SoAd PDU with id 0 and length 0
    is not believed: it is what a payload of zeros looks like.
    """
    someip = True
    while start < end:
        if start + 8 > end:
            return "none"
        pdu_id, length = _id_and_length(data, start)
        stop = start + 8 + length
        if stop > end or not (pdu_id or length):
            return "none"
        someip = (
            someip
            and length >= 8
            and data[start + 12] == 1
            and data[start + 14] & ~_TP in _SOMEIP_TYPES
            and data[start + 15] <= _MAX_RETURN_CODE
        )
        start = stop
    return "someip" if someip else "soad"


class Socket:
    """One destination address and port, and how its datagrams split.

    Attributes:
        layout: `soad`, `someip`, `none`, or `auto` while that is not known.
        split: splits a datagram of this socket, see `Splitter`.
    """

    __slots__ = ("_seen", "_streak", "layout", "split")

    def __init__(self, layout: str = "auto") -> None:
        self._seen = ""
        self._streak = 0
        self.layout = layout
        self.split: Splitter = _SPLITTERS.get(layout, self._split_unknown)

    def _split_unknown(
        self,
        frame: Frame,
        flow: Flow,
        data: bytes,
        start: int,
        end: int,
        out: list[Pdu],
        ends: Counter[End],
    ) -> None:
        guess = guess_layout(data, start, end)
        self._streak = self._streak + 1 if guess == self._seen else 1
        self._seen = guess
        if self._streak >= PROOF:
            self.layout = guess
            self.split = self._split_believed_someip if guess == "someip" else _SPLITTERS[guess]
        _SPLITTERS[guess](frame, flow, data, start, end, out, ends)

    def _split_believed_someip(
        self,
        frame: Frame,
        flow: Flow,
        data: bytes,
        start: int,
        end: int,
        out: list[Pdu],
        ends: Counter[End],
    ) -> None:
        if guess_layout(data, start, end) == "soad":
            self.layout = "soad"
            self.split = _split_soad
        _SPLITTERS[self.layout](frame, flow, data, start, end, out, ends)


class Sockets:
    """The sockets seen, each with its layout.

    Args:
        layouts: socket pattern to layout. A pattern is a destination port (`42557`), an address and
            port (`239.1.1.1:42557`, `[ff14::3:7f]:42557`; the brackets may be left out), or `*`. The most
            exact pattern counts; a socket without one is `auto`.

    Raises:
        ConfigError: a pattern or a layout is not one of these.
    """

    def __init__(self, layouts: Mapping[str, str] | None = None) -> None:
        self._layouts = {
            _read_pattern(pattern): _read_layout(pattern, layout)
            for pattern, layout in (layouts or {}).items()
        }
        self._sockets: dict[tuple[str, int], Socket] = {}

    def __len__(self) -> int:
        return len(self._sockets)

    def find(self, dst: str, dport: int) -> Socket:
        """The one Socket object of a destination."""
        socket = self._sockets.get((dst, dport))
        if socket is None:
            layouts = self._layouts
            layout = (
                layouts.get((dst, dport)) or layouts.get(("", dport)) or layouts.get(("", None)) or "auto"
            )
            socket = self._sockets[dst, dport] = Socket(layout)
        return socket

    def clear(self) -> None:
        """Forget the sockets and what was learnt about them."""
        self._sockets.clear()


def _read_pattern(pattern: str) -> tuple[str, int | None]:
    if pattern == "*":
        return "", None
    dst, _, port = pattern.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) <= 0xFFFF):
        raise ConfigError(
            f"layout pattern {pattern!r} is not a port, an address and port ('239.1.1.1:42557'), or '*'"
        )
    if not dst:
        return "", int(port)
    try:
        return canonical_address(dst.removeprefix("[").removesuffix("]")), int(port)
    except ValueError:
        raise ConfigError(f"layout pattern {pattern!r} names no IPv4 or IPv6 address") from None


def _read_layout(pattern: str, layout: str) -> str:
    if layout not in LAYOUTS:
        raise ConfigError(f"layout of {pattern!r} is {layout!r}, which is none of {', '.join(LAYOUTS)}")
    return layout
