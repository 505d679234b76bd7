"""The demo trace as packets to be changed, and pcap files of what was made of them."""

import random
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ecustream.capture.files import open_capture
from ecustream.ledger import Ledger

__all__ = ["DEMO_TRACE", "SOURCE", "Packet", "demo_packets", "eventful", "repeated", "write_pcap"]

DEMO_TRACE = Path(__file__).resolve().parents[2] / "demo" / "demo.pcapng.gz"
SOURCE = "ETH1"
"""Name of its bus, which a pcap file cannot tell."""

_GAP_NS = 1_000_000
# Nanosecond pcap, version 2.4, packets of at most 64 KiB, Ethernet.
_HEADER = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 1 << 16, 1)


class Packet(NamedTuple):
    """A packet as it stands in a capture file."""

    time_ns: int
    data: bytes


@cache
def demo_packets() -> tuple[Packet, ...]:
    """All packets of the demo trace, in their order."""
    with open_capture(DEMO_TRACE, Ledger()) as reader:
        return tuple(Packet(frame.time_ns, frame.data) for frames in reader for frame in frames)


def repeated(packets: Iterable[Packet], times: int) -> list[Packet]:
    """The packets so many times, each time after the last, a millisecond apart."""
    once = list(packets)
    period_ns = once[-1].time_ns - once[0].time_ns + _GAP_NS
    return [Packet(p.time_ns + turn * period_ns, p.data) for turn in range(times) for p in once]


def write_pcap(path: Path, packets: Iterable[Packet]) -> Path:
    """Writes a pcap file with nanoseconds; returns its path."""
    with path.open("wb") as file:
        file.write(_HEADER)
        for time_ns, data in packets:
            seconds, rest_ns = divmod(time_ns, 1_000_000_000)
            file.write(struct.pack("<IIII", seconds, rest_ns, len(data), len(data)) + data)
    return path


def eventful(times: int) -> list[Packet]:
    """The demo trace so many times, with a fifth of its packets left out: a hundred events a second."""
    chance = random.Random(4)
    return [packet for packet in repeated(demo_packets(), times) if chance.random() > 0.2]
