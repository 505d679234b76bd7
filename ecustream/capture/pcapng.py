"""Reads the packets of a pcapng file (draft-ietf-opsawg-pcapng)."""

from collections.abc import Iterator
from struct import Struct

from ecustream.capture.accounts import Accounts
from ecustream.capture.interfaces import Interface, parse_interface
from ecustream.capture.pcap import BATCH
from ecustream.capture.window import Window
from ecustream.errors import InputError
from ecustream.traffic import Frame

__all__ = ["PCAPNG_MAGIC", "read_pcapng"]

MAX_BLOCK = 1 << 24
"""Wireshark's largest block: a longer one is a damaged length, not a block."""
MAX_TIME_NS = (1 << 63) - 1
"""The year 2262; later times do not fit the 64 bits in which they are kept downstream."""

PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
BYTE_ORDERS = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
VERSIONS = ((1, 0), (1, 2))

SECTION_HEADER = 0x0A0D_0D0A
INTERFACE_DESCRIPTION = 1
OBSOLETE_PACKET = 2
SIMPLE_PACKET = 3
ENHANCED_PACKET = 6
NUMBERED_ANYWAY = frozenset({9, 0x0000_0BAD, 0x4000_0BAD})
"""Journal export and custom blocks are no packets, and yet Wireshark gives them frame numbers."""

PACKET_START = {ENHANCED_PACKET: 20, OBSOLETE_PACKET: 20, SIMPLE_PACKET: 4}
"""Where a packet's bytes begin in the body of its block."""

BLOCK_START = 8
TRAILER = 4
MIN_BLOCK = 12
MIN_SECTION_HEADER = 28
ENHANCED_START = 28
MIN_ENHANCED = 32
ENHANCED_WITH_OPTION = 36
"""Length of an Enhanced Packet Block, beside its packet's bytes, from which on there is an option."""

END_OF_OPTIONS = 0
EPB_DROPCOUNT = 4
MAX_DROPCOUNT = 0xFFFF_FFFF
"""More frames than that are not lost between two: the count is damaged."""


def read_pcapng(window: Window, accounts: Accounts, source: str | None) -> Iterator[list[Frame]]:
    """Check the first section header and return the frames in batches, read as they are asked for.

    Args:
        window: the file, from its first byte.
        accounts: where frames and damage are counted.
        source: name for every interface, or None for the names in the file.

    Raises:
        InputError: the section header is cut, its byte order or its version is not known.
    """
    if not window.advance(0, MIN_SECTION_HEADER):
        raise InputError(accounts.sentence(len(window.data), "the file ends within the section header"))
    try:
        _check_version(window.data, 0)
    except _LostError as lost:
        raise InputError(accounts.sentence(lost.at, str(lost))) from lost
    return _Reader(window, accounts, source).batches()


class _LostError(Exception):
    """The framing is damaged `at` bytes into the window: no block can be found from there on."""

    def __init__(self, reason: str, at: int, what: str) -> None:
        super().__init__(what)
        self.reason = reason
        self.at = at


def _byte_order(data: bytes, at: int) -> str:
    """Byte order of the section whose header starts at `at`, with 12 bytes at hand."""
    magic = data[at + 8 : at + 12]
    if magic not in BYTE_ORDERS:
        raise _LostError("bad_section", at + 8, f"{magic.hex(' ')} is not the byte-order magic of pcapng")
    return BYTE_ORDERS[magic]


def _check_version(data: bytes, at: int) -> None:
    """Refuse a section, with 16 bytes of its header at hand, of which the rest cannot be understood."""
    major, minor = Struct(_byte_order(data, at) + "HH").unpack_from(data, at + 12)
    if (major, minor) not in VERSIONS:
        known = "only 1.0 and 1.2 are"
        raise _LostError("bad_section", at + 12, f"pcapng version {major}.{minor} is not known, {known}")


