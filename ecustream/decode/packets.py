"""Turns captured frames into PDUs.

Two ways lead through a frame. The general path reads header after header (`ecustream.decode.ip`). When it
has found an ordinary UDP datagram, Ethernet with at most one VLAN tag and an IP header without options,
it leaves a shortcut behind: all header bytes that decide where the datagram lies and to whom it belongs,
lengths included, as a dictionary key. The next frame with the same bytes skips the headers. Only what
may change between two such frames without changing the outcome is left out of the key: the Ethernet
addresses, the IPv4 identification and the checksums.
"""

from collections import Counter
from collections.abc import Mapping
from struct import Struct

from ecustream.decode.addresses import address_text
from ecustream.decode.fragments import Fragments
from ecustream.decode.ip import (
    BAD_EXTENSION_HEADER,
    DECODED,
    NOT_UDP,
    UDP,
    End,
    Fragment,
    Link,
    Packet,
    find_link,
    find_packet,
    find_udp,
    walk_extensions,
)
from ecustream.decode.pdus import Socket, Sockets
from ecustream.ledger import Ledger
from ecustream.traffic import Flow, Frame, Pdu

__all__ = ["MAX_FLOWS", "MAX_SHORTCUTS", "PacketDecoder"]

MAX_FLOWS = 65_536
"""So many socket pairs are remembered; then all are forgotten and learnt anew."""
MAX_SHORTCUTS = 16_384
"""So many shortcuts are remembered for one source, a shortcut for each flow and datagram length."""

_Key = bytes | tuple[bytes, bytes, bytes]
_Shortcut = tuple[Flow, int, int, Socket]

# EtherType (with the tag before it), version to total length | fragment field to protocol |
# addresses, ports, UDP length. The shortest of the keys needs 44 bytes of frame.
_key_ipv4 = Struct(">6s2x4s2x14s").unpack_from
_key_tagged_ipv4 = Struct(">10s2x4s2x14s").unpack_from
_SHORTEST = 44


