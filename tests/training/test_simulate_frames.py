"""Frames and capture files of every kind of socket are what scapy, tshark and our own reader understand."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet
from scapy.utils import RawPcapNgReader, rdpcap

from ecustream.capture.files import open_capture
from ecustream.decode.packets import PacketDecoder
from ecustream.ledger import Ledger
from training.simulate.batch import START_NS, Batch
from training.simulate.frames import FrameEncoder, Frames
from training.simulate.payload import PayloadWriter
from training.simulate.protocols import offer_message
from training.simulate.records import CaptureFormat, RecordEncoder
from training.simulate.tables import Wire
from training.simulate.vehicle import EcuModel, Layout, PduModel, SocketModel, Vehicle

MS = 1_000_000
V6, V4 = "fd53:7cb8:383:3::11", "192.168.3.17"
NEEDS_TSHARK = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")


def ecu(node: int) -> EcuModel:
    return EcuModel(f"ECU_{node}", node, f"02:aa:bb:cc:dd:{node:02x}", 5 * MS, 0, 0, 0, 0, False, 0, 0)


def socket(
    source: str, destination: str, port: int, vlan: int | None = 3, layout: Layout = "soad"
) -> SocketModel:
    return SocketModel(0, vlan, source, port, destination, port, layout)


ECUS = (ecu(0x11), ecu(0x12))
SOCKETS = (
    socket(V6, "ff14::3:7f", 42557),
    socket(V4, "192.168.3.18", 42557, vlan=None),
    socket(V4, "239.192.255.1", 30500, vlan=None, layout="none"),
    socket(V6, "fd53:7cb8:383:3::12", 30501),
    socket(V4, "239.192.255.251", 30490, vlan=5),
    SocketModel(0, None, "", 0, "", 0, "gptp"),
    socket(V6, "fd53:7cb8:383:3::99", 42557, vlan=None),
)
OFFER = offer_message([(0x1234, 1), (0x4321, 2)], V4, 30501)
SIGNALS = ((4, 100 * MS, 50, 3), (5, 1000 * MS, 127, 200), (7, 333 * MS, 1, 0))
PDUS = (
    *(
        PduModel(0x3E80064 + i, f"COM_{n}", 0, (0, 1), "cyclic", 10 * MS, n, bytes(range(n)), signals=SIGNALS)
        for i, n in enumerate((8, 16, 24, 64))
    ),
    PduModel(0, "NM", 0, (2,), "cyclic", 500 * MS, 8, bytes([0xCC] * 8), role="nm"),
    PduModel(0x12340001, "GET", 0, (3,), "event", None, 12, bytes([0xEE] * 12), role="request"),
    PduModel(0x12340001, "GOT", 0, (3,), "event", None, 16, bytes([0xDD] * 16), "reply", replies_to=5),
    PduModel(0xFFFF8100, "SD", 0, (4,), "cyclic", 1000 * MS, len(OFFER), OFFER, role="sd"),
    PduModel(0, "SYNC", 0, (5,), "cyclic", 125 * MS, 44, bytes(44), role="sync"),
    PduModel(0, "FUP", 0, (5,), "cyclic", 125 * MS, 76, bytes(76), role="follow_up"),
)
COM, NM, GET, GOT, SD, SYNC, FUP = range(4), 4, 5, 6, 7, 8, 9
CAR = Vehicle("test", 1, ECUS, SOCKETS, PDUS, source="ETH_7")
WRITER = PayloadWriter(CAR)

Datagram = tuple[int, list[int]]


def batch_of(
    datagrams: list[Datagram], values: list[int] | None = None, lost_at: dict[int, int] | None = None
) -> Batch:
    """A batch of (socket, PDUs), one datagram a millisecond, PDUs counting from 0; stamps are 7 ns off."""
    pdu = [index for _, pdus in datagrams for index in pdus]
    number = np.repeat(np.arange(len(datagrams)), [len(pdus) for _, pdus in datagrams])
    columns = {
        "pdu": np.array(pdu, np.int64),
        "socket": np.array([datagrams[n][0] for n in number], np.int64),
        "datagram": number * 16,
        "time_ns": number * MS,
        "handed_ns": number * MS,
        "counter": np.arange(len(pdu)),
        "changes": np.zeros(len(pdu), np.int64),
        "data_ns": number * MS,
        "value": np.array(values if values is not None else [0] * len(pdu), np.int64),
    }
    wire = Wire(**columns)
    time_ns = START_NS + np.arange(len(datagrams)) * MS
    lost = np.zeros(len(datagrams), np.int64)
    for at, count in (lost_at or {}).items():
        lost[at] = count
    return Batch(
        until_ns=START_NS + 1000 * MS,
        time_ns=time_ns,
        stamp_ns=time_ns + 7,
        lost_before=lost,
        socket=np.array([where for where, _ in datagrams], np.int64),
        first=np.concatenate([[0], np.cumsum([len(pdus) for _, pdus in datagrams])]).astype(np.int64),
        pdu=wire.pdu,
        payload=WRITER.fill(wire),
        labels=(),
        context=(),
    )


@st.composite
def datagram_lists(draw: st.DrawFn) -> list[Datagram]:
    """Datagrams on sockets of every kind, those with headers with up to 20 PDUs."""
    several = st.lists(st.sampled_from([*COM, GET, GOT]), min_size=1, max_size=20)
    kinds = [st.tuples(st.just(at), several) for at in (0, 1, 3, 6)]
    kinds += [st.just((2, [NM])), st.just((4, [SD])), st.just((5, [SYNC])), st.just((5, [FUP]))]
    return draw(st.lists(st.one_of(kinds), max_size=12))


def frames_of(frames: Frames) -> Iterator[bytes]:
    for start, length in zip(frames.start.tolist(), frames.length.tolist(), strict=True):
        yield frames.data[start : start + length].tobytes()


def rebuilt(packet: Packet) -> bytes:
    """The packet with lengths and checksums as scapy makes them, and its padding."""
    copy = packet.copy()
    for layer, names in ((IP, ("len", "chksum")), (IPv6, ("plen",)), (UDP, ("len", "chksum"))):
        if layer in copy:
            for name in names:
                copy[layer].delfieldval(name)
    return bytes(copy)


@settings(max_examples=60, deadline=None)
@given(datagram_lists(), st.sampled_from([(28, 4, 4), (16, 0, 2)]), st.data())
def test_scapy_builds_the_same_frames(
    datagrams: list[Datagram], layout: tuple[int, int, int], data: st.DataObject
) -> None:
    """Lengths, checksums and padding are those that scapy makes; the payload is the PDUs', in order."""
    batch = batch_of(datagrams)
    room = np.array([data.draw(st.sampled_from([0, 16])) for _ in datagrams], np.int64)
    frames = FrameEncoder(CAR, SOCKETS, *layout).encode(batch, room)
    before, after, align = layout
    assert len(frames.data) == sum(
        before + len(frame) + -len(frame) % align + after + extra
        for frame, extra in zip(frames_of(frames), room.tolist(), strict=True)
    )
    row = 0
    for (where, pdus), frame in zip(datagrams, frames_of(frames), strict=True):
        packet = Ether(frame)
        assert len(frame) >= 60
        assert packet.src == ECUS[0].mac
        body = b""
        for index in pdus:
            model = PDUS[index]
            if SOCKETS[where].layout == "soad":
                body += model.pdu_id.to_bytes(4) + model.length.to_bytes(4)
            body += batch.payload[row, : model.length].tobytes()
            row += 1
        assert (packet[Dot1Q].vlan if Dot1Q in packet else None) == SOCKETS[where].vlan
        if SOCKETS[where].layout == "gptp":
            assert (packet.dst, packet.type) == ("01:80:c2:00:00:0e", 0x88F7)
            assert frame[14:] == body.ljust(46, b"\0")
            continue
        ip = packet[IP] if IP in packet else packet[IPv6]
        assert (ip.src, ip.dst) == (SOCKETS[where].source, SOCKETS[where].destination)
        assert (packet[UDP].sport, packet[UDP].dport) == (SOCKETS[where].source_port,) * 2
        assert rebuilt(packet) == frame
        assert bytes(packet[UDP])[8 : packet[UDP].len] == body


