"""The episodes of one daemon: those that are open, and the last ones that are not."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from msgspec import UNSET

from ecustream.dashboard.scores import ScoredLine, thinned
from ecustream.events import Event

__all__ = ["End", "Episode", "Episodes", "ms"]

MOST_MESSAGES = 20
MOST_LINES = 300
MOST_PDUS_SHOWN = 8
MOST_REASON_SHOWN = 400

End = Literal["closed", "restarted", "unseen"]
"""`restarted`: the daemon began a new run before; `unseen`: the event that closed it is lost."""

LinesOf = Callable[[Event], list[ScoredLine]]


class Message(NamedTuple):
    """What one message said of an episode."""

    phase: str
    decided_ns: int
    lines: int
    evidence: float
    reason: str


def ms(time_ns: int) -> float:
    """Nanoseconds as milliseconds, in which a double holds the time of day to less than a microsecond."""
    return round(time_ns / 1e6, 3)


class Episode:
    """The last message of an episode, what the ones before it said, and lines that were scored around it.

    Attributes:
        event: the last message.
        end: how it ended; None while it is open.
        messages: the first one and the latest.
        lines: some lines of its PDUs, oldest first.
    """

    def __init__(self, event: Event) -> None:
        self.event = event
        self.end: End | None = None
        self.messages: list[Message] = []
        self.lines: list[ScoredLine] = []

    def take(self, event: Event) -> None:
        """Takes its next message."""
        self.event = event
        if len(self.messages) == MOST_MESSAGES:
            del self.messages[1]
        said = Message(event.phase, event.decided_ns, event.lines, event.score.evidence, event.reason)
        self.messages.append(said)

    def add_lines(self, lines: list[ScoredLine]) -> None:
        """Takes lines around it; those that it has already are passed over."""
        last_ns = self.lines[-1].time_ns if self.lines else 0
        new = [line for line in lines if line.time_ns > last_ns]
        if new:
            self.lines = thinned(self.lines + new, MOST_LINES)

    def row(self) -> dict[str, Any]:
        """What a list of episodes shows, for JSON."""
        event = self.event
        return {
            "id": event.id,
            "kind": event.kind,
            "end": self.end,
            "source": event.source,
            "trace": None if event.trace is UNSET else event.trace,
            "start_ms": ms(event.start_ns),
            "end_ms": None if event.end_ns is None else ms(event.end_ns),
            "decided_ms": ms(event.decided_ns),
            "lines": event.lines,
            "pdus": [pdu.name for pdu in event.pdus[:MOST_PDUS_SHOWN]],
            "more_pdus": max(0, len(event.pdus) - MOST_PDUS_SHOWN),
            "evidence": event.evidence,
            "nats": event.score.evidence,
            "reason": event.reason[:MOST_REASON_SHOWN],
            "seq": event.seq,
        }


class Episodes:
    """Every open episode and the last `most_ended` others, by id.

    Args:
        lines_of: the lines around an event that are held at present.
        most_ended: how many ended ones are kept.
    """

    def __init__(self, lines_of: LinesOf, most_ended: int = 500) -> None:
        self._lines_of = lines_of
        self._most_ended = most_ended
        self._open: dict[str, Episode] = {}
        self._ended: dict[str, Episode] = {}
        self._changed: dict[str, None] = {}
        self._gone: list[str] = []

    @property
    def open_count(self) -> int:
        """How many are open."""
        return len(self._open)

    def get(self, id_: str) -> Episode | None:
        """An episode, with the lines around it that are held by now."""
        episode = self._open.get(id_) or self._ended.get(id_)
        if episode is not None:
            episode.add_lines(self._lines_of(episode.event))
        return episode

    def rows(self) -> list[dict[str, Any]]:
        """All episodes, the latest to end or to open last."""
        return [episode.row() for episode in (*self._ended.values(), *self._open.values())]

    def take(self, event: Event) -> None:
        """Takes the next event."""
        episode = self._open.get(event.id) or self._ended.pop(event.id, None) or Episode(event)
        episode.take(event)
        episode.end = None
        episode.add_lines(self._lines_of(event))
        self._open[event.id] = episode
        self._changed[event.id] = None
        if event.phase == "close":
            self._close(event.id, "closed")

    def replace_open(self, events: Iterable[Event], end: End) -> None:
        """These are open and no others; what else was open has ended unseen, in the way of `end`."""
        now = {event.id: event for event in events}
        for id_ in [each for each in self._open if each not in now]:
            self._close(id_, end)
        for id_, event in now.items():
            known = self._open.get(id_)
            if known is None or known.event.seq != event.seq:
                self.take(event)

    def clear(self) -> None:
        """Forgets all of them."""
        self._gone += [*self._open, *self._ended]
        self._open.clear()
        self._ended.clear()
        self._changed.clear()

    def take_changed(self, most: int) -> tuple[list[dict[str, Any]], list[str]]:
        """At most `most` episodes that changed and were not given yet, and the ids that are gone."""
        ids = list(self._changed)[:most]
        for id_ in ids:
            del self._changed[id_]
        gone = [id_ for id_ in self._gone if id_ not in self._open and id_ not in self._ended]
        self._gone.clear()
        known = [self._open.get(id_) or self._ended[id_] for id_ in ids]
        return [episode.row() for episode in known], gone

    def _close(self, id_: str, end: End) -> None:
        episode = self._ended[id_] = self._open.pop(id_)
        episode.end = end
        self._changed[id_] = None
        while len(self._ended) > self._most_ended:
            oldest = next(iter(self._ended))
            del self._ended[oldest]
            self._changed.pop(oldest, None)
            self._gone.append(oldest)
