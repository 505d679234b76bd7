"""Logging of the program: words on a terminal, JSON lines elsewhere, priorities for the journal."""

import faulthandler
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal, TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from ecustream.systemd import is_journal

__all__ = ["Level", "Quiet", "Repeats", "configure_logs", "log_sentences"]

Level = Literal["info", "warning", "error"]

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_MOST_KEYS = 256
_OTHERS = "other conditions"


def configure_logs(stream: TextIO | None = None, environ: Mapping[str, str] | None = None) -> None:
    """Sets up logging of the whole process, of structlog and of the standard library alike; once, at start.

    On a terminal a record is a line for people, elsewhere a JSON object with `event`, `level`, `logger` and
    `timestamp` (UTC). Where the stream goes to the journal, a `<N>` of syslog's priorities stands before it,
    which systemd takes off again. Records of ecustream are shown from `info` on, those of others from
    `warning` on. A stream that cannot be written raises nothing.

    Args:
        stream: where to; None for standard error.
        environ: where `JOURNAL_STREAM` is read; None for the process's environment.
    """
    stream = sys.stderr if stream is None else stream
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(stream.isatty(), is_journal(stream, environ)),
            ],
        )
    )
    # A full disk or a closed pipe behind the stream must not print a traceback for every record.
    logging.raiseExceptions = False
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("ecustream").setLevel(logging.INFO)


def log_sentences() -> Callable[[Level, str], None]:
    """Sets up logging, and gives a function that logs sentences; stacks of all threads follow a crash."""
    configure_logs()
    # Also at SIGABRT, with which systemd ends a service that stands still.
    faulthandler.enable()
    log = structlog.stdlib.get_logger("ecustream")
    return lambda level, sentence: getattr(log, level)(sentence)


def _renderers(terminal: bool, journal: bool) -> list[Processor]:
    if terminal:
        return [structlog.dev.ConsoleRenderer()]
    render: list[Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(ensure_ascii=False),
    ]
    return [_with_priority(render)] if journal else render


def _with_priority(render: list[Processor]) -> Processor:
    def prefixed(logger: WrappedLogger, name: str, record: EventDict) -> str:
        priority = _PRIORITIES.get(record.get("level", ""), 6)
        text: object = record
        for processor in render:
            text = processor(logger, name, text)  # type: ignore[arg-type]
        return f"<{priority}>{text}"

    return prefixed


class Repeats:
    """When a condition that comes again and again is worth telling; a pure state machine.

    The first time it is told at once, after that at most once an interval, with how often it came meanwhile.
    The first 256 conditions are told apart, all further ones count as one.

    Args:
        every_ns: the interval.
    """

    def __init__(self, every_ns: int) -> None:
        self._every_ns = every_ns
        self._told_ns: dict[str, int] = {}
        self._untold: dict[str, int] = {}

    def take(self, condition: str, now_ns: int) -> int | None:
        """The condition is there again.

        Args:
            condition: one of few; never made of what traffic says.
            now_ns: the time, of any clock that does not run backwards.

        Returns:
            How often it came since it was told last, this time included; None where it is not to be told now.
        """
        if condition not in self._told_ns and len(self._told_ns) >= _MOST_KEYS:
            condition = _OTHERS
        count = self._untold.pop(condition, 0) + 1
        told_ns = self._told_ns.get(condition)
        if told_ns is not None and now_ns - told_ns < self._every_ns:
            self._untold[condition] = count
            return None
        self._told_ns[condition] = now_ns
        return count

    def untold(self, now_ns: int) -> list[tuple[str, int]]:
        """Conditions that came during the interval that is now over, with how often; told herewith."""
        due = [name for name in self._untold if now_ns - self._told_ns[name] >= self._every_ns]
        for name in due:
            self._told_ns[name] = now_ns
        return [(name, self._untold.pop(name)) for name in due]


class Quiet:
    """Logs warnings that would else fill the log: each sentence once an interval, with its count.

    Safe from any thread.

    Args:
        log: where to.
        every_ns: the interval.
        now_ns: the clock.
    """

    def __init__(
        self,
        log: structlog.stdlib.BoundLogger,
        every_ns: int = 60_000_000_000,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._log = log
        self._repeats = Repeats(every_ns)
        self._now_ns = now_ns
        self._lock = threading.Lock()

    def warning(self, condition: str, **fields: object) -> None:
        """Logs the condition, or counts it; `fields` are those of the time that is logged."""
        with self._lock:
            count = self._repeats.take(condition, self._now_ns())
        if count is not None:
            self._log.warning(condition, **fields, **({"times": count} if count > 1 else {}))

    def flush(self) -> None:
        """Logs what was counted and has not come again since; to be called about once a second."""
        with self._lock:
            due = self._repeats.untold(self._now_ns())
        for condition, count in due:
            self._log.warning(condition, times=count)