@pytest.mark.parametrize(
    ("where", "mac"),
    [
        (0, "33:33:00:03:00:7f"),
        (1, "02:aa:bb:cc:dd:12"),
        (2, "01:00:5e:40:ff:01"),
        (3, "02:aa:bb:cc:dd:12"),
        (4, "01:00:5e:40:ff:fb"),
        (6, "02:00:00:00:00:99"),
    ],
)
def test_destination_mac(where: int, mac: str) -> None:
    """Groups have the MAC of RFC 1112 or RFC 2464; ECUs of the vehicle their own, others a local one."""
    frames = FrameEncoder(CAR, SOCKETS, 0, 0, 2).encode(batch_of([(where, [0])]))
    assert Ether(next(frames_of(frames))).dst == mac


@pytest.mark.parametrize("where", [0, 1])
def test_checksums_that_carry(where: int) -> None:
    """Where the sum of words begins anew, it carries as scapy's; a checksum of 0 is sent as 0xFFFF."""
    batch = batch_of([(where, [0])] * 40)
    encoder = FrameEncoder(CAR, SOCKETS, 0, 0, 2)
    batch.payload[:] = batch.payload[0]
    batch.payload[:, 6:8] = 0
    without = Ether(next(frames_of(encoder.encode(batch))))[UDP].chksum
    for row in range(40):
        batch.payload[row, 6:8] = list(((without - 20 + row) & 0xFFFF).to_bytes(2))
    packets = [Ether(frame) for frame in frames_of(encoder.encode(batch))]
    assert [rebuilt(packet) for packet in packets] == [bytes(packet) for packet in packets]
    assert packets[20][UDP].chksum == 0xFFFF
    assert 0 not in {packet[UDP].chksum for packet in packets}


