"""Simulated traces are captures that others can read, with all that is true of them beside."""

import csv
import gzip
import hashlib
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import typer
from scapy.utils import RawPcapNgReader, rdpcap
from typer.testing import CliRunner

from ecustream.decode.names import NameTable
from ecustream.decode.state import ActivityState
from ecustream.errors import ConfigError, OutputError
from ecustream.ledger import Ledger
from ecustream.run.source import TraceLines
from training.labels import read_context, read_labels
from training.simulate import START_NS, Batch, Simulation, draw_vehicle, write_trace
from training.simulate.command import simulate_command
from training.simulate.names import NM_PORT
from training.simulate.writer import record, trace_files

RUNNER = CliRunner()
APP = typer.Typer()
APP.command()(simulate_command)

GOLDEN = {
    "t.annotator.jsonl": "1edad9bbfd9dc628",
    "t.context.jsonl": "9631692a86398d64",
    "t.labels.jsonl": "b628b5824381ae5d",
    "t.names.csv": "a101f7caa330a40c",
    "t.pcapng": "a9eb074583f15777",
}
"""First 64 bits of the SHA-256 of each file."""

needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")


def written(folder: Path) -> dict[str, bytes]:
    """Name and content of all files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def tshark(trace: Path, *fields: str, options: tuple[str, ...] = ()) -> list[list[str]]:
    """The fields of each frame."""
    command = ["tshark", "-r", str(trace), *options, "-T", "fields"]
    command += [part for field in fields for part in ("-e", field)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split("\t") for line in lines]


@pytest.mark.parametrize("name", ["t.pcapng", "t.pcapng.gz", "t.pcap", "t.pcap.gz"])
def test_same_arguments_same_bytes(tmp_path: Path, name: str) -> None:
    """The arguments decide every byte of all files, whatever the folder is called."""
    contents = []
    for folder, drive in (("one", 7), ("another", 7), ("third", 8)):
        (tmp_path / folder).mkdir()
        write_trace(draw_vehicle(), tmp_path / folder / name, seconds=15, drive=drive, faults="heavy")
        contents.append(written(tmp_path / folder))
    side_files = {f"t.{part}" for part in ("labels.jsonl", "context.jsonl", "annotator.jsonl", "names.csv")}
    assert set(contents[0]) == {name, *side_files}
    assert contents[0] == contents[1]
    assert contents[0][name] != contents[2][name]
    assert contents[0]["t.labels.jsonl"] != contents[2]["t.labels.jsonl"]
    assert contents[0]["t.names.csv"] == contents[2]["t.names.csv"]


def test_bytes_are_the_same_everywhere(tmp_path: Path) -> None:
    """A day with faults of a fixed vehicle has the bytes it has always had, on any machine."""
    vehicle, trace = draw_vehicle("domain", 5), tmp_path / "t.pcapng"
    summary = write_trace(vehicle, trace, seconds=90, drive=3, scenario="day", faults="heavy")
    assert summary.faults > 5
    digests = {name: hashlib.sha256(data).hexdigest()[:16] for name, data in written(tmp_path).items()}
    assert digests == GOLDEN


def test_formats_carry_the_same_frames(tmp_path: Path) -> None:
    """Both pcapng and pcap hold the same frames at the same nanoseconds, compressed or not."""
    vehicle = draw_vehicle()
    for name in ("a.pcapng", "a.pcap", "b.pcapng.gz"):
        write_trace(vehicle, tmp_path / name, seconds=1, drive=1)
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
    times_ns = [int(t) for batch in Simulation(vehicle, 1, 1).batches() for t in batch.time_ns]
    assert [time_ns for time_ns, _ in pcapng] == times_ns


@needs_tshark
@pytest.mark.parametrize(("preset", "name"), [("hcp", "t.pcapng.gz"), ("domain", "t.pcap")])
def test_tshark_reads_every_pdu(tmp_path: Path, preset: str, name: str) -> None:
    """All PDUs are found by tshark, with valid checksums and no malformed frame, from sleep to sleep."""
    vehicle = draw_vehicle(preset, 1)
    summary = write_trace(vehicle, tmp_path / name, seconds=25, drive=1, scenario="day", faults="heavy")
    ports = {socket.destination_port for socket in vehicle.sockets if socket.layout == "soad"} - {30490}
    options = tuple(part for port in ports for part in ("-d", f"udp.port=={port},pdu_transport"))
    options += ("-d", f"udp.port=={NM_PORT},autosar-nm", "-d", "udp.port==30490,someip")
    options += ("-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")
    fields: tuple[str, ...] = (
        "udp.checksum.status",
        "ip.checksum.status",
        "_ws.malformed",
        "pdu_transport.id",
        "ptp.v2.messagetype",
    )
    fields += ("someip.messageid", "autosar-nm.ctrl")
    rows = tshark(tmp_path / name, *fields, options=options)
    assert len(rows) == summary.datagrams
    known = {f"0x{pdu.pdu_id:08x}" for pdu in vehicle.pdus}
    pdus = 0
    for udp, ip, malformed, ids, ptp, someip, nm in rows:
        assert malformed == ""
        assert ip in ("", "1")
        assert udp == ("" if ptp else "1")
        found = [part for text in (ids, someip) for part in text.split(",") if part]
        assert set(found) <= known
        pdus += len(found) or 1
        assert found or ptp or nm
    assert pdus == summary.pdus


@pytest.mark.parametrize("preset", ["hcp", "vehicle"])
def test_our_own_reader_names_every_pdu(tmp_path: Path, preset: str) -> None:
    """The decoder finds each PDU that was sent under its name, and the books balance."""
    vehicle = draw_vehicle(preset, 2)
    trace = tmp_path / "t.pcapng"
    summary = write_trace(vehicle, trace, seconds=6, drive=1)
    sent: Counter[str] = Counter()
    for batch in Simulation(vehicle, 6, 1).batches():
        sent.update(vehicle.pdus[pdu].name for pdu in batch.pdu.tolist())
    for pdu in vehicle.pdus:
        if pdu.role in ("sync", "follow_up"):
            del sent[pdu.name]
    ledger = Ledger()
    seen: Counter[str] = Counter()
    with closing(TraceLines(trace, ledger, names=NameTable.load(summary.files.names))) as lines:
        for chunk in lines:
            seen.update(line.stream.name for line in chunk)
    assert seen == sent


def test_decoded_activity_state_follows_the_truth(tmp_path: Path) -> None:
    """From network management the decoder tells the state, but for the seconds in which NM goes on."""
    trace = tmp_path / "t.pcapng"
    summary = write_trace(draw_vehicle("domain", 1), trace, seconds=90, drive=1, scenario="day")
    truth = [row for row in read_context(summary.files.context) if row.kind == "activity"]
    assert {row.state for row in truth} == {0, 1, 2}
    agree = total = 0
    names, state = NameTable.load(summary.files.names), ActivityState(nm_port=NM_PORT)
    with closing(TraceLines(trace, Ledger(), names=names, state=state)) as lines:
        states = iter(truth)
        current = next(states)
        for chunk in lines:
            for line in chunk:
                while line.time_ns >= current.end_ns:
                    current = next(states)
                total += 1
                agree += line.state == current.state
    assert agree / total > 0.9


def test_labels_context_and_names(tmp_path: Path) -> None:
    """Labels are JSON lines with severities and states; names are the table that the decoder reads."""
    vehicle = draw_vehicle("hcp", 2)
    files = trace_files(tmp_path / "t.pcap", tmp_path / "l.jsonl", tmp_path / "c.jsonl", tmp_path / "n.csv")
    summary = record(Simulation(vehicle, 90, 1, "heavy"), files)
    labels = [json.loads(line) for line in files.labels.read_text().splitlines()]
    assert len(labels) == summary.faults > 8
    names = {pdu.name for pdu in vehicle.pdus}
    for label in labels:
        assert START_NS < label["start_ns"] <= label["end_ns"] < START_NS + 90 * 10**9
        assert label["severity"] in (1, 2, 3, 4)
        assert label["category"] in ("delay", "eliminate", "inject", "manipulate", "reorder")
        assert set(label["pdus"]) <= names
        assert label["activity"] == 1
    context = read_context(files.context)
    activity = [row for row in context if row.kind == "activity"]
    assert (activity[0].start_ns, activity[-1].end_ns) == (START_NS, START_NS + 90 * 10**9)
    assert sum(row.kind == "control" for row in context) == summary.controls
    with files.names.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "name", "vlan", "src", "sport", "dst", "dport", "cycle_ms"]
    udp = [pdu for pdu in vehicle.pdus if pdu.role not in ("sync", "follow_up")]
    assert {row["name"] for row in rows} == {pdu.name for pdu in udp}
    assert len(rows) == sum(len(pdu.sockets) for pdu in udp)


def test_annotator_is_as_unreliable_as_asked(tmp_path: Path) -> None:
    """The second label file has the recall and precision asked for, and its times are late."""
    vehicle = draw_vehicle("hcp")
    options = ["--preset", "hcp", "--seconds", "400", "--faults", "heavy", "--out", str(tmp_path / "t.pcap")]
    options += ["--annotator-recall", "0.5", "--annotator-precision", "0.8", "--annotator-lateness-ms", "20"]
    result = RUNNER.invoke(APP, options)
    assert result.exit_code == 0, result.output
    labels = read_labels(tmp_path / "t.annotator.jsonl")
    assert {label.kind for label in labels} == {"cycle_time_violation"}
    assert {name for label in labels for name in label.pdus} <= {pdu.name for pdu in vehicle.pdus}
    words = result.output.split("recall ")[1]
    assert float(words.split(",")[0]) == pytest.approx(0.5, abs=0.02)
    assert float(words.split("precision ")[1][:4]) == pytest.approx(0.8, abs=0.02)


def test_demo_trace_is_small(tmp_path: Path) -> None:
    """A minute of a bench fits well under a megabyte."""
    out = tmp_path / "t.pcapng.gz"
    write_trace(draw_vehicle("bench"), out, seconds=60, drive=1, faults="light")
    assert out.stat().st_size < 800_000


def test_failure_leaves_nothing_new(tmp_path: Path) -> None:
    """When writing is broken off, files which were there are as they were and none is added."""
    (tmp_path / "t.pcap").write_bytes(b"earlier")

    def interrupt(batch: Batch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(Simulation(draw_vehicle(), 5), trace_files(tmp_path / "t.pcap"), on_batch=interrupt)
    assert written(tmp_path) == {"t.pcap": b"earlier"}


def test_unwritable_paths(tmp_path: Path) -> None:
    """A path that cannot be written is named, and the other files are not written either."""
    vehicle = draw_vehicle()
    (tmp_path / "folder.pcap").mkdir()
    for out in (tmp_path / "none" / "t.pcap", tmp_path / "folder.pcap"):
        with pytest.raises(OutputError, match=f"{out.name}: cannot be written"):
            write_trace(vehicle, out, seconds=1)
    files = trace_files(tmp_path / "t.pcap", labels=tmp_path / "none" / "l.jsonl")
    with pytest.raises(OutputError, match=r"l\.jsonl: cannot be written"):
        record(Simulation(vehicle, 1), files)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.pcap"]


@pytest.mark.parametrize("name", ["trace", "trace.blf", "trace.gz", ".pcap", "trace.pcapng.xz"])
def test_unknown_suffix(tmp_path: Path, name: str) -> None:
    """A name that says no known format is refused with the ones that there are."""
    with pytest.raises(ConfigError, match=r"ends in one of \.pcap"):
        write_trace(draw_vehicle(), tmp_path / name, seconds=1)
    assert not written(tmp_path)


def test_same_file_twice(tmp_path: Path) -> None:
    """Labels may not be written over the trace."""
    with pytest.raises(ConfigError, match="different files"):
        trace_files(tmp_path / "t.pcap", labels=tmp_path / "t.pcap")


def test_command_writes_everything_that_was_asked_for(tmp_path: Path) -> None:
    """Trace, vehicle, Wireshark profile and picture are written; without a terminal no bar is drawn."""
    out = tmp_path / "t.pcapng.gz"
    options = ["--preset", "hcp", "--seconds", "12", "--seed", "3", "--drive", "2", "--faults", "heavy"]
    options += ["--save-vehicle", str(tmp_path / "v.toml"), "--wireshark", str(tmp_path / "profile")]
    options += ["--plot", str(tmp_path / "p.svg"), "--plot-from", "4", "--plot-seconds", "2"]
    result = RUNNER.invoke(APP, [*options, "--out", str(out)])
    assert result.exit_code == 0, result.output
    direct = write_trace(
        draw_vehicle("hcp", 3), tmp_path / "d.pcapng.gz", seconds=12, drive=2, faults="heavy"
    )
    assert out.read_bytes() == direct.files.out.read_bytes()
    assert "\x1b" not in result.stderr
    assert f"{direct.pdus} PDUs in {direct.datagrams} datagrams" in result.stdout
    assert "PDU_Transport_identifiers" in {path.name for path in (tmp_path / "profile").iterdir()}
    assert (tmp_path / "p.svg").read_text().startswith("<?xml")

    again = [
        "--vehicle",
        str(tmp_path / "v.toml"),
        *options[2:10],
        "--out",
        str(tmp_path / "again.pcapng.gz"),
    ]
    assert RUNNER.invoke(APP, again).exit_code == 0
    assert (tmp_path / "again.pcapng.gz").read_bytes() == out.read_bytes()


def test_command_refuses_bad_options(tmp_path: Path) -> None:
    """The command leaves wrong options to the caller as errors of the user's kind, before it writes."""
    out = ["--out", str(tmp_path / "t.pcap")]
    for options in (
        ["--preset", "lorry"],
        ["--preset", "hcp", "--vehicle", str(tmp_path / "none.toml")],
        ["--seconds", "0"],
        ["--seconds", "1e300"],
        ["--faults", "many"],
        ["--seed", "-1"],
        ["--drive", "-1"],
        ["--scenario", "night"],
        ["--vehicle", str(tmp_path / "none.toml")],
        ["--plot", str(tmp_path / "p.bmp")],
        ["--annotator-precision", "0"],
        ["--live", "no-such-interface"],
    ):
        raised = RUNNER.invoke(APP, [*out, *options]).exception
        assert isinstance(raised, ConfigError), (options, raised)
    assert isinstance(RUNNER.invoke(APP, []).exception, ConfigError)
    assert RUNNER.invoke(APP, [*out, "--annotator-lateness-ms", "inf"]).exit_code == 2
    for folder in ("/", str(tmp_path)):
        assert isinstance(RUNNER.invoke(APP, ["--save-vehicle", folder]).exception, OutputError)
    assert not written(tmp_path)
