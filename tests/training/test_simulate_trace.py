"""Simulated traces are captures that others can read, with labels and names beside them."""

import csv
import gzip
import json
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.utils import RawPcapNgReader, rdpcap
from typer.testing import CliRunner

from ecustream.errors import ConfigError, OutputError
from training.simulate import START_NS, Batch, draw_vehicle, simulate, write_trace
from training.simulate.command import simulate_command
from training.simulate.vehicle import DESTINATION

RUNNER = CliRunner()
APP = typer.Typer()
APP.command()(simulate_command)


def written(folder: Path) -> dict[str, bytes]:
    """Name and content of all files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["t.pcapng", "t.pcapng.gz", "t.pcap", "t.pcap.gz"])
def test_same_seed_same_bytes(tmp_path: Path, name: str) -> None:
    """The arguments decide every byte of the three files, whatever the folder is called."""
    contents = []
    for folder, seed in (("one", 7), ("another", 7), ("third", 8)):
        (tmp_path / folder).mkdir()
        write_trace(draw_vehicle(), tmp_path / folder / name, seconds=15, seed=seed, faults="heavy")
        contents.append(written(tmp_path / folder))
    assert set(contents[0]) == {name, "t.labels.jsonl", "t.names.csv"}
    assert contents[0] == contents[1]
    assert contents[0][name] != contents[2][name]
    assert contents[0]["t.labels.jsonl"] != contents[2]["t.labels.jsonl"]
    assert contents[0]["t.names.csv"] == contents[2]["t.names.csv"]


def test_formats_carry_the_same_frames(tmp_path: Path) -> None:
    """Both pcapng and pcap hold the same frames at the same nanoseconds, compressed or not."""
    vehicle = draw_vehicle()
    for name in ("a.pcapng", "a.pcap", "b.pcapng.gz"):
        write_trace(vehicle, tmp_path / name, seconds=1, seed=1)
    assert gzip.decompress((tmp_path / "b.pcapng.gz").read_bytes()) == (tmp_path / "a.pcapng").read_bytes()
    pcap = [(packet.time, bytes(packet)) for packet in rdpcap(str(tmp_path / "a.pcap"))]
    pcapng = []
    with RawPcapNgReader(str(tmp_path / "a.pcapng")) as reader:
        records: Iterator[tuple[bytes, Any]] = iter(reader)
        for data, meta in records:
            assert meta.ifname == b"ETH1"
            assert meta.tsresol == 10**9
            pcapng.append(((meta.tshigh << 32 | meta.tslow), data))
    assert [(int(time * 10**9), data) for time, data in pcap] == pcapng
    times_ns = [int(t) for batch in simulate(vehicle, 1, 1) for t in batch.time_ns]
    assert [time_ns for time_ns, _ in pcapng] == times_ns


def test_scapy_reads_every_frame(tmp_path: Path) -> None:
    """Every frame is VLAN, IPv6 and UDP with a valid checksum, and holds the PDUs that were sent."""
    vehicle = draw_vehicle("domain")
    write_trace(vehicle, tmp_path / "t.pcap", seconds=0.3, seed=1)
    sent = [
        (vehicle.pdus[pdu].pdu_id, payload[: vehicle.pdus[pdu].length].tobytes())
        for batch in simulate(vehicle, 0.3, 1)
        for pdu, payload in zip(batch.pdu.tolist(), batch.payload, strict=True)
    ]
    sender = {pdu.pdu_id: vehicle.ecus[pdu.ecu] for pdu in vehicle.pdus}
    received = []
    for packet in rdpcap(str(tmp_path / "t.pcap")):
        assert packet[Dot1Q].vlan == 3
        assert packet[IPv6].dst == DESTINATION
        assert (packet[UDP].sport, packet[UDP].dport) == (42994, 42557)
        assert packet[Ether].dst == "33:33:00:03:00:7f"
        rebuilt = packet.copy()
        del rebuilt[UDP].chksum, rebuilt[UDP].len, rebuilt[IPv6].plen
        assert bytes(rebuilt) == bytes(packet)
        data = bytes(packet[UDP].payload)
        while data:
            pdu_id, length = struct.unpack_from(">II", data)
            received.append((pdu_id, data[8 : 8 + length]))
            data = data[8 + length :]
            assert packet[IPv6].src == sender[pdu_id].address
            assert packet[Ether].src == sender[pdu_id].mac
    assert received == sent


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
@pytest.mark.parametrize("name", ["t.pcapng.gz", "t.pcap"])
def test_tshark_reads_every_pdu(tmp_path: Path, name: str) -> None:
    """All PDUs are found by tshark, with valid checksums, no malformed frame and no step back in time."""
    vehicle = draw_vehicle("hcp")
    summary = write_trace(vehicle, tmp_path / name, seconds=8, seed=1, faults="heavy")
    fields = ["frame.time_delta", "udp.checksum.status", "_ws.malformed", "pdu_transport.id"]
    command = ["tshark", "-r", str(tmp_path / name), "-d", "udp.port==42557,pdu_transport", "-T", "fields"]
    command += ["-o", "udp.check_checksum:TRUE", *(part for field in fields for part in ("-e", field))]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == summary.datagrams
    ids = {f"0x{pdu.pdu_id:08x}" for pdu in vehicle.pdus}
    pdus = 0
    for delta, checksum, malformed, found in (line.split("\t") for line in lines):
        assert float(delta) >= 0
        assert (checksum, malformed) == ("1", "")
        assert set(found.split(",")) <= ids
        pdus += len(found.split(","))
    assert pdus == summary.pdus


def test_labels_and_names(tmp_path: Path) -> None:
    """Labels are JSON lines in order of time; names are the table that the decoder reads."""
    vehicle = draw_vehicle("bench", 2)
    summary = write_trace(
        vehicle,
        tmp_path / "t.pcap",
        seconds=40,
        seed=1,
        faults="heavy",
        labels=tmp_path / "l.jsonl",
        names=tmp_path / "n.csv",
    )
    assert (summary.labels, summary.names) == (tmp_path / "l.jsonl", tmp_path / "n.csv")
    labels = [json.loads(line) for line in summary.labels.read_text().splitlines()]
    assert len(labels) == summary.faults > 2
    assert [label["start_ns"] for label in labels] == sorted(label["start_ns"] for label in labels)
    names = {pdu.name for pdu in vehicle.pdus}
    for label in labels:
        assert set(label) == {"start_ns", "end_ns", "kind", "pdus", "severity"}
        assert START_NS < label["start_ns"] < label["end_ns"]
        assert label["kind"] in {"delay", "missing", "ecu_stop"}
        assert set(label["pdus"]) <= names
        assert label["pdus"]
    with summary.names.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "name", "vlan", "src", "sport", "dst", "dport", "cycle_ms"]
    for row, pdu in zip(rows, vehicle.pdus, strict=True):
        assert (int(row["id"], 16), row["name"]) == (pdu.pdu_id, pdu.name)
        assert row["src"] == vehicle.ecus[pdu.ecu].address
        assert row["cycle_ms"] == ("" if pdu.cycle_ns is None else str(pdu.cycle_ns // 1_000_000))


def test_demo_trace_is_small(tmp_path: Path) -> None:
    """A minute of a bench fits well under a megabyte."""
    out = tmp_path / "t.pcapng.gz"
    write_trace(draw_vehicle("bench"), out, seconds=60, seed=1, faults="light")
    assert out.stat().st_size < 500_000


def test_failure_leaves_nothing_new(tmp_path: Path) -> None:
    """When writing is broken off, files which were there are as they were and none is added."""
    (tmp_path / "t.pcap").write_bytes(b"earlier")

    def interrupt(batch: Batch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_trace(draw_vehicle(), tmp_path / "t.pcap", seconds=5, seed=1, on_batch=interrupt)
    assert written(tmp_path) == {"t.pcap": b"earlier"}


def test_unwritable_paths(tmp_path: Path) -> None:
    """A path that cannot be written is named, and the other files are not written either."""
    vehicle = draw_vehicle()
    (tmp_path / "folder.pcap").mkdir()
    for out in (tmp_path / "none" / "t.pcap", tmp_path / "folder.pcap"):
        with pytest.raises(OutputError, match=f"{out.name}: cannot be written"):
            write_trace(vehicle, out, seconds=1, seed=1)
    missing = tmp_path / "none" / "l.jsonl"
    with pytest.raises(OutputError, match=r"l\.jsonl: cannot be written"):
        write_trace(vehicle, tmp_path / "t.pcap", seconds=1, seed=1, labels=missing)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.pcap"]


@pytest.mark.parametrize("name", ["trace", "trace.blf", "trace.gz", ".pcap", "trace.pcapng.xz"])
def test_unknown_suffix(tmp_path: Path, name: str) -> None:
    """A name that says no known format is refused with the ones that there are."""
    with pytest.raises(ConfigError, match=r"ends in one of \.pcap"):
        write_trace(draw_vehicle(), tmp_path / name, seconds=1, seed=1)
    assert not written(tmp_path)


def test_same_file_twice(tmp_path: Path) -> None:
    """Labels may not be written over the trace."""
    with pytest.raises(ConfigError, match="three different files"):
        write_trace(draw_vehicle(), tmp_path / "t.pcap", seconds=1, seed=1, labels=tmp_path / "t.pcap")


def test_command(tmp_path: Path) -> None:
    """The command writes the trace, draws no bar where there is no terminal, and ends with a summary."""
    out = tmp_path / "t.pcapng.gz"
    result = RUNNER.invoke(
        APP, ["--preset", "hcp", "--seconds", "20", "--seed", "3", "--faults", "light", "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    direct = write_trace(draw_vehicle("hcp"), tmp_path / "d.pcapng.gz", seconds=20, seed=3, faults="light")
    assert out.read_bytes() == direct.out.read_bytes()
    assert "\x1b" not in result.stderr
    assert f"{direct.pdus} PDUs in {direct.datagrams} datagrams" in result.stdout


def test_command_refuses_bad_options(tmp_path: Path) -> None:
    """The command leaves wrong options to the caller as errors of the user's kind."""
    out = str(tmp_path / "t.pcap")
    for options in (["--preset", "lorry"], ["--seconds", "0"], ["--faults", "many"], ["--seed", "-1"]):
        assert isinstance(RUNNER.invoke(APP, ["--out", out, *options]).exception, ConfigError)
    assert not written(tmp_path)
