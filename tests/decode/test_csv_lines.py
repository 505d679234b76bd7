"""CSV traces in the paper's columns."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.decode import csv_lines
from ecustream.decode.csv_lines import is_csv_trace, read_csv_lines
from ecustream.decode.lines import LineBuilder
from ecustream.decode.names import NameTable
from ecustream.errors import ConfigError, InputError
from ecustream.ledger import Ledger
from ecustream.traffic import Flow, Line, Pdu

HEADER = "timestamp,pduName,source,sourceIp,sourcePort,destIp,destPort,activityState,deltaTime"
T0 = 1_700_000_000_000_000
ROW = f"{T0},ESC_03,ETH1,fd53:7cb8:383:3::48,42994,ff14::48,42557,1,1129"


def read(
    tmp_path: Path, text: str | bytes, time_unit: str = "us", key: str = "stream"
) -> tuple[list[Line], Ledger, list[str]]:
    """Lines, ledger and damage of a trace with this text; the books balance up to the lines."""
    path = tmp_path / "trace.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    ledger = Ledger()
    with read_csv_lines(path, ledger, key, time_unit) as trace:
        lines = [line for batch in trace for line in batch]
        assert trace.bytes_read <= trace.total_bytes == path.stat().st_size
    assert ledger.balanced(["frames", "pdus"])
    assert ledger.entered["lines"] == len(lines)
    return lines, ledger, trace.damage


def test_row_of_the_paper_is_a_line(tmp_path: Path) -> None:
    """Every column arrives; deltaTime is computed anew and the first of a PDU has none."""
    later = ROW.replace(str(T0), str(T0 + 20_000)).replace(",1,1129", ",2,1129")
    lines, _, damage = read(tmp_path, f"{HEADER}\n{ROW}\n{later}\n")
    first, second = lines
    assert (first.number, first.frame, first.time_ns, first.state, first.delta_ns) == (
        0,
        0,
        T0 * 1000,
        1,
        None,
    )
    assert (second.state, second.delta_ns) == (2, 20_000_000)
    stream = first.stream
    assert (stream.name, stream.source, stream.sport, stream.dport) == ("ESC_03", "ETH1", 42994, 42557)
    assert stream.key == "ESC_03|ETH1|[fd53:7cb8:383:3::48]:42994|[ff14::48]:42557"
    assert not damage


def test_csv_and_capture_of_the_same_traffic_give_the_same_lines(tmp_path: Path) -> None:
    """The keys, deltas and addresses agree, so that a bundle holds for both."""
    flow = Flow("ETH1", 3, "fd53::48", 42994, "239.0.0.1", 42557)
    pdus = [Pdu(0, 1000 * (T0 + 7 * n), flow, n % 3 + 1, b"") for n in range(9)]
    expected = LineBuilder(Ledger(), NameTable([])).build(pdus)
    rows = [
        f"{line.time_ns // 1000},{line.stream.name},ETH1,FD53:0::48,42994,239.0.0.1,42557,1,0"
        for line in expected
    ]
    lines, _, _ = read(tmp_path, "\n".join([HEADER, *rows]))
    fields = ("number", "time_ns", "state", "delta_ns")
    assert [[getattr(line, name) for name in fields] for line in lines] == [
        [getattr(line, name) for name in fields] for line in expected
    ]
    assert [line.stream.key for line in lines] == [line.stream.key for line in expected]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (
            "PDUNAME;Timestamp;Source;SourceIP;Source Port;DestIP;Dest Port",
            "ESC_03;{t};ETH1;10.0.0.1;1;10.0.0.2;2",
        ),
        (
            "pduName\ttimestamp\tsource\tsourcelp\tsourcePort\tdestlp\tdestPort\tanomaly",
            "ESC_03\t{t}\tETH1\t10.0.0.1\t1\t10.0.0.2\t2\t0",
        ),
        (
            '\ufeff"timestamp","pduName","source","sourceIp","sourcePort","destIp","destPort"\r',
            '"{t}","ESC_03",ETH1,"10.0.0.1",1,10.0.0.2,2\r',
        ),
    ],
)
def test_headers_are_recognised(tmp_path: Path, header: str, row: str) -> None:
    """Order, case, spaces, delimiter, quotes, misread letters and extra columns do not matter."""
    lines, _, _ = read(tmp_path, f"{header}\n{row.format(t=T0)}\n")
    stream = lines[0].stream
    assert (lines[0].time_ns, stream.name, stream.src, stream.dport) == (T0 * 1000, "ESC_03", "10.0.0.1", 2)
    assert lines[0].state == 1


@pytest.mark.parametrize(
    ("column", "unit", "text", "time_ns"),
    [
        ("timestamp", "us", "1700000000000000.5", 1_700_000_000_000_000_500),
        ("timestamp", "ms", "1700000000000.000001", 1_700_000_000_000_000_001),
        ("timestamp_s", "us", "1700000000.123456789", 1_700_000_000_123_456_789),
        ("timestamp_ns", "us", "1700000000123456789", 1_700_000_000_123_456_789),
        ("timestamp_ms", "us", "1.7e12", 1_700_000_000_000_000_000),
        ("Timestamp_us", "s", "5", 5_000),
    ],
)
def test_times_are_exact_in_every_unit(
    tmp_path: Path, column: str, unit: str, text: str, time_ns: int
) -> None:
    """The unit of the column's name counts, then the argument; no nanosecond is lost to floats."""
    header = HEADER.replace("timestamp", column)
    lines, _, damage = read(tmp_path, f"{header}\n{ROW.replace(str(T0), text)}\n", unit)
    assert [line.time_ns for line in lines] == [time_ns], damage


