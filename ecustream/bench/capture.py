"""Measures how fast this machine reads and decodes captures, beside scapy on the same packets."""

import gzip
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from struct import pack
from typing import Any

from rich.table import Table

from ecustream.bench.machine import machine_line
from ecustream.capture.files import open_capture
from ecustream.decode.packets import PacketDecoder
from ecustream.ledger import Ledger

__all__ = ["bench_capture", "render_capture"]

REPETITIONS = 3
PDUS_PER_PACKET = 3
PDU_BYTES = 8
PDU_PORT = 60000
"""The port on which scapy, too, expects PDUs."""
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 6_000

Row = dict[str, Any]


def bench_capture(packets: int = 200_000, scapy_packets: int = 5_000) -> dict[str, Any]:
    """Measure reading, reading with decoding to PDUs, and scapy doing the same.

    Packets are Ethernet with a VLAN tag, IPv4, UDP and three AUTOSAR PDUs of 8 bytes, written to a
    temporary folder. Each figure is the best of three repetitions in this process.

    Args:
        packets: packets in each file.
        scapy_packets: packets in the file that scapy reads, which is some hundred times slower.

    Returns:
        `machine`: a line about the processor and Python; and `rows`, each with `name`, `packets`,
        `seconds` (wall), `cpu_seconds`, `packets_per_s`, `pdus_per_s` (None where there was no decoding),
        `ratio_to_scapy` (packets per second in relation to scapy's; None where scapy is absent) and
        `note` (why there are no figures, else None).
    """
    with tempfile.TemporaryDirectory() as folder:
        pcap, pcapng, zipped, short = (
            Path(folder, name) for name in ("b.pcap", "b.pcapng", "b.pcapng.gz", "s.pcap")
        )
        _write_pcap(pcap, packets)
        _write_pcapng(pcapng, packets)
        zipped.write_bytes(gzip.compress(pcapng.read_bytes(), compresslevel=6))
        _write_pcap(short, scapy_packets)
        rows = [
            _measure("read pcap", packets, lambda: _read(pcap)),
            _measure("read pcapng", packets, lambda: _read(pcapng)),
            _measure("read pcapng.gz", packets, lambda: _read(zipped)),
            _measure("read pcap, decode to PDUs", packets, lambda: _decode(pcap)),
            _measure("read pcapng, decode to PDUs", packets, lambda: _decode(pcapng)),
            _measure("read pcapng.gz, decode to PDUs", packets, lambda: _decode(zipped)),
        ]
        try:
            rows.append(_measure("scapy, decode to PDUs", scapy_packets, _scapy(short)))
        except ImportError:
            rows.append(_row("scapy, decode to PDUs", 0, note="not installed"))
    scapy_rate = rows[-1]["packets_per_s"]
    for row in rows:
        row["ratio_to_scapy"] = row["packets_per_s"] / scapy_rate if scapy_rate else None
    return {"machine": machine_line(), "rows": rows}


def render_capture(report: dict[str, Any]) -> Table:
    """A table for the terminal from what `bench_capture` returned."""
    table = Table(title="Capture: packets to PDUs on one core", caption=report["machine"])
    table.add_column("what")
    for column in ("packets", "seconds", "CPU s", "packets/s", "PDUs/s", "x scapy"):
        table.add_column(column, justify="right")
    for row in report["rows"]:
        if row["note"]:
            table.add_row(row["name"], row["note"])
            continue
        ratio = row["ratio_to_scapy"]
        pdus = row["pdus_per_s"]
        table.add_row(
            row["name"],
            f"{row['packets']:,}",
            f"{row['seconds']:.3f}",
            f"{row['cpu_seconds']:.3f}",
            f"{row['packets_per_s']:,.0f}",
            "" if pdus is None else f"{pdus:,.0f}",
            "" if ratio is None else f"{ratio:,.0f}",
        )
    return table


def _row(name: str, packets: int, **figures: Any) -> Row:
    empty = dict.fromkeys(("seconds", "cpu_seconds", "packets_per_s", "pdus_per_s", "ratio_to_scapy", "note"))
    return {"name": name, "packets": packets, **empty, **figures}


