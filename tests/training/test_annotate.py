"""The command `annotate`, on traces that scapy wrote and on CSV."""

import struct
from pathlib import Path

import pytest
import typer
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw
from scapy.utils import wrpcapng
from typer.testing import CliRunner, Result

from ecustream.errors import ConfigError, InputError, OutputError
from training.annotate import annotate_command
from training.annotator import KIND
from training.labels import Label, encode, read_labels

APP = typer.Typer()
APP.command()(annotate_command)

START_S = 1_700_000_000
MS = 1_000_000
NODE, GROUP = "fd53:7cb8:383:3::1", "ff14::3:7f"
NAMES = f"""id,name,vlan,src,sport,dst,dport,cycle_ms
0x10,Given,3,fd53:7cb8:383:3::9,42994,{GROUP},42557,50
0x10,Given,3,{NODE},42994,{GROUP},42557,100
0x11,Learned,3,{NODE},42994,{GROUP},42557,
0x12,Irregular,3,{NODE},42994,{GROUP},42557,
,NM_Node,3,{NODE},42994,{GROUP},30500,50
"""
CSV = (("NM_Node", 7), ("ESC_03", 8))


def annotate(*words: str | Path) -> Result:
    return CliRunner().invoke(APP, [str(word) for word in words], env={"COLUMNS": "200"})


def nanoseconds(milliseconds: float) -> int:
    return START_S * 10**9 + round(milliseconds * MS)


def packet(at_ms: float, port: int, payload: bytes) -> Packet:
    flow = IPv6(src=NODE, dst=GROUP) / UDP(sport=42994, dport=port)
    frame = Ether(src="02:00:00:00:00:01", dst="33:33:00:03:00:7f") / Dot1Q(vlan=3) / flow / Raw(payload)
    # scapy keeps microseconds.
    frame.time = START_S + at_ms / 1000
    return frame


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A trace of 10 s: Given (100 ms) is late at 5 s, Learned (20 ms) at 7 s; the others are not checked."""
    given = [*range(0, 5000, 100), 5060, *range(5100, 10_000, 100)]
    learned = [*range(3, 7003, 20), *range(7103, 10_000, 20)]
    irregular = [n * (n + 1) / 2 for n in range(140)]
    sent = [
        (time, 42557, struct.pack(">II", pdu_id, 2) + b"ab")
        for pdu_id, times in ((0x10, given), (0x11, learned), (0x12, irregular))
        for time in times
    ]
    sent += [(time, 30500, bytes((1, 5, 0, 0, 0, 0, 0, 0))) for time in range(1, 10_000, 640)]
    wrpcapng(str(tmp_path / "t.pcapng"), [packet(*row) for row in sorted(sent)])
    (tmp_path / "names.csv").write_text(NAMES, encoding="utf-8")
    return tmp_path


def test_cycles_given_and_learned(folder: Path) -> None:
    """One PDU is judged by the name table's cycle, one by its own median, the others not at all."""
    out = folder / "out.jsonl"
    result = annotate(folder / "t.pcapng", "--names", folder / "names.csv", "--out", out)
    assert result.exit_code == 0, result.output
    labels = read_labels(out)
    assert [(label.kind, label.pdus) for label in labels] == [(KIND, ["Given"]), (KIND, ["Learned"])]
    expected = [(5020, 5100), (7007, 7103)]
    for label, (start_ms, end_ms) in zip(labels, expected, strict=True):
        assert label.start_ns == pytest.approx(nanoseconds(start_ms), abs=2_000)
        assert label.end_ns == pytest.approx(nanoseconds(end_ms), abs=2_000)
    rows = [line.split() for line in result.output.splitlines()]
    assert rows[0] == ["PDU", "GenMsgCycleTime", "min", "max", "avg", "stddev", "NumEvents"]
    assert rows[1] == ["Given", "100.0", "ms", "40.0", "ms", "160.0", "ms", "100.0", "ms", "8.5", "ms", "2"]
    assert rows[2][:3] == ["Learned", "20.0", "ms"]
    assert rows[2][-1] == "1"
    assert result.output.endswith("2 annotations of 3 events, 2 messages checked\n")


def test_limits(folder: Path) -> None:
    """A limit of 0 is not checked: without the upper one only what came too early is left."""
    out = folder / "out.jsonl"
    words = ("--names", folder / "names.csv", "--out", out, "--max-rel", "0", "--min-rel", "0.5")
    assert annotate(folder / "t.pcapng", *words).exit_code == 0
    assert [(label.start_ns, label.end_ns) for label in read_labels(out)] == [
        (nanoseconds(5100), nanoseconds(5100))
    ]


