"""Event log, score log, and the booking of events over their sinks."""

import csv
import gzip
import io
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecustream.errors import OutputError
from ecustream.ledger import Ledger
from ecustream.publish.eventlog import EventLog
from ecustream.publish.messages import encode
from ecustream.publish.scorelog import COLUMNS, ScoreLog
from ecustream.publish.sinks import EventSinks
from ecustream.publish.socket import Publisher
from ecustream.scores import ScoreBlock
from ecustream.traffic import STATE_NORMAL, Line, Stream
from tests.publish.conftest import Subscribe
from tests.publish.examples import make_event, make_status

FEW_CHUNKS = {"scores.csv": 3, "scores.jsonl": 3, "scores.csv.gz": 50}
"""What takes more than a small disk has, and does not fill memory."""

needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")


@contextmanager
def small_disk() -> Iterator[None]:
    """No file of this process grows beyond 1000 bytes; a write that would is cut short.

    Not a fixture: pytest itself writes between the phases of a test, perhaps to a file.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def block(count: int, name: str = "ESC_03") -> ScoreBlock:
    """Scores of `count` lines; the last field has no token."""
    stream = Stream(0, name, name, "eth1", "a", 1, "b", 2)
    return ScoreBlock(
        lines=[Line(n, n + 1, n * 1000, stream, STATE_NORMAL, None) for n in range(count)],
        field_nats=np.array([[0.1, n, np.nan] for n in range(count)], np.float32),
        tokens=np.full(count, 2),
        expected=np.zeros((count, 3), np.int64),
        warming=np.arange(count) < 1,
    )


def test_event_log_lines_are_there_at_once(tmp_path: Path) -> None:
    """Each event is one line with the bytes of the socket, readable before the log is closed."""
    path = tmp_path / "events.jsonl"
    path.write_text("from an earlier run")
    log = EventLog(path)
    assert log.write(make_event(1))
    assert path.read_bytes() == encode(make_event(1)) + b"\n"
    assert log.write(make_event(2))
    assert path.read_bytes().splitlines() == [encode(make_event(1)), encode(make_event(2))]
    log.close()
    assert log.problem() is None


@pytest.mark.parametrize("cut", [1, 20, 30, 200])
def test_event_log_goes_on_after_a_crash(tmp_path: Path, cut: int) -> None:
    """The events before stay, the half one is cut off; what holds something else is refused."""
    path = tmp_path / "events.jsonl"
    first = EventLog(path, append=True)
    assert first.write(make_event(1))
    first.close()
    whole = path.read_bytes()
    path.write_bytes(whole + encode(make_event(2))[:cut])
    log = EventLog(path, append=True)
    assert path.read_bytes() == whole
    assert log.write(make_event(3))
    log.close()
    assert path.read_bytes() == whole + encode(make_event(3)) + b"\n"
    path.write_bytes(b"notes of mine")
    with pytest.raises(OutputError, match="is there and holds no events; give --events another file"):
        EventLog(path, append=True)
    assert path.read_bytes() == b"notes of mine"


@pytest.mark.parametrize("append", [False, True])
def test_event_log_of_two(tmp_path: Path, append: bool) -> None:
    """Two runs on one file would write over each other: the second is refused, and changes nothing."""
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    assert log.write(make_event(1))
    with pytest.raises(OutputError, match="another ecustream writes to it"):
        EventLog(path, append=append)
    assert path.read_bytes() == encode(make_event(1)) + b"\n"
    log.close()
    EventLog(path, append=append).close()


def test_event_log_on_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """`-` writes to standard output and leaves it open."""
    log = EventLog("-")
    log.write(make_event(1))
    log.close()
    os.write(1, b"more\n")
    assert capfdbinary.readouterr().out == encode(make_event(1)) + b"\nmore\n"


def test_event_log_on_a_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where standard output is no file but an object, the log writes to that."""
    stand_in = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr("sys.stdout", stand_in)
    EventLog("-").write(make_event(1))
    assert stand_in.buffer.getvalue() == encode(make_event(1)) + b"\n"


