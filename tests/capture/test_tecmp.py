"""TECMP and PLP, beside what Wireshark says of the same bytes."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from ecustream.capture.carriers import Carrier, find_payload
from ecustream.capture.tecmp import parse_tecmp
from ecustream.traffic import Frame
from tests.capture.capture_files import pcap_header, pcap_record
from tests.capture.logger_frames import PLP, START_NS, TECMP, Recorded, captured, tecmp, udp_frame

UNSYNCHRONIZED, RECALCULATED = 1 << 63, 1 << 62


def parsed(data: bytes, wire_length: int | None = None) -> Carrier:
    """What the parser makes of a frame."""
    found = find_payload(Frame(1, 0, "eth1", 1, data, len(data)))
    assert found is not None
    return parse_tecmp(data, found[1], wire_length or len(data))


def some_carriers(seed: int, count: int) -> list[bytes]:
    """Carriers of all forms, with 1 to 5 frames in each."""
    chance = random.Random(seed)
    carriers = []
    for counter in range(count):
        recorded = [
            Recorded(
                chance.choice((0x1001, 0x1002, 0xDEADBEEF)),
                (START_NS + chance.randrange(10**12)) | chance.choice((0, UNSYNCHRONIZED, RECALCULATED)),
                udp_frame(chance.randbytes(chance.randrange(1, 200)), vlan=chance.choice((None, 3))),
                chance.choice((0, 0x4000)),
            )
            for _ in range(chance.randrange(1, 6))
        ]
        carriers.append(
            tecmp(
                recorded,
                counter + 65_530,
                device=chance.choice((0x0080, 0x0060, 0xFF01)),
                version=chance.choice((2, 3)),
                ethertype=chance.choice((TECMP, PLP)),
                tags=chance.choice(((), (0x8100,), (0x88A8, 0x8100))),
            )
        )
    return carriers


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
@pytest.mark.parametrize("seed", range(3))
def test_wireshark_sees_the_same(tmp_path: Path, seed: int) -> None:
    """Device, counter, interfaces, times, lengths, and of each frame in them addresses and payload."""
    carriers = some_carriers(seed, 60)
    path = tmp_path / "loggers.pcap"
    path.write_bytes(pcap_header() + b"".join(pcap_record(frame) for frame in captured(carriers)))
    entry = [f"tecmp.payload.{field}" for field in ("interface_id", "timestamp_ns", "length")]
    fields = ["tecmp.device_id", "tecmp.counter", *entry, "eth.dst", "udp.payload"]
    columns = [argument for field in fields for argument in ("-e", field)]
    told = subprocess.run(
        ["tshark", "-r", str(path), "-d", f"ethertype=={PLP},tecmp", "-T", "fields", *columns],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.splitlines()
    assert len(told) == len(carriers)
    for data, line in zip(carriers, told, strict=True):
        carrier = parsed(data)
        columns = line.split("\t")
        frames = [entry.data for entry in carrier.entries]
        ours = [
            f"{carrier.device:#06x}",
            str(carrier.counter),
            ",".join(f"{entry.interface:#010x}" for entry in carrier.entries),
            ",".join(str(entry.time_ns) for entry in carrier.entries),
            ",".join(str(len(entry.data)) for entry in carrier.entries),
            ",".join("02:00:00:00:00:02" for _ in frames),
            ",".join(frame[46 if frame[12] == 0x81 else 42 :].hex() for frame in frames),
        ]
        outer, *inner = columns[5].split(",")
        assert outer == "03:00:00:00:00:ff"
        assert [*columns[:5], ",".join(inner), columns[6]] == ours


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (tecmp([], message=0), "filtered logger_control"),
        (tecmp([], message=1), "filtered logger_status"),
        (tecmp([], message=0x0A), "filtered logger_replay"),
        (tecmp([], message=0x77), "filtered logger_other_message"),
        (tecmp([], version=9), "unreadable logger_version"),
        (tecmp([], flags=0x0002), "unreadable logger_segment"),
        (tecmp([], flags=0x0001), "unreadable logger_segment"),
        (tecmp([]), "filtered logger_carrier"),
        (tecmp([])[:25], "unreadable logger_header"),
    ],
)
def test_how_a_carrier_ends(data: bytes, end: str) -> None:
    """By what it is, and without recordings where it has none that can be read."""
    carrier = parsed(data)
    assert " ".join(carrier.end) == end
    assert not carrier.entries


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        (0x0002, "filtered logger_can"),
        (0x0003, "filtered logger_can"),
        (0x0004, "filtered logger_lin"),
        (0x0008, "filtered logger_flexray"),
        (0x0020, "filtered logger_other_data"),
    ],
)
def test_recordings_of_other_buses(kind: int, end: str) -> None:
    """Each has an end of its own, and its time."""
    recorded = [Recorded(1, START_NS + i, bytes(9)) for i in range(3)]
    entries = parsed(tecmp(recorded, kind=kind)).entries
    assert [" ".join(entry.end or ()) for entry in entries] == [end] * 3
    assert [entry.time_ns for entry in entries] == [START_NS, START_NS + 1, START_NS + 2]


def test_a_frame_that_was_cut_off() -> None:
    """By a snap length or by damage; those before it are whole, and padding is none."""
    frame = udp_frame(b"abcdefgh")
    whole = tecmp([Recorded(1, START_NS, frame), Recorded(1, START_NS + 1, frame)])
    assert [entry.end for entry in parsed(whole + bytes(100)).entries] == [None, None]
    for wire_length, reason in ((0, "logger_truncated"), (len(whole), "snap_length")):
        first, second = parsed(whole[:-1], wire_length).entries
        assert (first.data, first.end) == (frame, None)
        assert second.end == ("unreadable", reason)
        assert not second.data


def test_flags() -> None:
    """A frame that was damaged on the bus is not handed on; overflows are counted; others say nothing."""
    frame = udp_frame(b"abcdefgh")
    recorded = [Recorded(1, START_NS, frame, flags) for flags in (0x4000, 0x2000, 0x8000, 0xC000)]
    carrier = parsed(tecmp(recorded, flags=0x800F))
    reasons = [entry.end and entry.end.reason for entry in carrier.entries]
    assert reasons == [None, "logger_crc_error", None, None]
    assert carrier.overflows == 2
    assert carrier.overflowed
    assert not parsed(tecmp(recorded)).overflowed


def test_10base_t1s_has_a_beacon_before_the_frame() -> None:
    """Eight bytes that are none of it."""
    frame = udp_frame(b"abcdefgh")
    entries = parsed(
        tecmp([Recorded(1, START_NS, bytes(8) + frame), Recorded(1, START_NS, b"1234")], kind=0x82)
    ).entries
    assert entries[0].data == frame
    assert entries[1].end == ("unreadable", "logger_truncated")
