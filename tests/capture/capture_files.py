"""Writes capture files byte by byte for tests, and reads them back through the product."""

import tempfile
from pathlib import Path
from struct import pack
from typing import NamedTuple

from ecustream.capture.files import open_capture
from ecustream.ledger import Ledger
from ecustream.traffic import Frame


class Outcome(NamedTuple):
    """What a capture gave."""

    frames: list[Frame]
    ledger: Ledger
    damage: list[str]
    losses: list[tuple[int, int]]

    @property
    def unreadable(self) -> dict[str, int]:
        """Counts of unreadable frames by reason."""
        ends = self.ledger.ends["frames"].items()
        return {end.split("{")[1].rstrip("}"): n for end, n in ends if end.startswith("unreadable")}


def read_path(path: Path, source: str | None = None) -> Outcome:
    """Read a whole capture, checking that every frame is entered and only those not handed on are ended."""
    ledger = Ledger()
    frames: list[Frame] = []
    with open_capture(path, ledger, source) as reader:
        for batch in reader:
            assert batch, "a batch holds at least one frame"
            frames += batch
        assert reader.total_bytes is None or reader.bytes_read == reader.total_bytes or reader.damage
        damage, losses = reader.damage, list(reader.losses)
    not_handed_on = ledger.ended("frames", "unreadable") + ledger.ended("frames", "kernel_dropped")
    assert ledger.entered["frames"] == len(frames) + not_handed_on
    assert ledger.ends["frames"].total() == not_handed_on
    return Outcome(frames, ledger, damage, losses)


def read_bytes(content: bytes, source: str | None = None) -> Outcome:
    """Read a capture that is given as bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace")
        path.write_bytes(content)
        return read_path(path, source)


def pcap_header(
    order: str = "<", unit_ns: int = 1, linktype: int = 1, version: tuple[int, int] = (2, 4)
) -> bytes:
    """The 24 bytes at the start of a pcap file."""
    magic = {1: 0xA1B23C4D, 1000: 0xA1B2C3D4}[unit_ns]
    return pack(order + "IHHiIII", magic, *version, 0, 0, 262144, linktype)


def pcap_record(frame: Frame, order: str = "<", unit_ns: int = 1) -> bytes:
    """A pcap record."""
    seconds, ns = divmod(frame.time_ns, 10**9)
    return pack(order + "4I", seconds, ns // unit_ns, len(frame.data), frame.wire_length) + frame.data


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """A pcapng block of any type."""
    body += bytes(-len(body) % 4)
    length = pack(order + "I", len(body) + 12)
    return pack(order + "I", kind) + length + body + length


def section(order: str = "<", version: tuple[int, int] = (1, 0)) -> bytes:
    """A Section Header Block of unknown section length."""
    return block(0x0A0D0D0A, pack(order + "IHHq", 0x1A2B3C4D, *version, -1), order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    """One option of a block."""
    return pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(
    name: str | None = None,
    tsresol: int | None = 9,
    tsoffset: int | None = None,
    order: str = "<",
    linktype: int = 1,
    snap_length: int = 0,
) -> bytes:
    """An Interface Description Block; None leaves an option out."""
    options = b""
    if name is not None:
        options += option(2, name.encode(), order)
    if tsresol is not None:
        options += option(9, bytes([tsresol]), order)
    if tsoffset is not None:
        options += option(14, pack(order + "q", tsoffset), order)
    if options:
        options += option(0, b"", order)
    return block(1, pack(order + "HHI", linktype, 0, snap_length) + options, order)


def enhanced(
    data: bytes,
    ticks: int = 0,
    index: int = 0,
    wire_length: int | None = None,
    order: str = "<",
    tail: bytes = b"",
) -> bytes:
    """An Enhanced Packet Block; `tail` is its options."""
    wire = len(data) if wire_length is None else wire_length
    header = pack(order + "5I", index, ticks >> 32, ticks & 0xFFFFFFFF, len(data), wire)
    return block(6, header + data + bytes(-len(data) % 4) + tail, order)


def obsolete(data: bytes, ticks: int = 0, index: int = 0, order: str = "<") -> bytes:
    """A Packet Block as written before 2004."""
    header = pack(order + "HHIIII", index, 0xFFFF, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(2, header + data, order)


def simple(data: bytes, wire_length: int | None = None, order: str = "<") -> bytes:
    """A Simple Packet Block."""
    return block(3, pack(order + "I", len(data) if wire_length is None else wire_length) + data, order)
