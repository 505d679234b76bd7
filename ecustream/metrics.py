"""The status of a run in Prometheus' text format (0.0.4)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from ecustream.ledger import BOOKS
from ecustream.publish.messages import JournalStatus, PublishStatus, State, Status, TraceStatus

__all__ = ["CONTENT_TYPE", "render_metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_END = re.compile(r"([^{]*)\{(.*)\}", re.DOTALL)

Labels = dict[str, str]
_FROM_THE_START: dict[str, dict[str, int]] = {
    "frames": {"kernel_dropped": 0},
    "lines": {"overwritten{backlog}": 0, "unscored{no_model}": 0},
    "events": {"dropped{log_failed}": 0, "dropped{socket_failed}": 0},
    "notes": {"capture_outages": 0},
}


class _Family(NamedTuple):
    """One metric: its name without the program's prefix, and a sample for each set of labels."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    samples: Sequence[tuple[Labels, float]]


def render_metrics(status: Status, stalls: Mapping[str, bool] | None = None) -> str:
    """The status as Prometheus reads it; names and units follow its guidelines.

    Args:
        status: the last one; counters begin again with each run.
        stalls: of each stage whether it stands still; None where nothing is watched.
    """
    families = [*_run(status, stalls or {}), *_ledger(status.ledger)]
    if status.journal is not None:
        families += _journal(status.journal)
    if status.publish is not None:
        families += _publish(status.publish)
    families += _traces(status.traces or [])
    return "".join(_text(family) for family in families if family.samples)


def _run(status: Status, stalls: Mapping[str, bool]) -> Iterable[_Family]:
    yield _gauge(
        "run_info", "Always 1; tells the run and its source.", 1, run=status.run, source=status.source
    )
    yield _Family(
        "state",
        "gauge",
        "1 for the state that the run is in, 0 for the others.",
        [({"state": state}, float(state == status.state)) for state in get_args(State)],
    )
    yield _gauge("lag_seconds", "How far scoring is behind capture.", status.lag_s)
    yield _gauge("status_timestamp_seconds", "When this was true, since 1970.", status.wall_ns / 1e9)
    yield _Family(
        "stage_stalled",
        "gauge",
        "1 for a stage of the pipeline that stands still.",
        [({"stage": stage}, float(stalled)) for stage, stalled in stalls.items()],
    )


def _ledger(ledger: Mapping[str, Mapping[str, int]]) -> Iterable[_Family]:
    for book in BOOKS:
        # What an alert asks for is there from the start: the rise of a series that is new is seen by nobody.
        ends = _FROM_THE_START.get(book, {}) | dict(ledger.get(book, {}))
        yield _counter(f"{book}_entered_total", f"All {book} that came in.", ends.pop("entered", 0))
        samples = [(_end_labels(end), count) for end, count in ends.items()]
        yield _Family(f"{book}_total", "counter", f"The {book}, by how they ended.", samples)
    told = _FROM_THE_START["notes"] | dict(ledger.get("notes", {}))
    notes = [({"note": note}, count) for note, count in told.items()]
    yield _Family("notes_total", "counter", "Circumstances worth telling.", notes)


def _end_labels(end: str) -> Labels:
    """Of `unreadable{truncated_ip}` both parts; a label that is absent is the same as an empty one."""
    match = _END.fullmatch(end)
    return {"end": end} if match is None else {"end": match[1], "reason": match[2]}


def _journal(journal: JournalStatus) -> Iterable[_Family]:
    yield _counter("journal_events_total", "Events of this run in the journal.", journal.journalled)
    yield _gauge("journal_missing_events", "Events of this run not in the journal.", journal.missing)
    yield _counter("journal_write_errors_total", "Failed writes to the journal.", journal.write_errors)
    yield _gauge("journal_torn_segments", "Segments whose torn end was cut off.", journal.torn)
    yield _gauge("journal_damaged_lines", "Lines left out because they were damaged.", journal.damaged)
    yield _gauge("journal_size_bytes", "Size of all segments.", journal.size_bytes)
    yield _gauge("journal_writable", "0 while the journal cannot be written.", journal.problem is None)


def _publish(publish: PublishStatus) -> Iterable[_Family]:
    yield _gauge("publish_subscribers", "Connections to the event socket.", publish.subscribers)
    for name, help_, count in (
        ("queue_full", "How often the queue of a subscriber became full.", publish.queue_full),
        ("scores_dropped", "Scores of lines that were never sent.", publish.scores_dropped),
        ("requests", "Requests.", publish.requests),
        ("bad_requests", "Requests that were refused.", publish.bad_requests),
        ("answers_dropped", "Answers that nobody took.", publish.answers_dropped),
        ("refused_connections", "Connections without an allowed key.", publish.refused),
    ):
        yield _counter(f"publish_{name}_total", help_, count)


def _traces(traces: list[TraceStatus]) -> Iterable[_Family]:
    def each(values: Iterable[float]) -> list[tuple[Labels, float]]:
        return [({"trace": part.trace}, value) for part, value in zip(traces, values, strict=True)]

    lines, lags = each(part.lines for part in traces), each(part.lag_s for part in traces)
    yield _Family("trace_lines_total", "counter", "Scored lines of each trace.", lines)
    yield _Family("trace_lag_seconds", "gauge", "How far scoring is behind capture, of each trace.", lags)
    ended = each(float(part.ended) for part in traces)
    yield _Family("trace_ended", "gauge", "1 for a trace that has ended.", ended)


def _counter(name: str, help_: str, value: float) -> _Family:
    return _Family(name, "counter", help_, [({}, value)])


def _gauge(name: str, help_: str, value: float, **labels: str) -> _Family:
    return _Family(name, "gauge", help_, [(labels, value)])


def _text(family: _Family) -> str:
    name = f"ecustream_{family.name}"
    lines = [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
    for labels, value in family.samples:
        inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{inside}}} {_number(value)}" if inside else f"{name} {_number(value)}")
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    # Also whole numbers that are floats: a reader need not tell 1 from 1.0.
    return str(int(value)) if float(value).is_integer() else repr(value)
