"""The readers beside scapy and tshark, which know the formats independently."""

import gzip
import shutil
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest

from ecustream.traffic import Frame
from tests.capture.capture_files import (
    block,
    enhanced,
    interface,
    obsolete,
    pcap_header,
    pcap_record,
    read_path,
    section,
    simple,
)

TSHARK = shutil.which("tshark")
needs_tshark = pytest.mark.skipif(TSHARK is None, reason="tshark is not installed")
TIMES_NS = [
    0,
    1,
    999_999_999,
    1_700_000_000_123_456_789,
    1_700_000_000_999_999_999,
    4_294_967_295_000_000_001,
]
FRAMES = [
    Frame(n + 1, time_ns, "eth", 1, bytes([n]) * (60 + n), 60 + n) for n, time_ns in enumerate(TIMES_NS)
]


class Row(NamedTuple):
    """What both readers say about a packet."""

    number: int
    time_ns: int
    wire_length: int
    captured: int


def rows(frames: list[Frame]) -> list[Row]:
    """Our frames in the oracle's terms."""
    return [Row(frame.number, frame.time_ns, frame.wire_length, len(frame.data)) for frame in frames]


def tshark(path: Path, *more: str) -> list[list[str]]:
    """Packet fields as tshark prints them; a missing value is an empty string."""
    assert TSHARK is not None
    fields = ("frame.number", "frame.time_epoch", "frame.len", "frame.cap_len", *more)
    chosen = [word for field in fields for word in ("-e", field)]
    command = [TSHARK, "-n", "-r", str(path), "-T", "fields", *chosen]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


def tshark_rows(path: Path) -> list[Row]:
    """Packets as tshark sees them, without custom blocks and the like, which have no time."""
    return [
        Row(int(number), int(Decimal(epoch) * 10**9), int(length), int(captured))
        for number, epoch, length, captured in tshark(path)
        if epoch
    ]


@needs_tshark
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("unit_ns", [1, 1000])
@pytest.mark.parametrize("fcs_bits", [0, 0x2400_0000])
def test_pcap_as_tshark_sees_it(tmp_path: Path, order: str, unit_ns: int, fcs_bits: int) -> None:
    """Numbers, nanoseconds and both lengths agree in either byte order and resolution."""
    path = tmp_path / "trace.pcap"
    cut = Frame(7, 5, "eth", 1, b"cut short", 1500)
    records = [pcap_record(frame, order, unit_ns) for frame in [*FRAMES, cut]]
    path.write_bytes(pcap_header(order, unit_ns, 1 | fcs_bits) + b"".join(records))
    frames = read_path(path).frames
    assert len(frames) == 7
    assert {frame.linktype for frame in frames} == {1}
    assert rows(frames) == tshark_rows(path)


@needs_tshark
def test_pcapng_as_tshark_sees_it(tmp_path: Path) -> None:
    """Sections of both byte orders, clocks of all kinds, old packets, and blocks that take a number."""
    path = tmp_path / "trace.pcapng"
    ticks = 1_700_000_000 * 2**20 + 123_457
    content = b""
    for order in "<>":
        content += section(order)
        for resolution in (None, 6, 9, 3, 0, 0x94, 0x80):
            content += interface("ETH1", resolution, order=order)
        content += interface("ETH2", 9, tsoffset=1_600_000_000, order=order)
        content += b"".join(enhanced(bytes(60), ticks, index, 99, order) for index in (0, 1, 2, 5, 7))
        content += b"".join(enhanced(bytes(60), 1_700_000_000_123, index, 60, order) for index in (3, 0))
        content += b"".join(enhanced(bytes(60), 1_700_000_000, index, 60, order) for index in (4, 6))
        content += block(0x7777, b"unknown", order) + block(5, bytes(12), order)
        content += block(0xBAD, b"\0\0\0\1abcd", order) + block(0x40000BAD, b"\0\0\0\1abcd", order)
        content += obsolete(bytes(61), ticks, 1, order)
    path.write_bytes(content)
    frames = read_path(path).frames
    assert len(frames) == 20
    assert rows(frames) == tshark_rows(path)


@needs_tshark
def test_simple_packets_as_tshark_sees_them(tmp_path: Path) -> None:
    """Number and lengths agree; tshark gives no time, because the block has none."""
    path = tmp_path / "trace.pcapng"
    path.write_bytes(
        section()
        + interface(snap_length=60)
        + enhanced(bytes(60), 1)
        + simple(bytes(60), 1500)
        + simple(bytes(50))
    )
    numbers = [(row.number, row.wire_length, row.captured) for row in rows(read_path(path).frames)]
    assert numbers == [(int(n), int(length), int(captured)) for n, _, length, captured in tshark(path)]