class PacketDecoder:
    """Decodes the frames of one capture, in the order in which they come.

    Every frame ends once in the book `frames`: `decoded` when it gave a whole UDP datagram (or was a
    piece of one), `filtered{not_ip | not_udp | empty_datagram | fragment_duplicate}`, or
    `unreadable{reason}`. The reader has entered them. For the book `pdus` see `ecustream.decode.pdus`.
    A datagram that came in fragments has the number and time of the fragment that arrived last.

    Args:
        ledger: where frames and PDUs are counted, a batch at a time.
        layouts: socket pattern to PDU layout, see `ecustream.decode.pdus.Sockets`.

    Raises:
        ConfigError: `layouts` is wrong.
    """

    def __init__(self, ledger: Ledger, layouts: Mapping[str, str] | None = None) -> None:
        self._ledger = ledger
        self._frame_ends: Counter[End] = Counter()
        self._pdu_ends: Counter[End] = Counter()
        self._sockets = Sockets(layouts)
        self._fragments = Fragments(self._frame_ends)
        self._flows: dict[tuple[str, int | None, bytes, bytes, int, int], tuple[Flow, Socket]] = {}
        self._shortcuts: dict[str, dict[_Key, _Shortcut]] = {}

    def decode(self, frames: list[Frame]) -> list[Pdu]:
        """The PDUs of a batch of frames, in order of frame and of place in the datagram."""
        out: list[Pdu] = []
        pdu_ends = self._pdu_ends
        decoded = 0
        source = None
        shortcuts: dict[_Key, _Shortcut] = {}
        for frame in frames:
            if frame.source != source:
                source = frame.source
                shortcuts = self._shortcuts.setdefault(source, {})
            data = frame.data
            key: _Key | None = None
            if len(data) >= _SHORTEST and frame.linktype == 1:
                first = data[12]
                if first == 0x81:
                    key = data[12:64] if data[16] == 0x86 else _key_tagged_ipv4(data, 12)
                elif first == 0x86:
                    key = data[12:60]
                elif first == 0x08:
                    key = _key_ipv4(data, 12)
                if key is not None:
                    shortcut = shortcuts.get(key)
                    if shortcut is not None:
                        flow, start, end, socket = shortcut
                        if end <= len(data):
                            decoded += 1
                            socket.split(frame, flow, data, start, end, out, pdu_ends)
                            continue
            self._decode_any(frame, key, shortcuts, out)
        if frames and self._fragments:
            self._fragments.expire(frames[-1].time_ns)
        self._frame_ends[DECODED] += decoded
        self._settle(len(out))
        return out

    def flush(self) -> None:
        """End of the input: packets of which fragments are missing are given up."""
        self._fragments.flush()
        self._settle(0)

    def _settle(self, delivered: int) -> None:
        """Carry the counts of a batch over into the ledger."""
        ledger = self._ledger
        ledger.enter("pdus", delivered + self._pdu_ends.total())
        for book, ends in (("frames", self._frame_ends), ("pdus", self._pdu_ends)):
            for end, count in ends.items():
                if count:
                    ledger.end(book, end.kind, count, reason=end.reason)
            ends.clear()

    def _decode_any(
        self, frame: Frame, key: _Key | None, shortcuts: dict[_Key, _Shortcut], out: list[Pdu]
    ) -> None:
        """The general path: one frame of any kind; leaves a shortcut under `key` where that is safe."""
        data = frame.data
        link = find_link(frame.linktype, data)
        if isinstance(link, End):
            self._frame_ends[link] += 1
            return
        packet = find_packet(link, data, frame.wire_length)
        if isinstance(packet, End):
            self._frame_ends[packet] += 1
            return
        if packet.fragment is not None:
            self._decode_fragment(frame, link, packet, packet.fragment, out)
            return
        if packet.protocol != UDP:
            self._frame_ends[NOT_UDP] += 1
            return
        shortcut = self._decode_udp(frame, link, packet, data, 1, out)
        if shortcut is None or key is None or link.start not in (14, 18):
            return
        # A datagram that is shorter than its packet is left to the general path, which looks at both ends.
        plain = packet.start - link.start == (20 if link.version == 4 else 40)
        if plain and shortcut[2] == packet.end:
            if len(shortcuts) >= MAX_SHORTCUTS:
                shortcuts.clear()
            shortcuts[key] = shortcut

    def _decode_fragment(
        self, frame: Frame, link: Link, packet: Packet, fragment: Fragment, out: list[Pdu]
    ) -> None:
        # Only the first fragment of an IPv6 packet says what the packet carries (RFC 8200 4.5).
        if link.version == 4 and packet.protocol != UDP:
            self._frame_ends[NOT_UDP] += 1
            return
        key = (frame.source, link.vlan, packet.src, packet.dst, fragment.ident)
        piece = frame.data[packet.start : packet.end]
        whole = self._fragments.add(key, frame.time_ns, fragment, packet.protocol, piece)
        if whole is None:
            return
        data, protocol, count = whole
        start = 0
        if link.version == 6:
            upper = walk_extensions(data, protocol, 0, len(data))
            if isinstance(upper, End) or upper[2] is not None:
                self._frame_ends[BAD_EXTENSION_HEADER] += count
                return
            protocol, start, _ = upper
        if protocol != UDP:
            self._frame_ends[NOT_UDP] += count
            return
        packet = packet._replace(start=start, end=len(data))
        self._decode_udp(frame, link, packet, data, count, out)

    def _decode_udp(
        self, frame: Frame, link: Link, packet: Packet, data: bytes, frames: int, out: list[Pdu]
    ) -> _Shortcut | None:
        """Split the datagram at packet.start of `data`, which came in so many frames."""
        udp = find_udp(data, packet.start, packet.end)
        if isinstance(udp, End):
            self._frame_ends[udp] += frames
            return None
        sport, dport, start, end = udp
        flow, socket = self._flow(frame.source, link.vlan, packet.src, packet.dst, sport, dport)
        self._frame_ends[DECODED] += frames
        socket.split(frame, flow, data, start, end, out, self._pdu_ends)
        return flow, start, end, socket

    def _flow(
        self, source: str, vlan: int | None, src: bytes, dst: bytes, sport: int, dport: int
    ) -> tuple[Flow, Socket]:
        key = (source, vlan, src, dst, sport, dport)
        found = self._flows.get(key)
        if found is None:
            if len(self._flows) >= MAX_FLOWS:
                self._flows.clear()
                self._sockets.clear()
                for shortcuts in self._shortcuts.values():
                    shortcuts.clear()
                self._ledger.note("flows_forgotten")
            dst_text = address_text(dst)
            flow = Flow(source, vlan, address_text(src), sport, dst_text, dport)
            found = self._flows[key] = (flow, self._sockets.find(dst_text, dport))
        return found
