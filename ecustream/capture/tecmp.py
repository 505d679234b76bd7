"""Takes apart TECMP and its forerunner PLP, in which capture modules of Technica pack what they record.

Source: libtecmp (Technica Engineering, `tecmp.h`) and Wireshark's packet-tecmp.c, by the same company. All
is big-endian: a header of 12 bytes (device id, counter, version, message type, data type, reserved, device
flags), then entries, each of 16 bytes (interface id, time, length, data flags) and `length` bytes of data.
The two highest bits of the time are flags: not synchronized, and recalculated.
"""

from struct import Struct

from ecustream.capture.carriers import (
    CARRIER,
    CRC_ERROR,
    HEADER,
    SEGMENT,
    SNAP_LENGTH,
    TRUNCATED,
    VERSION,
    Carrier,
    End,
    Entry,
)

__all__ = ["VERSIONS", "parse_tecmp"]

VERSIONS = (1, 2, 3)
"""PLP is version 1 or 2."""

_header = Struct(">HHBBHHH").unpack_from
_HEADER = 12
_entry = Struct(">IQHH").unpack_from
_ENTRY = 16
_TIME = (1 << 62) - 1

_LOGGING_STREAM = 0x03
_MESSAGES = {
    0x00: End("filtered", "logger_control"),
    0x01: End("filtered", "logger_status"),
    0x02: End("filtered", "logger_status"),
    0x04: End("filtered", "logger_status"),
    0x0A: End("filtered", "logger_replay"),
    0x0B: End("filtered", "logger_status"),
    0x0C: End("filtered", "logger_status"),
}
"""Messages that carry no recording: commands, states, data that is to be sent, and events."""
_OTHER_MESSAGE = End("filtered", "logger_other_message")

_ETHERNET, _ETHERNET_10BASE_T1S = 0x0080, 0x0082
_BEACON_TIME = 8
"""So many bytes stand before the frame in `_ETHERNET_10BASE_T1S`."""
_OTHER_BUSES = {
    0x0001: End("filtered", "logger_can"),
    0x0002: End("filtered", "logger_can"),
    0x0003: End("filtered", "logger_can"),
    0x0004: End("filtered", "logger_lin"),
    0x0007: End("filtered", "logger_flexray"),
    0x0008: End("filtered", "logger_flexray"),
}
_OTHER_BUS = End("filtered", "logger_other_data")

_END_OF_SEGMENT, _START_OF_SEGMENT = 0x0001, 0x0002
_DEVICE_OVERFLOW = 0x8000
_CRC_ERROR, _OVERFLOW = 0x2000, 0x8000


def parse_tecmp(data: bytes, at: int, wire_length: int) -> Carrier:
    """Read one message.

    Recordings that a logger has split into segments are not put together again: a message whose flags say
    that it has the start or the end alone ends as `unreadable{logger_segment}`.

    Args:
        data: a captured frame.
        at: where the message begins in it.
        wire_length: length of the frame on the wire, to tell a snap length from a damaged message.
    """
    if len(data) < at + _HEADER:
        return Carrier(SNAP_LENGTH if wire_length > len(data) else HEADER)
    device, counter, version, message, kind, _, flags = _header(data, at)
    if version not in VERSIONS:
        return Carrier(VERSION)
    end, overflows, first = CARRIER, 0, 0
    entries: list[Entry] = []
    if message != _LOGGING_STREAM:
        end = _MESSAGES.get(message, _OTHER_MESSAGE)
    elif flags & (_START_OF_SEGMENT | _END_OF_SEGMENT) in (_START_OF_SEGMENT, _END_OF_SEGMENT):
        end = SEGMENT
    else:
        entries, overflows = _entries(data, at + _HEADER, kind, wire_length)
        first = entries[0].interface if entries else 0
    return Carrier(
        end,
        entries,
        device,
        counter,
        ((device,), (device, message, kind, first)),
        overflows,
        bool(flags & _DEVICE_OVERFLOW),
    )


def _entries(data: bytes, at: int, kind: int, wire_length: int) -> tuple[list[Entry], int]:
    """The entries, and how many of them say that something was lost before."""
    entries: list[Entry] = []
    overflows = 0
    skip = {_ETHERNET: 0, _ETHERNET_10BASE_T1S: _BEACON_TIME}.get(kind)
    while at + _ENTRY <= len(data):
        interface, time, length, flags = _entry(data, at)
        if not (interface or time or length):
            break  # padding
        start, stop = at + _ENTRY, at + _ENTRY + length
        end = None
        if skip is None:
            end = _OTHER_BUSES.get(kind, _OTHER_BUS)
        elif stop > len(data):
            end = SNAP_LENGTH if wire_length > len(data) else TRUNCATED
        elif flags & _CRC_ERROR:
            end = CRC_ERROR
        elif length < skip:
            end = TRUNCATED
        else:
            start += skip
        frame = b"" if end else data[start:stop]
        entries.append(Entry(interface, time & _TIME, frame, len(frame), end))
        overflows += flags & _OVERFLOW > 0
        at = stop
    return entries, overflows