class _Reader:
    """Where the reading of a pcapng file stands.

    Sound Enhanced Packet Blocks are read in runs at full speed; everything else, damage included, one
    block at a time.
    """

    def __init__(self, window: Window, accounts: Accounts, source: str | None) -> None:
        self._window = window
        self._accounts = accounts
        self._source = source
        self._number = 0
        self._time_ns = 0
        self._begin_section("<")

    def _begin_section(self, order: str) -> None:
        self._order = order
        self._described = 0
        self._interfaces: dict[int, Interface] = {}
        self._trailer = Struct(order + "I")
        self._start = Struct(order + "II")
        self._enhanced = Struct(order + "7I")
        self._option = Struct(order + "HH").unpack_from
        self._count = Struct(order + "Q").unpack_from

    def batches(self) -> Iterator[list[Frame]]:
        """Frames of all sections, in batches of about `BATCH`."""
        window, accounts = self._window, self._accounts
        batch: list[Frame] = []
        at = 0
        try:
            while True:
                at = self._run(at, batch)
                want = self._want(at)
                missing = at + want > len(window.data)
                # What is complete goes on before more is asked for: a pipe may stay quiet for long.
                if len(batch) >= BATCH or (batch and missing):
                    yield accounts.deliver(batch)
                    batch = []
                if not missing:
                    self._block(at, want, batch)
                    at += want
                elif window.advance(at, want):
                    at = 0
                else:
                    accounts.end_of_file("block")
                    return
        except _LostError as lost:
            if batch:
                yield accounts.deliver(batch)
            accounts.unreadable(lost.reason, lost.at, f"{lost}; the rest is not read")

    def _run(self, at: int, batch: list[Frame]) -> int:
        """Append the frames of sound Enhanced Packet Blocks from `at` on; returns where the run ends."""
        data = self._window.data
        size = len(data)
        interfaces = self._interfaces
        unpack_enhanced = self._enhanced.unpack_from
        unpack_trailer = self._trailer.unpack_from
        number = self._number
        room = number + BATCH - len(batch)
        current = -1
        while at + MIN_ENHANCED <= size and number < room:
            kind, length, index, high, low, captured, wire_length = unpack_enhanced(data, at)
            end = at + length
            around = length - captured
            if kind != ENHANCED_PACKET or end > size or around < MIN_ENHANCED or length & 3:
                break
            if unpack_trailer(data, end - TRAILER)[0] != length:
                break
            if index != current:
                if index not in interfaces:
                    break
                name, linktype, _, multiply, divide, offset_ns = interfaces[index]
                current = index
            ticks = (high << 32 | low) * multiply
            time_ns = (ticks if divide == 1 else ticks // divide) + offset_ns
            if not 0 <= time_ns <= MAX_TIME_NS:
                break
            start = at + ENHANCED_START
            number += 1
            if around >= ENHANCED_WITH_OPTION:
                self._count_lost(number, data, start + captured + -captured % 4, end - TRAILER)
            batch.append(Frame(number, time_ns, name, linktype, data[start : start + captured], wire_length))
            at = end
        self._number = number
        if batch:
            self._time_ns = batch[-1].time_ns
        return at

    def _want(self, at: int) -> int:
        """How many bytes from `at` on are needed next: a whole block, or enough to know how long it is."""
        data = self._window.data
        if len(data) - at < MIN_BLOCK:
            return MIN_BLOCK
        length: int
        kind, length = self._start.unpack_from(data, at)
        minimum = MIN_BLOCK
        if kind == SECTION_HEADER:
            # Each section has a byte order of its own, in which its header's length is written, too.
            length = Struct(_byte_order(data, at) + "I").unpack_from(data, at + 4)[0]
            minimum = MIN_SECTION_HEADER
        if length < minimum or length & 3 or length > MAX_BLOCK:
            raise _LostError("bad_length", at, f"a block claims a length of {length} bytes")
        return length

    def _block(self, at: int, length: int, batch: list[Frame]) -> None:
        """Take one block of any type, which is wholly at hand."""
        data = self._window.data
        kind = self._start.unpack_from(data, at)[0]
        if kind == SECTION_HEADER:
            _check_version(data, at)
            self._begin_section(_byte_order(data, at))
        trailer = self._trailer.unpack_from(data, at + length - TRAILER)[0]
        if trailer != length:
            raise _LostError(
                "bad_length", at, f"a block's lengths disagree, {length} before and {trailer} after it"
            )
        body = data[at + BLOCK_START : at + length - TRAILER]
        if kind == INTERFACE_DESCRIPTION:
            self._describe(at, body)
        elif kind in PACKET_START:
            self._packet(at, kind, body, batch)
        elif kind in NUMBERED_ANYWAY:
            self._number += 1

    def _describe(self, at: int, body: bytes) -> None:
        """Take an Interface Description Block; packets name interfaces by their order in the section."""
        name = self._source or f"if{self._described}"
        interface, problem = parse_interface(body, self._order, name)
        if problem is not None:
            self._accounts.tell(at, problem)
        if interface is not None:
            self._interfaces[self._described] = interface._replace(name=self._source or interface.name)
        self._described += 1

    def _packet(self, at: int, kind: int, body: bytes, batch: list[Frame]) -> None:
        """Take a packet block of any of the three types, checking everything about it."""
        accounts = self._accounts
        self._number += 1
        start = PACKET_START[kind]
        if len(body) < start:
            accounts.unreadable("bad_length", at, f"packet {self._number} is too short for its header")
            return
        index = high = low = captured = 0
        if kind == ENHANCED_PACKET:
            index, high, low, captured, wire_length = Struct(self._order + "5I").unpack_from(body)
        elif kind == OBSOLETE_PACKET:
            index, high, low, captured, wire_length = Struct(self._order + "H2x4I").unpack_from(body)
        else:
            (wire_length,) = Struct(self._order + "I").unpack_from(body)
        interface = self._interfaces.get(index)
        if interface is None:
            accounts.unreadable(
                "unknown_interface",
                at,
                f"packet {self._number} names interface {index}, which is not described",
            )
            return
        if kind == SIMPLE_PACKET:
            captured = min(wire_length, interface.snap_length or wire_length)
            time_ns = self._time_ns
            accounts.note("packets_without_time")
        else:
            time_ns = (high << 32 | low) * interface.multiply // interface.divide + interface.offset_ns
        if captured > len(body) - start:
            accounts.unreadable(
                "bad_length",
                at,
                f"packet {self._number} claims {captured} bytes in a block with room for {len(body) - start}",
            )
        elif not 0 <= time_ns <= MAX_TIME_NS:
            accounts.unreadable("bad_time", at, f"packet {self._number} is not from the years 1970 to 2262")
        else:
            self._time_ns = time_ns
            data = body[start : start + captured]
            if kind == ENHANCED_PACKET:
                options = BLOCK_START + start + captured + -captured % 4
                self._count_lost(self._number, self._window.data, at + options, at + BLOCK_START + len(body))
            batch.append(Frame(self._number, time_ns, interface.name, interface.linktype, data, wire_length))

    def _count_lost(self, number: int, data: bytes, at: int, end: int) -> None:
        """Count the frames that the options of a packet, from `at` to `end`, say were lost before it."""
        while at + 4 <= end:
            code, length = self._option(data, at)
            if code == END_OF_OPTIONS:
                return
            if code == EPB_DROPCOUNT:
                count = self._count(data, at + 4)[0] if length == 8 and at + 12 <= end else 0
                if count > MAX_DROPCOUNT:
                    self._accounts.tell(at, f"packet {number} claims that {count} were lost before it")
                elif count:
                    self._accounts.lost(number, count)
                return
            at += 4 + length + -length % 4