def test_extra_sockets_follow_the_vehicles() -> None:
    """A socket that only a fault uses has the index after the vehicle's last."""
    extra = replace(socket(V6, "ff14::9", 1234), ecu=1)
    frames = FrameEncoder(CAR, (*SOCKETS, extra), 0, 0, 2).encode(batch_of([(len(SOCKETS), [0])]))
    packet = Ether(next(frames_of(frames)))
    assert (packet.src, packet[IPv6].dst, packet[UDP].dport) == (ECUS[1].mac, "ff14::9", 1234)


def capture_file(path: Path, batches: list[Batch]) -> Path:
    capture_format: CaptureFormat = "pcapng" if path.suffix == ".pcapng" else "pcap"
    encoder = RecordEncoder(CAR, SOCKETS, capture_format)
    path.write_bytes(encoder.file_header() + b"".join(encoder.records(batch) for batch in batches))
    return path


MIXTURE: list[Datagram] = [
    (0, [0, 1, 2, 3]),
    (1, [3, 0]),
    (2, [NM]),
    (3, [GET]),
    (3, [GOT]),
    (4, [SD]),
    (5, [SYNC]),
    (5, [FUP]),
    (6, [1]),
]
VALUES = [0, 0, 0, 0, 0, 0, 0x11, 77, 77, 0, 0, 0, 0]