def test_event_log_on_a_closed_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `| head` has gone, events are counted as failed and the run goes on."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        log = EventLog("-")
        os.close(reader)
        assert not log.write(make_event(1))
        assert log.problem() == "standard output: 1 of 1 events could not be written: Broken pipe"


@pytest.mark.parametrize("make", [EventLog, ScoreLog])
def test_unwritable_paths(tmp_path: Path, make: type[EventLog] | type[ScoreLog]) -> None:
    """A log that cannot be opened is refused before the run starts, with its path and the reason."""
    with pytest.raises(OutputError, match=f"{tmp_path}/no/x: cannot be written: No such file or directory"):
        make(tmp_path / "no" / "x")
    with pytest.raises(OutputError, match="Is a directory"):
        make(tmp_path)


def test_event_log_keeps_whole_lines_on_a_full_disk(tmp_path: Path) -> None:
    """When the disk is full, half a line is taken back; when there is room again, the log goes on."""
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    with small_disk():
        assert log.write(make_event(1))
        assert log.trouble is None
        assert not log.write(make_event(2))
    assert log.trouble == f"{path}: events cannot be written: File too large; 1 are missing so far"
    assert path.read_bytes() == encode(make_event(1)) + b"\n"
    assert log.write(make_event(3))
    assert log.trouble is None
    log.close()
    assert path.read_bytes().splitlines() == [encode(make_event(1)), encode(make_event(3))]
    assert log.problem() == f"{path}: 1 of 3 events could not be written: File too large"


def test_score_log_csv(tmp_path: Path) -> None:
    """A CSV score log has a header and a row a line; a field without a token is empty."""
    log = ScoreLog(tmp_path / "scores.csv")
    log.write(block(2, name='with "quotes", commas'))
    log.close()
    with (tmp_path / "scores.csv").open(newline="") as file:
        header, first, second = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert first == ["0", "0", 'with "quotes", commas', "1.051271", "0.1", "0.0", "", "1"]
    assert second == ["1", "1000", 'with "quotes", commas', "1.733253", "0.1", "1.0", "", "0"]
    assert (log.rows, log.problem()) == (2, None)


def test_score_log_json_lines_compressed(tmp_path: Path) -> None:
    """Any other name gives JSON lines; `.gz` compresses, and equal scores give equal files."""
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        log = ScoreLog(tmp_path / name)
        log.write(block(2))
        log.write(block(1))
        log.close()
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    text = gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes())
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["number"] for row in rows] == [0, 1, 0]
    assert tuple(rows[1]) == COLUMNS
    assert rows[1]["deltaTime_nats"] == 1.0
    assert rows[1]["activityState_nats"] is None
    assert rows[0]["warming"] is True


@pytest.mark.parametrize("name", ["scores.csv", "scores.jsonl.gz"])
def test_score_log_on_a_full_disk(tmp_path: Path, name: str) -> None:
    """A disk that stays full is told while it lasts and at the end; what there is ends with a whole row."""
    log = ScoreLog(tmp_path / name)
    with small_disk():
        for i in range(500):
            log.write(block(200, name=os.urandom(30).hex() + str(i)))
        told = log.trouble
        log.close()
    missing = f"{log.failed} or more" if name.endswith(".gz") else str(log.failed)
    assert told is not None
    assert told.startswith(f"{tmp_path / name}: scores cannot be written: File too large; ")
    assert log.problem() == (
        f"{tmp_path / name}: cannot be written to its end, {missing} rows are missing: File too large"
    )
    assert log.rows + log.failed == 100_000
    if not name.endswith(".gz"):
        rows = (tmp_path / name).read_bytes()
        assert rows.count(b"\n") == log.rows + 1
        assert rows.endswith(b"\n")


