"""What a log looks like on a terminal, in a pipe and in the journal, and that it never floods."""

import io
import json
import logging
import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from ecustream.logs import Quiet, Repeats, configure_logs
from ecustream.systemd import is_journal

S = 1_000_000_000


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Logging is the process's; other tests get theirs back."""
    root, ours = logging.getLogger(), logging.getLogger("ecustream")
    before = root.handlers[:], root.level, ours.level, logging.raiseExceptions
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])
    logging.raiseExceptions = before[3]
    structlog.reset_defaults()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[tuple[TextIO, dict[str, str]]]:
    """A stream and the environment that claims it for the journal."""
    with (tmp_path / "log").open("w+", encoding="utf-8") as stream:
        status = os.fstat(stream.fileno())
        yield stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        """It is one."""
        return True


def written(stream: TextIO) -> list[str]:
    stream.seek(0)
    return stream.read().splitlines()


def test_a_pipe_gets_json() -> None:
    """One object a record, with its fields beside event, level, logger and time."""
    stream = io.StringIO()
    configure_logs(stream, {})
    structlog.get_logger("ecustream.capture").info("interface is back", interface="eth1", down_s=2.5)
    (line,) = written(stream)
    record = json.loads(line)
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "event": "interface is back",
        "interface": "eth1",
        "down_s": 2.5,
        "level": "info",
        "logger": "ecustream.capture",
    }


def test_the_standard_librarys_records_look_the_same() -> None:
    """The journal of events logs with `logging`; its arguments stand in the text."""
    stream = io.StringIO()
    configure_logs(stream, {})
    logging.getLogger("ecustream.publish.journal").warning("%s: %d are missing", "events", 3)
    record = json.loads(written(stream)[0])
    assert (record["event"], record["level"]) == ("events: 3 are missing", "warning")
    assert record["logger"] == "ecustream.publish.journal"


def test_a_record_is_one_line_whatever_is_in_it() -> None:
    """Line feeds and a traceback stay inside the object; text is not escaped beyond need."""
    stream = io.StringIO()
    configure_logs(stream, {})
    log = structlog.get_logger("ecustream")
    try:
        raise OSError("no\nroom")
    except OSError:
        log.exception("cannot write\nevents", path="Prüfstand")
    (line,) = written(stream)
    assert "Prüfstand" in line
    assert "OSError: no\nroom" in json.loads(line)["exception"]


def test_a_terminal_gets_words() -> None:
    """For people: no JSON."""
    stream = Terminal()
    configure_logs(stream, {})
    structlog.get_logger("ecustream").warning("lines were skipped", count=7)
    (line,) = written(stream)
    assert "lines were skipped" in line
    assert not line.startswith(("{", "<"))


@pytest.mark.parametrize(
    ("level", "priority"), [("info", 6), ("warning", 4), ("error", 3), ("critical", 2), ("exception", 3)]
)
def test_the_journal_gets_priorities(
    journal: tuple[TextIO, dict[str, str]], level: str, priority: int
) -> None:
    """`<N>` is syslog's priority, which systemd takes off; the rest is the same JSON."""
    stream, environ = journal
    configure_logs(stream, environ)
    getattr(structlog.get_logger("ecustream"), level)("something")
    (line,) = written(stream)
    assert line.startswith(f"<{priority}>")
    assert json.loads(line[3:])["event"] == "something"


def test_the_journal_is_known_by_its_stream(journal: tuple[TextIO, dict[str, str]], tmp_path: Path) -> None:
    """The variable is inherited, so it counts only for the very stream it names."""
    stream, environ = journal
    assert is_journal(stream, environ)
    assert not is_journal(stream, {})
    with (tmp_path / "other").open("w") as other:
        assert not is_journal(other, environ)
    assert not is_journal(io.StringIO(), environ)
    stream.close()
    assert not is_journal(stream, environ)


@pytest.mark.parametrize("claim", ["", "1", "a:b", "0:0"])
def test_a_claim_that_is_none(journal: tuple[TextIO, dict[str, str]], claim: str) -> None:
    """Anything else is no journal."""
    assert not is_journal(journal[0], {"JOURNAL_STREAM": claim})