@needs_tshark
def test_interface_names_as_tshark_sees_them(tmp_path: Path) -> None:
    """Each packet belongs to the interface that tshark names."""
    path = tmp_path / "trace.pcapng"
    content = (
        section()
        + interface("ETH1")
        + interface("körper")
        + b"".join(enhanced(bytes(60), n, index) for n, index in enumerate((1, 0, 0, 1)))
    )
    path.write_bytes(content)
    names = [row[-1] for row in tshark(path, "frame.interface_name")]
    assert [frame.source for frame in read_path(path).frames] == names == ["körper", "ETH1", "ETH1", "körper"]


@needs_tshark
@pytest.mark.parametrize("kind", ["pcap", "nsecpcap", "pcapng"])
def test_files_that_wireshark_writes(tmp_path: Path, kind: str) -> None:
    """A file that tshark wrote reads as tshark reads it."""
    assert TSHARK is not None
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_bytes(pcap_header() + b"".join(map(pcap_record, FRAMES)))
    subprocess.run([TSHARK, "-r", str(ours), "-F", kind, "-w", str(theirs)], capture_output=True, check=True)
    outcome = read_path(theirs)
    assert rows(outcome.frames) == tshark_rows(theirs)
    assert [frame.data for frame in outcome.frames] == [frame.data for frame in FRAMES]
    assert outcome.damage == []


@pytest.mark.parametrize("nano", [False, True])
@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("zipped", [False, True])
def test_pcap_that_scapy_writes(tmp_path: Path, nano: bool, endianness: str, zipped: bool) -> None:
    """What `wrpcap` wrote is read with its times to the last digit it kept."""
    scapy = pytest.importorskip("scapy.utils")
    path = tmp_path / "trace.pcap"
    with scapy.RawPcapWriter(str(path), linktype=1, nano=nano, endianness=endianness, gz=zipped) as writer:
        writer.write_header(None)
        for frame in FRAMES:
            seconds, ns = divmod(frame.time_ns, 10**9)
            writer.write_packet(
                frame.data, sec=seconds, usec=ns if nano else ns // 1000, wirelen=frame.wire_length
            )
    assert path.read_bytes().startswith(b"\x1f\x8b") == zipped
    unit_ns = 1 if nano else 1000
    expected = [row._replace(time_ns=row.time_ns // unit_ns * unit_ns) for row in rows(FRAMES)]
    outcome = read_path(path)
    assert rows(outcome.frames) == expected
    assert [frame.data for frame in outcome.frames] == [frame.data for frame in FRAMES]


def test_pcapng_that_scapy_writes(tmp_path: Path) -> None:
    """What `PcapNgWriter` wrote comes back with the names of its two interfaces."""
    scapy = pytest.importorskip("scapy.utils")
    ether = pytest.importorskip("scapy.layers.l2").Ether
    path = tmp_path / "trace.pcapng"
    with scapy.PcapNgWriter(str(path)) as writer:
        for frame, name in zip(FRAMES, ["ETH1", "ETH2"] * 3, strict=True):
            packet = ether(frame.data)
            packet.time = Decimal(frame.time_ns) / 10**9
            packet.sniffed_on = name
            writer.write(packet)
    outcome = read_path(path)
    assert [frame.data for frame in outcome.frames] == [frame.data for frame in FRAMES]
    assert [frame.source for frame in outcome.frames] == ["ETH1", "ETH2"] * 3
    # scapy makes microseconds of a float, which may round up.
    assert all(
        abs(frame.time_ns - time_ns) <= 1000 for frame, time_ns in zip(outcome.frames, TIMES_NS, strict=True)
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("resolution", "per_second"), [(None, 10**6), (9, 10**9), (3, 10**3), (0x94, 2**20)])
def test_pcapng_as_scapy_reads_it(
    tmp_path: Path, order: str, resolution: int | None, per_second: int
) -> None:
    """Both readers see the same bytes, name and ticks; scapy counts in seconds and fractions of them."""
    scapy = pytest.importorskip("scapy.utils")
    path = tmp_path / "trace.pcapng"
    ticks = [0, 1, 1_700_000_000 * per_second + per_second - 1]
    path.write_bytes(
        section(order)
        + interface("ETH1", resolution, order=order)
        + b"".join(enhanced(bytes([n]) * 60, tick, order=order) for n, tick in enumerate(ticks))
    )
    frames = read_path(path).frames
    with scapy.RawPcapNgReader(str(path)) as reader:
        for frame, (data, about) in zip(frames, reader, strict=True):
            assert frame.data == data
            assert frame.source == about.ifname.decode()
            assert about.tsresol == per_second
            assert frame.time_ns == (about.tshigh << 32 | about.tslow) * 10**9 // per_second


@needs_tshark
def test_gzip_as_tshark_sees_it(tmp_path: Path) -> None:
    """Wireshark, too, looks through gzip."""
    path = tmp_path / "trace.pcap.gz"
    path.write_bytes(gzip.compress(pcap_header(">") + b"".join(pcap_record(frame, ">") for frame in FRAMES)))
    assert rows(read_path(path).frames) == tshark_rows(path)