def test_formats_hold_the_same_frames(tmp_path: Path) -> None:
    """Both pcap and pcapng hold all frames with the logger's stamps to the nanosecond, and the bus name."""
    batch = batch_of(MIXTURE, VALUES, {1: 3, 8: 5_000_000_000})
    empty = batch_of([])
    pcap = rdpcap(str(capture_file(tmp_path / "t.pcap", [batch, empty])))
    found = []
    with RawPcapNgReader(str(capture_file(tmp_path / "t.pcapng", [empty, batch]))) as reader:
        records: Iterator[tuple[bytes, Any]] = iter(reader)
        for data, meta in records:
            assert (meta.ifname, meta.tsresol, meta.wirelen) == (b"ETH_7", 10**9, len(data))
            found.append((meta.tshigh << 32 | meta.tslow, data))
    assert [(int(packet.time * 10**9), bytes(packet)) for packet in pcap] == found
    assert [stamp_ns for stamp_ns, _ in found] == batch.stamp_ns.tolist()
    assert [data for _, data in found] == list(frames_of(FrameEncoder(CAR, SOCKETS, 0, 0, 2).encode(batch)))


@pytest.mark.parametrize("name", ["t.pcap", "t.pcapng"])
def test_our_reader_finds_every_pdu(tmp_path: Path, name: str) -> None:
    """What is written is read back by ecustream: flows, ids, payloads and times; the books balance."""
    batch = batch_of(MIXTURE, VALUES, {4: 2})
    ledger = Ledger()
    layouts = {"239.192.255.1:30500": "none"}
    with open_capture(capture_file(tmp_path / name, [batch]), ledger) as reader:
        decoder = PacketDecoder(ledger, layouts)
        pdus = [pdu for frames in reader for pdu in decoder.decode(frames)]
        assert reader.damage == []
    expected = []
    for at, (where, indices) in enumerate(MIXTURE):
        model = SOCKETS[where]
        if model.layout == "gptp":
            continue
        for row in range(int(batch.first[at]), int(batch.first[at + 1])):
            kind = PDUS[int(batch.pdu[row])]
            # ecustream knows SOME/IP by its header and leaves it out of the payload.
            header = 8 if kind.role in ("request", "reply", "sd") else 0
            content = batch.payload[row, header : kind.length].tobytes()
            pdu_id = kind.pdu_id if model.layout == "soad" else None
            address = (model.vlan, model.source, model.source_port, model.destination)
            expected.append((at + 1, int(batch.stamp_ns[at]), *address, pdu_id, content))
        assert len(indices) == batch.first[at + 1] - batch.first[at]
    assert [
        (p.frame, p.time_ns, p.flow.vlan, p.flow.src, p.flow.sport, p.flow.dst, p.pdu_id, p.payload)
        for p in pdus
    ] == expected
    assert {p.flow.source for p in pdus} == {"ETH_7" if name == "t.pcapng" else "eth"}
    assert ledger.balanced(("frames",))
    assert ledger.ended("frames", "filtered") == 2


def tshark(path: Path, *fields: str) -> list[list[str]]:
    """A row of fields for each frame, several values of one field joined by commas."""
    command = ["tshark", "-r", str(path), "-T", "fields"]
    for port, protocol in (
        (42557, "pdu_transport"),
        (30500, "autosar-nm"),
        (30501, "someip"),
        (30490, "someip"),
    ):
        command += ["-d", f"udp.port=={port},{protocol}"]
    command += ["-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]
    for field in fields:
        command += ["-e", field]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.split("\t") for line in output.splitlines()]


@NEEDS_TSHARK
@pytest.mark.parametrize("name", ["t.pcap", "t.pcapng"])
def test_tshark_finds_nothing_wrong(tmp_path: Path, name: str) -> None:
    """All checksums are good, no frame is malformed or draws an expert's warning, all are as long as sent."""
    path = capture_file(tmp_path / name, [batch_of(MIXTURE, VALUES)])
    rows = tshark(
        path, "ip.checksum.status", "udp.checksum.status", "_ws.malformed", "_ws.expert", "frame.len"
    )
    v4 = ["1" if "." in SOCKETS[where].source else "" for where, _ in MIXTURE]
    udp = ["1" if SOCKETS[where].layout != "gptp" else "" for where, _ in MIXTURE]
    lengths = [
        len(frame) for frame in frames_of(FrameEncoder(CAR, SOCKETS, 0, 0, 2).encode(batch_of(MIXTURE)))
    ]
    assert [row[0] for row in rows] == v4
    assert [row[1] for row in rows] == udp
    assert {(row[2], row[3]) for row in rows} == {("", "")}
    assert [int(row[4]) for row in rows] == lengths
    assert min(lengths) == 60