def test_levels() -> None:
    """Ours from info on, others from warning on."""
    stream = io.StringIO()
    configure_logs(stream, {})
    for name in ("ecustream.run", "others", "ecustreamer"):
        structlog.get_logger(name).debug("1")
        structlog.get_logger(name).info("2")
        logging.getLogger(name).info("3")
        logging.getLogger(name).warning("4")
    events = [(json.loads(line)["logger"], json.loads(line)["event"]) for line in written(stream)]
    ours = [("ecustream.run", text) for text in "234"]
    assert events == [*ours, ("others", "4"), ("ecustreamer", "4")]


def test_configured_twice_is_said_once() -> None:
    """The second call replaces the first."""
    first, second = io.StringIO(), io.StringIO()
    configure_logs(first, {})
    configure_logs(second, {})
    structlog.get_logger("ecustream").warning("here")
    assert (len(written(first)), len(written(second))) == (0, 1)


def test_a_stream_that_is_full(capsys: pytest.CaptureFixture[str]) -> None:
    """A log that cannot be written stops nobody and prints nothing elsewhere."""
    with open("/dev/full", "w", buffering=1) as full:
        configure_logs(full, {})
        structlog.get_logger("ecustream").warning("lost")
        logging.getLogger("ecustream").warning("lost")
        logging.getLogger().handlers.clear()
        try:
            full.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert capsys.readouterr().err == ""


def test_told_at_once_and_then_once_an_interval() -> None:
    """A condition that lasts is a line an interval, with its count."""
    repeats = Repeats(10 * S)
    told = [(now_s, count) for now_s in range(25) if (count := repeats.take("full", now_s * S)) is not None]
    assert told == [(0, 1), (10, 10), (20, 10)]


def test_conditions_are_told_apart() -> None:
    """One does not hide another."""
    repeats = Repeats(10 * S)
    assert [repeats.take("a", 0), repeats.take("b", 1), repeats.take("a", 2)] == [1, 1, None]


def test_what_was_counted_last_is_told_too() -> None:
    """A condition that ended within the interval is told when that is over, once."""
    repeats = Repeats(10 * S)
    for now_s in range(4):
        repeats.take("full", now_s * S)
    assert repeats.untold(9 * S) == []
    assert repeats.untold(10 * S) == [("full", 3)]
    assert repeats.untold(30 * S) == []
    assert repeats.take("full", 11 * S) is None


def test_memory_is_bounded() -> None:
    """Conditions beyond the first 256 count as one, so that names made of traffic do no harm."""
    repeats = Repeats(10 * S)
    told = sum(repeats.take(f"condition {n}", 0) is not None for n in range(10_000))
    assert told == 257
    assert repeats.untold(10 * S) == [("other conditions", 10_000 - 257)]


@given(st.lists(st.tuples(st.sampled_from("abu"), st.integers(0, 8)), max_size=80))
def test_nothing_is_lost_and_nothing_floods(script: list[tuple[str, int]]) -> None:
    """Every occurrence is told in some count, and a condition is told at most once an interval."""
    repeats, now = Repeats(10), 0
    came, told = dict.fromkeys("ab", 0), dict.fromkeys("ab", 0)
    at: dict[str, list[int]] = {"a": [], "b": []}
    for what, step in [*script, ("u", 10)]:
        now += step
        if what == "u":
            counts = repeats.untold(now)
        else:
            came[what] += 1
            count = repeats.take(what, now)
            counts = [] if count is None else [(what, count)]
        for name, count in counts:
            told[name] += count
            at[name].append(now)
    assert told == came
    assert all(later - sooner >= 10 for times in at.values() for sooner, later in pairwise(times))


class Log:
    """Takes the place of a logger."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **fields: Any) -> None:
        """Keeps the line."""
        self.lines.append((event, fields))


def test_a_quiet_warning() -> None:
    """The first is a line with its fields, the next in the interval only a count."""
    log, now_ns = Log(), [0]
    clock: Callable[[], int] = lambda: now_ns[0]  # noqa: E731
    quiet = Quiet(log, 10 * S, clock)  # type: ignore[arg-type]
    for now_s in (0, 1, 2, 11, 12):
        now_ns[0] = now_s * S
        quiet.warning("queue full", queue="scores")
    quiet.flush()
    assert log.lines == [
        ("queue full", {"queue": "scores"}),
        ("queue full", {"queue": "scores", "times": 3}),
    ]
    now_ns[0] = 21 * S
    quiet.flush()
    assert log.lines[2:] == [("queue full", {"times": 1})]
