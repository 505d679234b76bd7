"""Reads the records of a pcap file (draft-ietf-opsawg-pcap)."""

from collections.abc import Iterator
from struct import Struct

from ecustream.capture.accounts import Accounts
from ecustream.capture.window import Window
from ecustream.errors import InputError
from ecustream.traffic import Frame

__all__ = ["BATCH", "PCAP_MAGICS", "read_pcap"]

BATCH = 1024
"""Frames in a batch, at most."""

MAX_RECORD = 1 << 18
"""The largest snap length of libpcap and Wireshark: a longer record is a damaged length, not a packet."""

PCAP_MAGICS: dict[bytes, tuple[str, int]] = {
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\x3c\x4d": (">", 1),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
}
"""Byte order, and the nanoseconds in a unit of the fraction of a second, by the first four bytes."""

FILE_HEADER = 24
RECORD_HEADER = 16
LINKTYPE_MASK = 0x03FF_FFFF
"""The bits above tell about a frame check sequence at the end of each frame."""


def read_pcap(window: Window, accounts: Accounts, source: str) -> Iterator[list[Frame]]:
    """Check the file header and return the frames in batches, read as they are asked for.

    Args:
        window: the file, from its first byte.
        accounts: where frames and damage are counted.
        source: name of the interface, which pcap does not record.

    Raises:
        InputError: the header is cut, or its version is not 2.4.
    """
    if not window.advance(0, FILE_HEADER):
        raise InputError(accounts.sentence(len(window.data), "the file ends within the pcap header"))
    order, unit_ns = PCAP_MAGICS[window.data[:4]]
    major, minor, _, _, _, linktype = Struct(order + "HHIIII").unpack_from(window.data, 4)
    if (major, minor) != (2, 4):
        raise InputError(accounts.sentence(4, f"pcap version {major}.{minor} is not known, only 2.4 is"))
    return _records(window, accounts, source, linktype & LINKTYPE_MASK, Struct(order + "4I"), unit_ns)


def _records(
    window: Window, accounts: Accounts, source: str, linktype: int, header: Struct, unit_ns: int
) -> Iterator[list[Frame]]:
    unpack_header = header.unpack_from
    units_per_second = 1_000_000_000 // unit_ns
    number = 0
    at = FILE_HEADER
    while True:
        data = window.data
        size = len(data)
        batch: list[Frame] = []
        want = RECORD_HEADER
        while at + RECORD_HEADER <= size:
            seconds, fraction, captured, wire_length = unpack_header(data, at)
            start = at + RECORD_HEADER
            end = start + captured
            if end > size or captured > MAX_RECORD:
                want = end - at
                break
            number += 1
            if fraction < units_per_second:
                time_ns = seconds * 1_000_000_000 + fraction * unit_ns
                batch.append(Frame(number, time_ns, source, linktype, data[start:end], wire_length))
                if len(batch) == BATCH:
                    yield accounts.deliver(batch)
                    batch = []
            else:
                what = f"packet {number} lies {fraction} units of {unit_ns} ns after its second"
                accounts.unreadable("bad_time", at, what)
            at = end
        # What is complete goes on before more is asked for: a pipe may stay quiet for long.
        if batch:
            yield accounts.deliver(batch)
        if want > RECORD_HEADER + MAX_RECORD:
            what = f"packet {number + 1} claims {want - RECORD_HEADER} bytes; the rest is not read"
            accounts.unreadable("bad_length", at, what)
            return
        if not window.advance(at, want):
            accounts.end_of_file("packet")
            return
        at = 0