@NEEDS_TSHARK
def test_tshark_reads_the_protocols(tmp_path: Path) -> None:
    """PDU ids, NM control bits, SOME/IP headers, service offers and gPTP messages are as sent."""
    path = capture_file(tmp_path / "t.pcapng", [batch_of(MIXTURE, VALUES)])
    assert [row[0] for row in tshark(path, "pdu_transport.id")] == [
        "0x03e80064,0x03e80065,0x03e80066,0x03e80067",
        "0x03e80067,0x03e80064",
        *[""] * 6,
        "0x03e80065",
    ]
    names = ("repeat_msg_req", "nm_coord_sleep", "active_wakeup", "pni")
    nm = tshark(path, *(f"autosar-nm.ctrl.{name}" for name in names), "autosar-nm.src")[2]
    assert nm == ["1", "0", "1", "0", "17"]
    someip = tshark(path, *(f"someip.{name}" for name in SOMEIP_FIELDS))
    assert someip[3] == ["0x1234", "0x0001", "12", "0x1105", "0x004e", "0x01", "0x01", "0x00", "0x00"]
    assert someip[4] == ["0x1234", "0x0001", "16", "0x1105", "0x004e", "0x01", "0x01", "0x80", "0x00"]
    assert someip[5][:4] == ["0xffff", "0x8100", str(len(OFFER)), "0x0000"]
    assert tshark(path, *(f"someipsd.{name}" for name in SD_FIELDS))[5] == [
        "0x01,0x01",
        "0x1234,0x4321",
        "0x0001,0x0002",
        "3,3",
        V4,
        "30501",
        "1",
        "1",
    ]
    ptp = tshark(path, *(f"ptp.v2.{name}" for name in PTP_FIELDS))
    clock = "0x02aabbfffeccdd11"
    seconds, nanoseconds = divmod(START_NS + 7 * MS, 10**9)
    assert ptp[6] == ["0x00", "44", "1", clock, "1", "10", "-3", "", ""]
    assert ptp[7] == ["0x08", "76", "0", clock, "1", "11", "-3", str(seconds), str(nanoseconds)]


SOMEIP_FIELDS = (
    "serviceid",
    "methodid",
    "length",
    "clientid",
    "sessionid",
    "protoversion",
    "interfaceversion",
    "messagetype",
    "returncode",
)
SD_FIELDS = (
    "entry.type",
    "entry.serviceid",
    "entry.instanceid",
    "entry.ttl",
    "option.ipv4address",
    "option.port",
    "flags.reboot",
    "flags.unicast",
)
PTP_FIELDS = (
    "messagetype",
    "messagelength",
    "flags.twostep",
    "clockidentity",
    "sourceportid",
    "sequenceid",
    "logmessageperiod",
    "fu.preciseorigintimestamp.seconds",
    "fu.preciseorigintimestamp.nanoseconds",
)


@NEEDS_TSHARK
def test_tshark_sees_what_the_capture_lost(tmp_path: Path) -> None:
    """Where the logger lost frames, the next packet's drop count says how many."""
    lost = {1: 3, 5: 1, 8: 5_000_000_000}
    path = capture_file(tmp_path / "t.pcapng", [batch_of(MIXTURE, VALUES, lost)])
    found = [row[0] if row else "" for row in tshark(path, "frame.drop_count")]
    assert found == [str(lost.get(at, "")) for at in range(len(MIXTURE))]
