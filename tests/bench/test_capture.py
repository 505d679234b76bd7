"""The bench measures what it says: the same packets, all of them decoded, beside scapy."""

import importlib.util
import io
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ecustream.bench import capture as bench
from ecustream.capture.files import open_capture
from ecustream.decode.packets import PacketDecoder
from ecustream.ledger import Ledger

PACKETS = 300
has_scapy = importlib.util.find_spec("scapy") is not None


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """A small run of the bench."""
    return bench.bench_capture(packets=PACKETS, scapy_packets=20)


def test_every_row_has_its_figures(report: dict[str, Any]) -> None:
    """Rates follow from packets and seconds; decoding rows count three PDUs a packet."""
    rows = report["rows"]
    assert [row["name"].split(",")[0] for row in rows] == [
        "read pcap",
        "read pcapng",
        "read pcapng.gz",
        "read pcap",
        "read pcapng",
        "read pcapng.gz",
        "scapy",
    ]
    for row in rows[:6]:
        assert row["packets"] == PACKETS
        assert row["packets_per_s"] == pytest.approx(PACKETS / row["seconds"])
        assert row["cpu_seconds"] >= 0
        if "decode" in row["name"]:
            assert row["pdus_per_s"] == pytest.approx(3 * row["packets_per_s"])
        else:
            assert row["pdus_per_s"] is None
    assert "Python" in report["machine"]
    assert "cores" in report["machine"]


@pytest.mark.skipif(not has_scapy, reason="scapy is not installed")
def test_scapy_decodes_the_same_pdus_and_is_the_yardstick(report: dict[str, Any]) -> None:
    """Its row counts three PDUs a packet and has ratio 1."""
    scapy = report["rows"][-1]
    assert scapy["packets"] == 20
    assert scapy["pdus_per_s"] == pytest.approx(3 * scapy["packets_per_s"])
    assert scapy["ratio_to_scapy"] == 1
    first = report["rows"][0]
    assert first["ratio_to_scapy"] == pytest.approx(first["packets_per_s"] / scapy["packets_per_s"])


def test_without_scapy_its_row_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other rows keep their figures and have no ratio."""
    monkeypatch.setitem(sys.modules, "scapy.contrib.automotive.autosar.pdu", None)
    report = bench.bench_capture(packets=10, scapy_packets=5)
    assert report["rows"][-1]["note"] == "not installed"
    assert report["rows"][0]["packets_per_s"] > 0
    assert {row["ratio_to_scapy"] for row in report["rows"]} == {None}
    assert "not installed" in rendered(report)


def test_the_table_shows_every_row_and_the_machine(report: dict[str, Any]) -> None:
    """What goes to the terminal names each measurement once, and the machine it ran on."""
    text = rendered(report)
    for row in report["rows"]:
        assert text.count(f"{row['name']} ") == 1
    assert report["machine"].split(",")[0] in text


def test_the_files_hold_whole_packets(tmp_path: Path) -> None:
    """Both files give every packet and every PDU, with no damage and nothing unreadable."""
    for write in (bench._write_pcap, bench._write_pcapng):
        path = tmp_path / "trace"
        write(path, PACKETS)
        ledger = Ledger()
        decoder = PacketDecoder(ledger)
        with open_capture(path, ledger) as reader:
            pdus = [pdu for frames in reader for pdu in decoder.decode(frames)]
            assert reader.damage == []
        decoder.flush()
        assert len(pdus) == 3 * PACKETS
        assert ledger.ended("frames", "decoded") == PACKETS
        assert {len(pdu.payload) for pdu in pdus} == {8}
        assert {pdu.flow.vlan for pdu in pdus} == {3}
        assert {pdu.pdu_id for pdu in pdus} == {0x03E80064, 0x03E80065, 0x03E80066}


@pytest.mark.skipif(not has_scapy, reason="scapy is not installed")
def test_packets_are_sound_to_scapy() -> None:
    """Lengths and the IPv4 checksum are what scapy computes itself."""
    from scapy.layers.inet import IP
    from scapy.layers.l2 import Ether

    for index in (0, 1, 12_345, 70_000):
        packet = Ether(bench._frame(index))
        again = packet[IP].copy()
        del again.chksum, again.len
        assert bytes(again) == bytes(packet[IP])


def rendered(report: dict[str, Any]) -> str:
    """The table as text."""
    console = Console(file=io.StringIO(), width=200)
    console.print(bench.render_capture(report))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