@pytest.mark.parametrize(
    ("name", "chunks"),  # a compressor holds some back
    [(name, chunks) for name, few in FEW_CHUNKS.items() for chunks in (few, 1000)],
)
def test_score_log_goes_on_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, chunks: int
) -> None:
    """A short time without room loses no row, a long one the rows that are counted; the file is whole."""
    monkeypatch.setattr("ecustream.publish.scorelog.BUFFER_BYTES", 1)
    monkeypatch.setattr("ecustream.publish.scorelog.MOST_WAITING_BYTES", 300_000)
    log = ScoreLog(tmp_path / name)
    written = [block(200, name=os.urandom(20).hex() + str(i)) for i in range(chunks)]
    log.write(block(3, name="before"))
    with small_disk():
        for scores in written:
            log.write(scores)
        assert log.trouble is not None
    log.write(block(4, name="after"))
    assert log.trouble is None
    log.close()
    data = (tmp_path / name).read_bytes()
    text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
    if ".csv" in name:
        names = [row["pduName"] for row in csv.DictReader(io.StringIO(text))]
    else:
        names = [json.loads(row)["pduName"] for row in text.splitlines()]
    assert len(names) == log.rows == 200 * chunks + 7 - log.failed
    kept = [scores.lines[0].stream.name for scores in written][: len(names) // 200]
    assert names == ["before"] * 3 + [name for name in kept for _ in range(200)] + ["after"] * 4
    assert (log.failed > 0) == (chunks == 1000)
    lost = f"{log.failed} of {200 * chunks + 7} rows could not be written: File too large"
    assert log.problem() == (f"{tmp_path / name}: {lost}" if log.failed else None)


def test_each_event_is_booked_once(tmp_path: Path, publisher: Publisher, subscribe: Subscribe) -> None:
    """With a socket, a log, or both, every event ends once as published and the book balances."""
    subscriber = subscribe(publisher)
    for name, sink in (("log", None), ("both", publisher)):
        ledger = Ledger()
        sinks = EventSinks(ledger, publisher=sink, log=EventLog(tmp_path / name))
        for seq in range(1, 51):
            ledger.enter("events")
            sinks.emit(make_event(seq))
        sinks.close()
        assert ledger.ends["events"] == {"published": 50}
        assert ledger.balanced()
        assert sinks.problems() == []
        assert sinks.trouble is None
        assert len((tmp_path / name).read_bytes().splitlines()) == 50
    assert len([subscriber.recv_multipart() for _ in range(50)]) == 50


@needs_dev_full
def test_an_event_that_no_sink_took_is_dropped() -> None:
    """An event is dropped only when every sink has failed, and the reason tells which."""
    ledger = Ledger()
    EventSinks(ledger).emit(make_event(1))
    full = EventSinks(ledger, log=EventLog("/dev/full"))
    full.emit(make_event(1))
    full.close()
    closed = Publisher("tcp://127.0.0.1:*", "tcp://127.0.0.1:*", make_status())
    both = EventSinks(ledger, publisher=closed, log=EventLog("/dev/full"))
    both.emit(make_event(1))
    assert both.trouble == (
        "/dev/full: events cannot be written: No space left on device; 1 are missing so far"
    )
    both.close()
    both.emit(make_event(2))
    assert ledger.ends["events"] == {
        "dropped{no_sink}": 1,
        "dropped{log_failed}": 1,
        "published": 1,
        "dropped{socket_failed}": 1,
    }
    assert full.problems() == ["/dev/full: 1 of 1 events could not be written: No space left on device"]


@given(st.lists(st.floats(0, 700, width=32), min_size=1, max_size=20))
def test_score_log_has_seven_significant_digits(
    tmp_path_factory: pytest.TempPathFactory, nats: list[float]
) -> None:
    """Every number is the one that `%.7g` writes, large perplexities as well; infinity and nan are null."""
    scores = block(len(nats))
    scores.field_nats[:, 0] = nats
    path = tmp_path_factory.mktemp("log") / "s.jsonl"
    log = ScoreLog(path)
    log.write(scores)
    log.close()
    rows = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    wanted = [float(f"{value:.7g}") for value in scores.field_nats[:, 0].tolist()]
    assert [row["pduName_nats"] for row in rows] == wanted
    wanted = [float(f"{value:.7g}") for value in scores.perplexity().tolist()]
    assert [row["perplexity"] for row in rows] == wanted
    assert {row["activityState_nats"] for row in rows} == {None}
