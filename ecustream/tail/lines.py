"""Events and notices as one line of text each."""

from collections.abc import Sequence
from datetime import datetime

from ecustream.client.items import Alive, Denied, Lost, NewRun, Notice, Stale, Synced
from ecustream.events import Event

__all__ = ["clock", "event_line", "notice_line", "notice_text", "pdu_names", "printable"]

MOST_NAMES = 3


def event_line(event: Event) -> str:
    """An event for a person: local time, phase, kind, source, PDUs and reason."""
    names = pdu_names([event])
    words = [f"{event.phase:<6}", f"{event.kind:<11}", event.source, names, event.reason]
    return printable("  ".join([clock(event.decided_ns), *(word for word in words if word)]))


def notice_line(notice: Notice, now_ns: int) -> str:
    """A notice for a person, in the columns of `event_line`."""
    return printable(f"{clock(now_ns)}  notice  {notice_text(notice)}")


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
            return f"nothing has come since {clock(since_ns)}"
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
    """Local date and time of nanoseconds since 1970, to the microsecond."""
    try:
        # Integer division first: a float holds nanoseconds of today only to a quarter microsecond.
        whole = datetime.fromtimestamp(time_ns // 1_000_000_000)
    except (ValueError, OverflowError, OSError):
        return f"{time_ns} ns"
    return f"{whole:%Y-%m-%d %H:%M:%S}.{time_ns // 1000 % 1_000_000:06d}"


def printable(text: str) -> str:
    """`text` without what would steer the terminal, since names and reasons come from the wire."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
