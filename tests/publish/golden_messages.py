"""One of every message and answer of schema version 1, with every field filled; written down in `golden/`."""

from typing import Any, TypeVar

from ecustream.events import Event, EventPdu, EventScore
from ecustream.publish.history import History, Record
from ecustream.publish.messages import (
    JournalStatus,
    PublishStatus,
    ScoreBatch,
    Status,
    TraceStatus,
    encode,
)
from ecustream.publish.pdus import PduRow, PduTable
from tests.publish.examples import make_event, make_scores, make_status

__all__ = ["MESSAGES", "REQUESTS", "SILENCE", "bodies"]

TracedT = TypeVar("TracedT", Event, ScoreBatch)
SILENCE = Event(
    run="01JD5Z0000000000000000000A",
    seq=2,
    kind_seq=1,
    id="01JD5Z0000000000000000000A-2",
    kind="silence",
    phase="close",
    source="eth1",
    start_ns=1_700_000_095_772_264_000,
    end_ns=1_700_000_096_000_000_000,
    decided_ns=1_700_000_096_000_000_001,
    published_ns=1_700_000_097_000_000_000,
    frames=None,
    lines=0,
    pdus=[EventPdu(name="Tür_01", lines=0, fields=[])],
    evidence="missing",
    score=EventScore(perplexity=None, surprisal=None, evidence=20.5, threshold=7.9),
    reason="Tür_01 is overdue",
    wireshark=None,
)
JOURNAL = JournalStatus(
    journalled=3, missing=1, torn=1, damaged=2, write_errors=1, size_bytes=4096, problem="disk full"
)
PUBLISH = PublishStatus(
    subscribers=2, queue_full=1, scores_dropped=3, requests=9, bad_requests=2, answers_dropped=1, refused=1
)


def full_status() -> Status:
    """A status with every optional field."""
    status = make_status(4)
    status.state, status.reason, status.journal, status.publish = "degraded", "disk full", JOURNAL, PUBLISH
    return status


def overloaded_status() -> Status:
    """A status of a run that reads two traces, faster than it can score them."""
    status = make_status(5)
    status.state, status.reason = "overloaded", "more comes than can be scored; 512 lines were skipped so far"
    status.traces = [
        TraceStatus(trace="bench.pcapng", lines=2, lag_s=0.004, ended=False),
        TraceStatus(trace="zwei/bench.pcapng", lines=1, lag_s=0.0, ended=True),
    ]
    return status


def traced(message: TracedT) -> TracedT:
    """The message as it is of a run that reads several traces."""
    message.trace = "zwei/bench.pcapng"
    return message


MESSAGES: dict[str, Event | Status | ScoreBatch] = {
    "event_anomaly": make_event(1),
    "event_silence": SILENCE,
    "status": make_status(2),
    "status_full": full_status(),
    "score": make_scores([1.5, 2.0], warming=[True, False]),
    "event_traced": traced(make_event(6)),
    "status_overloaded": overloaded_status(),
    "score_traced": traced(make_scores([3.0])),
}
ROW = PduRow(
    name="ESC_03",
    source="eth1",
    known=True,
    cycle_ns=10_000_000,
    shortest_ns=9_600_000,
    longest_ns=10_500_000,
    observed_ns=10_010_000,
    lines=4,
    last_ns=1_700_000_096_000_000_000,
    episodes=1,
)
REQUESTS: dict[str, bytes] = {
    "snapshot": b'{"op":"snapshot"}',
    "replay": b'{"op":"replay","run":"01JD5Z0000000000000000000A","after":1,"limit":1}',
    "runs": b'{"op":"runs"}',
    "status": b'{"op":"status"}',
    "pdus": b'{"op":"pdus"}',
    "too_old": b'{"op":"replay","run":"01JD5Z0000000000000000000A","after":0}',
    "other_run": b'{"op":"replay","run":"01JC","after":0}',
    "bad_request": bytes(5000),
}


def answers() -> dict[str, bytes]:
    """What is answered today to those requests, as JSON."""
    history = History("01JD5Z0000000000000000000A", 2)
    history.extend([Record.of(make_event(1)), Record.of(SILENCE), Record.of(make_event(3))])
    table = PduTable(run=history.run, last_ns=1_700_000_096_000_000_000, pdus=[ROW])
    return {name: history.answer(request, make_status(3), table) for name, request in REQUESTS.items()}


def bodies() -> dict[str, Any]:
    """Everything as the JSON that is written today."""
    return {name: encode(message) for name, message in MESSAGES.items()} | {
        f"answer_{name}": body for name, body in answers().items()
    }