def test_decimal_comma_where_the_delimiter_allows_it(tmp_path: Path) -> None:
    """A German spreadsheet writes 1,5 between semicolons."""
    text = f"{HEADER}\n{ROW}\n".replace(",", ";").replace(str(T0), "1,5")
    assert [line.time_ns for line in read(tmp_path, text)[0]] == [1500]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("x" + ROW, "timestamp"),
        (ROW.replace(str(T0), "nan"), "timestamp"),
        (ROW.replace(str(T0), "-1"), "timestamp"),
        (ROW.replace(str(T0), "1e999999999"), "timestamp"),
        (ROW.replace(str(T0), "9" * 5000), "timestamp"),
        (ROW + ",9", "cells"),
        ("half a row", "cells"),
        (ROW.replace("42994", "70000"), "sourcePort '70000'"),
        (ROW.replace("42557", ""), "destPort ''"),
        (ROW.replace("ESC_03", " "), "pduName"),
        (ROW.replace(",1,1129", ",7,1129"), "activityState '7'"),
        (ROW.replace("ESC_03", '"ESC_03'), "CSV"),
        (ROW.replace("ESC_03", "\udcff"), "UTF-8"),
        (ROW.replace("ESC_03", "x" * 70_000), "longer"),
    ],
)
def test_bad_row_is_counted_and_reading_goes_on(tmp_path: Path, bad: str, why: str) -> None:
    """The sentence names file and line, and the rows around it are lines."""
    text = f"{HEADER}\n{ROW}\n\n{bad}\n{ROW}".encode("utf-8", "surrogateescape")
    lines, ledger, damage = read(tmp_path, text)
    assert len(lines) == 2
    assert ledger.ends["pdus"]["unreadable{bad_row}"] == 1
    assert len(damage) == 1
    assert damage[0].startswith(f"{tmp_path / 'trace.csv'}: line 4: ")
    assert why in damage[0]


def test_sentences_about_damage_are_limited(tmp_path: Path) -> None:
    """A file of bad rows fills the ledger and not the memory."""
    _, ledger, damage = read(tmp_path, f"{HEADER}\n" + "bad\n" * 100)
    assert ledger.ends["pdus"]["unreadable{bad_row}"] == 100
    assert len(damage) == csv_lines.MAX_SENTENCES + 1