def test_true_labels_are_judged_by(folder: Path) -> None:
    """Recall and precision are told, and the knobs keep to them; the seed decides which fault is kept."""
    truth, out = folder / "true.jsonl", folder / "out.jsonl"
    faults = [
        Label(nanoseconds(5000), nanoseconds(5060), "delay", ["Given"]),
        Label(nanoseconds(7003), nanoseconds(7103), "missing", ["Learned"]),
        Label(nanoseconds(9000), nanoseconds(9010), "missing", ["Other"]),
    ]
    truth.write_bytes(b"".join(map(encode, faults)))
    words = (folder / "t.pcapng", "--names", folder / "names.csv", "--out", out, "--labels", truth)
    assert annotate(*words).output.endswith("2 of 3 faults annotated: recall 0.667, precision 1.000\n")
    kept = set()
    for seed in range(8):
        result = annotate(*words, "--recall", "0.34", "--lateness-ms", "5", "--seed", str(seed))
        assert result.output.endswith("1 of 3 faults annotated: recall 0.333, precision 1.000\n")
        kept |= {name for label in read_labels(out) for name in label.pdus}
    assert kept == {"Given", "Learned"}


def test_csv_trace(tmp_path: Path) -> None:
    """A trace in the paper's columns needs no names: PDUs without ids are checked there."""
    header = "timestamp,pduName,source,sourceIp,sourcePort,destIp,destPort,activityState\n"
    times_us = [*range(0, 1_000_000, 10_000), *range(1_020_000, 1_500_000, 10_000)]
    rows = [f"{time},ESC_03,ETH1,10.0.0.1,1,10.0.0.2,2,1\n" for time in times_us]
    trace, out = tmp_path / "t.csv", tmp_path / "out.jsonl"
    trace.write_text(header + "".join(rows))
    assert annotate(trace, "--out", out).exit_code == 0
    assert read_labels(out) == [Label(1_002_000_000, 1_020_000_000, KIND, ["ESC_03"])]


def test_csv_trace_with_network_management(tmp_path: Path) -> None:
    """What a table names without an id is not checked, in a trace without ids either."""
    rows = [f"{n * 10_000},{name},ETH1,10.0.0.1,{port},10.0.0.2,2\n" for n in range(50) for name, port in CSV]
    trace, names, out = tmp_path / "t.csv", tmp_path / "names.csv", tmp_path / "out.jsonl"
    trace.write_text("timestamp,pduName,source,sourceIp,sourcePort,destIp,destPort\n" + "".join(rows))
    names.write_text("id,name,sport\n,NM_Node,7\n")
    assert annotate(trace, "--names", names, "--out", out).output.endswith("1 messages checked\n")


def test_headerless_pdus_of_a_capture_are_not_checked(folder: Path) -> None:
    """Network management that no table names comes in cycles, and is still left alone."""
    result = annotate(folder / "t.pcapng", "--out", folder / "out.jsonl")
    assert result.output.endswith("2 messages checked\n")


def test_wrong_arguments(folder: Path) -> None:
    """Each is one sentence on what to mend, before anything is written."""
    trace, out = folder / "t.pcapng", folder / "out.jsonl"
    wrong: list[tuple[tuple[str | Path, ...], type[Exception], str]] = [
        ((trace, "--out", out, "--recall", "0.5"), ConfigError, "give --labels"),
        ((trace, "--out", trace), ConfigError, "one of the files to be read"),
        ((trace, "--out", out, "--min-rel", "2"), ConfigError, "min-rel 2 is above"),
        ((trace, "--out", out, "--lateness-ms", "-1"), ConfigError, "lateness"),
        ((trace, "--out", folder / "none" / "out.jsonl"), OutputError, "cannot be written"),
        ((folder / "none.pcapng", "--out", out), InputError, "none.pcapng"),
    ]
    for words, kind, sentence in wrong:
        result = annotate(*words)
        assert isinstance(result.exception, kind)
        assert sentence in str(result.exception)
        assert not out.exists()


def test_trace_without_cycles(tmp_path: Path) -> None:
    """Where nothing can be checked, the command says so."""
    wrpcapng(str(tmp_path / "t.pcapng"), [packet(0, 42557, struct.pack(">II", 1, 2) + b"ab")])
    result = annotate(tmp_path / "t.pcapng", "--out", tmp_path / "out.jsonl")
    assert isinstance(result.exception, InputError)
    assert "no PDU has a cycle" in str(result.exception)
