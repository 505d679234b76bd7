"""Logging of the program: words on a terminal, JSON lines elsewhere, priorities for the journal."""

import faulthandler
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Literal, TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from ecustream.systemd import is_journal

__all__ = ["Level", "configure_logs", "log_sentences"]

Level = Literal["info", "warning", "error"]

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


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
