"""Takes apart ASAM CMP, the Capture Module Protocol that succeeds TECMP.

Source: Wireshark's packet-asam-cmp.c (Technica Engineering) and openDAQ's ASAM-CMP-Library. All is
big-endian: a header of 8 bytes (version, reserved, device id, message type, stream id, counter), then
messages, each of 16 bytes (time in ns, interface id, flags, payload type, payload length) and its payload;
that of an Ethernet frame begins with flags, reserved and length of 2 bytes each.
"""

from struct import Struct

from ecustream.capture.carriers import (
    CARRIER,
    CRC_ERROR,
    HEADER,
    MAX_TIME_NS,
    SEGMENT,
    SNAP_LENGTH,
    TIME,
    TRUNCATED,
    VERSION,
    Carrier,
    End,
    Entry,
)

__all__ = ["MAX_OPEN", "CmpParser"]

MAX_OPEN = 256
"""So many streams may have a frame of which segments are missing; then all are given up."""

_VERSION = 1
_header = Struct(">BxHBBH").unpack_from
_HEADER = 8
_message = Struct(">QIBBH").unpack_from
_MESSAGE = 16
_ethernet = Struct(">HxxH").unpack_from
_ETHERNET_HEADER = 6
_MAX_PAYLOAD = _ETHERNET_HEADER + 0xFFFF
"""No frame is longer; of segments that never end, no more is kept."""

_DATA = 0x01
_MESSAGES = {
    0x02: End("filtered", "logger_control"),
    0x03: End("filtered", "logger_status"),
    0x04: End("filtered", "logger_replay"),
}
_OTHER_MESSAGE = End("filtered", "logger_other_message")

_ETHERNET = 0x08
_OTHER_BUSES = {
    0x01: End("filtered", "logger_can"),
    0x02: End("filtered", "logger_can"),
    0x03: End("filtered", "logger_lin"),
    0x04: End("filtered", "logger_flexray"),
}
_OTHER_BUS = End("filtered", "logger_other_data")

_WHOLE, _FIRST, _LAST = 0, 1, 3
_OVERFLOW, _ERROR_IN_PAYLOAD = 0x20, 0x40
_FRAME_ERRORS = 0x0001 | 0x0008 | 0x0020
"""Wrong check sequence, collision, error of the physical layer."""
_FRAME_CUT = 0x0040


class _Open:
    """A frame of which segments are still to come."""

    def __init__(self, entry: Entry, kind: int, payload: bytes, counter: int) -> None:
        self.entry = entry
        self.kind = kind
        self.payload = bytearray(payload)
        self.counter = counter


class CmpParser:
    """Reads the messages of one capture, and puts together what a logger has split into segments.

    A frame in segments has the time of its first one. Where one is missing, all that came of it is one
    entry that ends as `unreadable{logger_segment}`.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], _Open] = {}

    def parse(self, data: bytes, at: int, wire_length: int) -> Carrier:
        """Read one frame's messages.

        Args:
            data: a captured frame.
            at: where CMP begins in it.
            wire_length: length of the frame on the wire, to tell a snap length from a damaged message.
        """
        if len(data) < at + _HEADER:
            return Carrier(SNAP_LENGTH if wire_length > len(data) else HEADER)
        version, device, message, stream, counter = _header(data, at)
        if version != _VERSION:
            return Carrier(VERSION)
        series = ((device, stream), (device, stream, message))
        if message != _DATA:
            return Carrier(_MESSAGES.get(message, _OTHER_MESSAGE), [], device, counter, series)
        cut = SNAP_LENGTH if wire_length > len(data) else TRUNCATED
        entries, overflows = self._entries(data, at + _HEADER, (device, stream), counter, cut)
        return Carrier(CARRIER, entries, device, counter, series, overflows)

    def flush(self) -> list[Entry]:
        """End of the input: frames of which segments are missing are given up."""
        given_up = [_given_up(opened) for opened in self._open.values()]
        self._open.clear()
        return given_up

    def _entries(
        self, data: bytes, at: int, stream: tuple[int, int], counter: int, cut: End
    ) -> tuple[list[Entry], int]:
        """The entries, and how many of them say that something was lost before."""
        entries: list[Entry] = []
        overflows = 0
        while at + _MESSAGE <= len(data):
            time_ns, interface, flags, kind, length = _message(data, at)
            if not (time_ns or interface or flags or kind or length):
                break  # padding
            start, stop = at + _MESSAGE, at + _MESSAGE + length
            at = stop
            overflows += flags & _OVERFLOW > 0
            segment = flags >> 2 & 3
            end = None
            if time_ns > MAX_TIME_NS:
                time_ns, end = 0, TIME
            elif kind != _ETHERNET:
                end = _OTHER_BUSES.get(kind, _OTHER_BUS)
            elif stop > len(data):
                end = cut
            elif flags & _ERROR_IN_PAYLOAD:
                end = CRC_ERROR
            entry = Entry(interface, time_ns, b"", 0, end)
            if segment in (_WHOLE, _FIRST) and stream in self._open:
                entries.append(_given_up(self._open.pop(stream)))
            if segment == _WHOLE:
                entries.append(entry if end else _frame(entry, data[start:stop]))
            else:
                entries += self._segment(stream, segment, counter, entry, kind, data[start:stop])
        return entries, overflows

    def _segment(
        self, stream: tuple[int, int], segment: int, counter: int, entry: Entry, kind: int, payload: bytes
    ) -> list[Entry]:
        """What a segment completes or makes impossible to complete."""
        given_up = []
        if segment == _FIRST:
            if len(self._open) >= MAX_OPEN:
                given_up = self.flush()
            self._open[stream] = _Open(entry, kind, payload, counter)
            return given_up
        opened = self._open.pop(stream, None)
        if opened is None:
            return [entry._replace(end=entry.end or SEGMENT)]
        follows = counter == (opened.counter + 1) & 0xFFFF
        same = (opened.kind, opened.entry.interface) == (kind, entry.interface)
        if not follows or not same:
            return [_given_up(opened), entry._replace(end=entry.end or SEGMENT)]
        opened.payload += payload[: _MAX_PAYLOAD - len(opened.payload)]
        opened.counter = counter
        opened.entry = opened.entry._replace(end=opened.entry.end or entry.end)
        if segment == _LAST:
            return [opened.entry if opened.entry.end else _frame(opened.entry, bytes(opened.payload))]
        self._open[stream] = opened
        return []


def _given_up(opened: _Open) -> Entry:
    return opened.entry._replace(end=opened.entry.end or SEGMENT)


def _frame(entry: Entry, payload: bytes) -> Entry:
    """The Ethernet frame in a payload."""
    if len(payload) < _ETHERNET_HEADER:
        return entry._replace(end=TRUNCATED)
    flags, length = _ethernet(payload, 0)
    if flags & _FRAME_ERRORS:
        return entry._replace(end=CRC_ERROR)
    if len(payload) < _ETHERNET_HEADER + length:
        return entry._replace(end=TRUNCATED)
    data = payload[_ETHERNET_HEADER : _ETHERNET_HEADER + length]
    # How much a logger has cut off is told nowhere.
    return entry._replace(data=data, wire_length=length + (flags & _FRAME_CUT > 0))