def test_named_states_and_time_running_backwards(tmp_path: Path) -> None:
    """States may be written out; an overtaken line has delta 0."""
    rows = [
        ROW.replace(",1,1129", ",startup-shutdown,"),
        ROW.replace(str(T0), str(T0 - 5)).replace(",1,", ",0,"),
    ]
    lines, ledger, _ = read(tmp_path, "\n".join([HEADER, *rows]))
    assert [(line.state, line.delta_ns) for line in lines] == [(2, None), (0, 0)]
    assert ledger.notes["time_backwards"] == 1


def test_key_by_name(tmp_path: Path) -> None:
    """The paper's key joins the copies of a PDU."""
    other = ROW.replace("ff14::48", "ff14::49").replace(str(T0), str(T0 + 1))
    lines, _, _ = read(tmp_path, f"{HEADER}\n{ROW}\n{other}\n", key="name")
    assert [(line.stream.key, line.delta_ns) for line in lines] == [("ESC_03", None), ("ESC_03", 1000)]


@pytest.mark.parametrize("missing", HEADER.split(",")[:7])
def test_missing_column_is_refused(tmp_path: Path, missing: str) -> None:
    """The sentence names the file and the column."""
    with pytest.raises(InputError, match=rf"trace\.csv: line 1: no column '{missing}'"):
        read(tmp_path, HEADER.replace(missing, "other") + "\n")


def test_unusable_files_and_arguments_are_refused(tmp_path: Path) -> None:
    """Empty, missing and broken files, unknown units and keys end with one sentence."""
    with pytest.raises(InputError, match="empty"):
        read(tmp_path, "")
    with pytest.raises(InputError, match=r"no\.csv: cannot be read"):
        read_csv_lines(tmp_path / "no.csv", Ledger())
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path, b"\x1f\x8b broken")
    with pytest.raises(InputError, match="unit 'min'"):
        read(tmp_path, HEADER.replace("timestamp", "timestamp_min") + "\n")
    with pytest.raises(ConfigError, match="'min'"):
        read(tmp_path, HEADER, time_unit="min")
    with pytest.raises(ConfigError, match="'id'"):
        read(tmp_path, HEADER, key="id")


def test_gzip_is_read_and_a_cut_one_keeps_what_is_there(tmp_path: Path) -> None:
    """A broken-off file gives its whole rows and one unreadable PDU for the rest."""
    rows = [ROW.replace(str(T0), str(T0 + 137 * n * n)) for n in range(5000)]
    whole = gzip.compress("\n".join([HEADER, *rows]).encode())
    lines, _, damage = read(tmp_path, whole)
    assert len(lines) == 5000
    assert not damage
    lines, ledger, damage = read(tmp_path, whole[: len(whole) // 2])
    assert 0 < len(lines) < 5000
    assert ledger.ends["pdus"]["unreadable{truncated_file}"] == 1
    assert "breaks off" in damage[0]


def test_csv_traces_are_told_from_captures(tmp_path: Path) -> None:
    """By name, or by their first row; anything else is left to the capture reader."""
    cases = {
        "a.csv": (b"", True),
        "b.CSV.GZ": (b"", True),
        "c.txt": (f"{HEADER}\n".encode(), True),
        "d": (gzip.compress(f"{HEADER}\n".encode()), True),
        "e.pcap": (b"\xd4\xc3\xb2\xa1" + bytes(20), False),
        "f.gz": (b"\x1f\x8b\x08 broken", False),
        "g.txt": (b"something,else\n", False),
    }
    for name, (content, expected) in cases.items():
        (tmp_path / name).write_bytes(content)
        assert is_csv_trace(tmp_path / name) is expected, name
    assert not is_csv_trace(tmp_path / "missing")
    assert not is_csv_trace(tmp_path)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_lines_or_counted(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, headed: bool
) -> None:
    """Garbage after a header never raises; garbage instead of one is an error for the user."""
    folder = tmp_path_factory.getbasetemp()
    if headed:
        lines, _, _ = read(folder, f"{HEADER}\n{ROW}\n".encode() + noise)
        assert lines
    else:
        with pytest.raises(InputError):
            read(folder, noise)