def _measure(name: str, packets: int, work: Callable[[], int | None]) -> Row:
    """Run `work`, which returns the PDUs it found or None, and keep its fastest repetition."""
    runs = []
    for _ in range(REPETITIONS):
        wall, cpu = time.perf_counter(), time.process_time()
        pdus = work()
        runs.append((time.perf_counter() - wall, time.process_time() - cpu))
    seconds, cpu_seconds = min(runs)
    return _row(
        name,
        packets,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        packets_per_s=packets / seconds,
        pdus_per_s=None if pdus is None else pdus / seconds,
    )


def _read(path: Path) -> None:
    with open_capture(path, Ledger()) as reader:
        for _ in reader:
            pass


def _decode(path: Path) -> int:
    ledger = Ledger()
    decoder = PacketDecoder(ledger)
    pdus = 0
    with open_capture(path, ledger) as reader:
        for frames in reader:
            pdus += len(decoder.decode(frames))
    decoder.flush()
    return pdus


def _scapy(path: Path) -> Callable[[], int]:
    from scapy.contrib.automotive.autosar.pdu import PDU, PDUTransport
    from scapy.layers.inet import UDP
    from scapy.utils import PcapReader

    def work() -> int:
        pdus = 0
        with PcapReader(str(path)) as reader:
            for packet in reader:
                transport = packet[UDP].payload
                if not isinstance(transport, PDUTransport):
                    transport = PDUTransport(bytes(transport))
                pdus += sum(isinstance(pdu, PDU) for pdu in transport.pdus)
        return pdus

    return work


def _frame(index: int) -> bytes:
    pdus = b"".join(
        pack(">IIQ", 0x03E8_0064 + pdu, PDU_BYTES, index * PDUS_PER_PACKET + pdu)
        for pdu in range(PDUS_PER_PACKET)
    )
    udp = pack(">HHHH", 40001, PDU_PORT, 8 + len(pdus), 0)
    source, destination = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
    words = (0x4500, 20 + len(udp) + len(pdus), index & 0xFFFF, 0, 64 << 8 | 17)
    total = sum(words) + sum(
        int.from_bytes(a[i : i + 2], "big") for a in (source, destination) for i in (0, 2)
    )
    total = (total & 0xFFFF) + (total >> 16)
    ip = pack(">5HH", *words, ~(total + (total >> 16)) & 0xFFFF) + source + destination
    return bytes(6) + b"\x02" + bytes(5) + pack(">HHH", 0x8100, 3, 0x0800) + ip + udp + pdus


def _write_pcap(path: Path, packets: int) -> None:
    with path.open("wb") as file:
        file.write(pack("<IHHiIII", 0xA1B2_3C4D, 2, 4, 0, 0, 65535, 1))
        for index in range(packets):
            seconds, ns = divmod(START_NS + index * PERIOD_NS, 1_000_000_000)
            data = _frame(index)
            file.write(pack("<4I", seconds, ns, len(data), len(data)) + data)


def _write_pcapng(path: Path, packets: int) -> None:
    with path.open("wb") as file:
        file.write(pack("<IIIHHqI", 0x0A0D_0D0A, 28, 0x1A2B_3C4D, 1, 0, -1, 28))
        options = pack("<HH4s", 2, 4, b"ETH1") + pack("<HHB3x", 9, 1, 9) + pack("<HH", 0, 0)
        length = 20 + len(options)
        file.write(pack("<IIHHI", 1, length, 1, 0, 0) + options + pack("<I", length))
        for index in range(packets):
            time_ns = START_NS + index * PERIOD_NS
            data = _frame(index)
            padding = bytes(-len(data) % 4)
            length = 32 + len(data) + len(padding)
            header = pack("<7I", 6, length, 0, time_ns >> 32, time_ns & 0xFFFF_FFFF, len(data), len(data))
            file.write(header + data + padding + pack("<I", length))
