"""What a log looks like on a terminal, in a pipe and in the journal."""

import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
import structlog

from ecustream.logs import configure_logs
from ecustream.systemd import is_journal


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
