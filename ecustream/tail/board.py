"""What the live table shows, from the items of a subscriber; no I/O, time is given."""

from collections import deque
from typing import NamedTuple

from ecustream.client.items import Alive, Denied, Item, Lost, NewRun, Notice, Stale, Synced
from ecustream.events import Event
from ecustream.publish.messages import ScoreBatch, Status

__all__ = ["UNHEARD_AFTER_NS", "Board", "OpenEpisode"]

UNHEARD_AFTER_NS = 1_500_000_000
"""Longer than a status, which comes once a second, should take."""
UNANSWERED_AFTER_NS = 5_000_000_000
MOST_CLOSED = 200
MOST_NOTICES = 5
DROPS = ("kernel_dropped", "overwritten", "dropped")
"""The ends in the ledger by which something was not looked at or not told."""


class OpenEpisode(NamedTuple):
    """The last message of an open episode, and when that was sent or, offline, received."""

    event: Event
    told_ns: int

    def age_ns(self, now_ns: int) -> int:
        """How long it has been open: in capture time up to its last message, and since then."""
        told_after_ns = self.event.decided_ns - self.event.start_ns
        return told_after_ns + max(0, now_ns - self.told_ns)


class Board:
    """The present state of one publisher, the episodes that ended last, and the latest notices.

    Times are nanoseconds since 1970 by the reader's clock.

    Args:
        connect: address of the PUB socket, for people.
        reply: address of the reply socket, for people.
        began_ns: since when somebody listens.
    """

    def __init__(self, connect: str, reply: str, began_ns: int) -> None:
        self.connect = connect
        self.reply = reply
        self.run = ""
        self.seq = 0
        self.status: Status | None = None
        self.open: dict[str, OpenEpisode] = {}
        self.closed: deque[Event] = deque(maxlen=MOST_CLOSED)
        self.notices: deque[tuple[int, Notice]] = deque(maxlen=MOST_NOTICES)
        self.heard_ns: int | None = None
        self.stale = False
        self.lost = False
        self.denied: Denied | None = None
        self._began_ns = began_ns
        self._first_heard_ns = 0
        self._synced = False

    def take(self, item: Item, now_ns: int) -> None:
        """Takes the next item of the subscriber."""
        match item:
            case Event():
                self._take_event(item, now_ns)
            case Status():
                self.status = item
            case ScoreBatch():
                pass
            case Synced(run, seq, open_episodes):
                self.run, self.seq, self._synced = run, seq, True
                self.open = {event.id: self._opened(event, now_ns) for event in open_episodes}
            case NewRun():
                self.run, self.seq, self.status = item.new, 0, None
                self.open.clear()
            case Lost():
                self.lost = True
            case Stale() | Alive():
                self.stale = isinstance(item, Stale)
            case Denied():
                self.denied = item
        if isinstance(item, Notice) and not self.is_idle(item):
            self.notices.append((now_ns, item))
        # What comes in a silence of the stream are answers.
        if not self.stale and not isinstance(item, Denied):
            self._hear(now_ns)

    @property
    def drops(self) -> int:
        """How many frames, lines and events of this run were dropped, by the last status."""
        books = self.status.ledger.values() if self.status else ()
        return sum(count for book in books for end, count in book.items() if end.split("{", 1)[0] in DROPS)

    @property
    def ended(self) -> bool:
        """Whether the run has said that it is done."""
        return self.status is not None and self.status.state == "done"

    def is_idle(self, item: Item) -> bool:
        """Whether it tells of a silence that is to be expected, since the run is done."""
        return self.ended and isinstance(item, Stale | Alive)

    def trouble(self, now_ns: int) -> str | None:
        """Why there is nothing to show, where that is so."""
        if self.heard_ns is None:
            if self.denied is not None:
                return f"refused by {self.denied.url}: {self.denied.why}"
            silent = self.stale or now_ns - self._began_ns >= UNHEARD_AFTER_NS
            return f"nobody publishes at {self.connect}; waiting" if silent else None
        if not self._synced and not self.stale and now_ns - self._first_heard_ns >= UNANSWERED_AFTER_NS:
            return f"messages come, but {self.reply} does not answer; waiting"
        return None

    def _take_event(self, event: Event, now_ns: int) -> None:
        self.run, self.seq, self._synced = event.run, event.seq, True
        if event.phase == "close":
            self.open.pop(event.id, None)
            self.closed.append(event)
        else:
            self.open[event.id] = self._opened(event, now_ns)

    def _opened(self, event: Event, now_ns: int) -> OpenEpisode:
        known = self.open.get(event.id)
        if known is not None and known.event.seq == event.seq:
            return known
        return OpenEpisode(event, now_ns if event.published_ns is None else event.published_ns)

    def _hear(self, now_ns: int) -> None:
        if self.heard_ns is None:
            self._first_heard_ns = now_ns
        self.heard_ns = now_ns
