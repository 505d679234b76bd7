"""Events and notices as one line of text each."""

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import UNSET

from ecustream.client.items import Alive, Denied, Lost, NewRun, Notice, Stale, Synced
from ecustream.events import Event

__all__ = [
    "HEADING",
    "clock",
    "duration",
    "event_line",
    "note_line",
    "notice_text",
    "pdu_names",
    "printable",
    "reason_of",
    "trace_of",
]

HEADING = f"{'capture time (UTC)':<26}  {'phase':<6}  {'kind':<11}  source  PDUs  reason"
"""Names the columns of `event_line`."""
MOST_NAMES = 3


def event_line(event: Event) -> str:
    """An event for a person: capture time in UTC, phase, kind, source (in which trace), PDUs and reason."""
    names = pdu_names([event])
    trace = trace_of(event)
    where = f"{event.source} in {trace}" if trace else event.source
    words = [f"{event.phase:<6}", f"{event.kind:<11}", where, names, reason_of(event)]
    return printable("  ".join([clock(event.decided_ns), *(word for word in words if word)]))


def trace_of(event: Event) -> str:
    """Which of several traces the event is of; empty where a run reads one."""
    return "" if event.trace is UNSET else event.trace


def reason_of(event: Event) -> str:
    """The reason, and of an episode that has ended how long it was and how many lines it had."""
    if event.phase != "close":
        return event.reason
    end_ns = event.decided_ns if event.end_ns is None else event.end_ns
    lines = f"{event.lines:,} line{'' if event.lines == 1 else 's'}"
    return f"after {duration(end_ns - event.start_ns)}, {lines}: {event.reason}"


def note_line(text: str, now_ns: int) -> str:
    """What is no event, for a person: the brackets set its wall time apart from capture times."""
    return printable(f"[wall time {clock(now_ns)[:19]} UTC] {text}")


def notice_text(notice: Notice) -> str:
    """What a notice says, in words."""
    match notice:
        case Synced(run, seq, open_episodes):
            names = f": {pdu_names(open_episodes)}" if open_episodes else ""
            return f"in step with run {run} at event {seq}, {len(open_episodes)} open{names}"
        case NewRun(old, new) if old == new:
            return f"run {new} was begun again"
        case NewRun(_, new):
            return f"new run {new}"
        case Lost(run, first_seq, last_seq) if last_seq is None:
            return f"LOST: all events of run {run} from {first_seq} on, if there were any"
        case Lost(run, first_seq, last_seq) if first_seq == last_seq:
            return f"LOST: event {first_seq} of run {run}"
        case Lost(run, first_seq, last_seq):
            return f"LOST: events {first_seq} to {last_seq} of run {run}"
        case Stale(since_ns):
            return f"nothing has come since {clock(since_ns)[:19]} UTC"
        case Alive():
            return "messages come again"
        case Denied(url, why):
            return f"refused by {url}: {why}"
    raise TypeError(f"{notice!r} is no notice")


def pdu_names(events: Sequence[Event]) -> str:
    """The first names of the PDUs in `events`, and how many more there are."""
    names = list(dict.fromkeys(pdu.name for event in events for pdu in event.pdus))
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def clock(time_ns: int) -> str:
    """Date and time in UTC of nanoseconds since 1970, to the microsecond."""
    try:
        # Integer division first: a float holds nanoseconds of today only to a quarter microsecond.
        whole = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{time_ns} ns"
    return f"{whole:%Y-%m-%d %H:%M:%S}.{time_ns // 1000 % 1_000_000:06d}"


def duration(span_ns: int) -> str:
    """A time span in its largest fitting unit."""
    seconds = max(0, span_ns) / 1e9
    if seconds < 1:
        return f"{seconds:.2f} s"
    for unit, size_s, most in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if seconds < most * size_s:
            return f"{seconds / size_s:.{1 if seconds < 10 else 0}f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def printable(text: str) -> str:
    """`text` without what would steer the terminal, since names and reasons come from the wire."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
