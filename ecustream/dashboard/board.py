"""What is known of one daemon, from the items of its subscriber; no I/O, time is given."""

from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UnsetType

from ecustream.client.items import Alive, Denied, Item, Lost, NewRun, Stale, Synced
from ecustream.dashboard.episodes import Episodes, ms
from ecustream.dashboard.scores import ScoredLine, SourceScores
from ecustream.dashboard.series import Peak
from ecustream.events import Event
from ecustream.publish.messages import ScoreBatch, Status
from ecustream.publish.pdus import PduRow, PduTable

__all__ = ["Board", "Headline", "State"]

GONE_AFTER_NS = 10_000_000_000
UNANSWERED_AFTER_NS = 5_000_000_000
AROUND_NS = 1_000_000_000
MOST_SOURCES = 16
MOST_NOTICES = 50
MOST_EPISODES_A_DELTA = 100

_Key = tuple[str, str | UnsetType]
"""A source, and its trace where a run reads several: each has a clock of its own."""

State = Literal["ok", "open", "degraded", "ended", "stale", "disconnected"]


class Headline(NamedTuple):
    """The state of a daemon in a word, and in a sentence why; empty where the word says enough."""

    state: State
    why: str


class Board:
    """The present state of one daemon, and what changed of it since it was last asked.

    `take` is fed with the items of an `AsyncSubscriber` and `take_pdus` with the answers to
    `{"op":"pdus"}`. Memory is bounded: by the last ended episodes, lines and buckets.

    Args:
        connect: address of the PUB socket, for people.
        reply: address of the reply socket, for people.
        now_ns: the time in nanoseconds since 1970, as with all methods that take one.
    """

    def __init__(self, connect: str, reply: str, now_ns: int) -> None:
        self.connect = connect
        self.reply = reply
        self._episodes = Episodes(self._lines_around)
        self._scores: dict[_Key, SourceScores] = {}
        self._scores_gone: dict[_Key, None] = {}
        self._status: Status | None = None
        self._pdus: PduTable | None = None
        self._notices: list[tuple[int, str]] = []
        self._run = ""
        self._seq = 0
        self._heard_ns: int | None = None
        self._first_heard_ns = 0
        self._stale = False
        self._denied = ""
        self._synced = False
        self._lost = 0
        self._runs = 0
        self._changed: set[str] = set()

    def take(self, item: Item, now_ns: int) -> None:
        """Takes the next item of the subscriber."""
        if not isinstance(item, Stale | Denied) and self._heard_ns is None:
            self._first_heard_ns = now_ns
        match item:
            case Event():
                self._seq = item.seq
                self._episodes.take(item)
            case Status():
                self._status = item
                self._changed.add("status")
            case ScoreBatch():
                self._take_scores(item)
            case Synced():
                self._run, self._seq, self._synced = item.run, item.seq, True
                self._episodes.replace_open(item.open_episodes, "unseen")
                self._note(now_ns, f"in step with run {item.run} at event {item.seq}")
            case NewRun():
                self._begin_run(item, now_ns)
            case Lost():
                self._lost += 1 if item.last_seq is None else item.last_seq - item.first_seq + 1
                last = "the end" if item.last_seq is None else f"{item.last_seq}"
                self._note(now_ns, f"events {item.first_seq} to {last} of run {item.run} are lost")
            case Stale():
                self._stale = True
                self._note(now_ns, "nothing has come for three seconds")
                return
            case Denied(url, why):
                self._denied = f"refused by {url}: {why}"
                self._note(now_ns, self._denied)
                return
            case Alive():
                self._note(now_ns, "messages come again")
        self._stale = False
        self._denied = ""
        self._heard_ns = now_ns

    def take_pdus(self, table: PduTable) -> None:
        """Takes the table of PDUs; one of another run than the events is passed over."""
        if table.run == self._run and table != self._pdus:
            self._pdus = table
            self._changed.add("pdus")

    def headline(self, now_ns: int) -> Headline:
        """The state at `now_ns`; what makes the others uncertain comes first."""
        status = self._status
        if self._heard_ns is None:
            return Headline("disconnected", self._denied or f"nothing has come from {self.connect} yet")
        silent_ns = now_ns - self._heard_ns
        if self._stale and status is not None and status.state == "done":
            return Headline("ended", "the run has ended; the next one shows here by itself")
        if self._stale and silent_ns >= GONE_AFTER_NS:
            why = self._denied or f"nothing has come from {self.connect} for {_since(silent_ns)}"
            return Headline("disconnected", why)
        if self._stale:
            return Headline(
                "stale", f"nothing has come for {_since(silent_ns)}; what is shown may be out of date"
            )
        if not self._synced and now_ns - self._first_heard_ns >= UNANSWERED_AFTER_NS:
            return Headline("stale", f"messages come, but {self.reply} does not answer")
        if self._episodes.open_count:
            return Headline("open", "")
        if status is not None and status.state in ("degraded", "overloaded"):
            return Headline("degraded", status.reason or "")
        if status is not None and status.state == "done":
            return Headline("ended", "the run has ended; the next one shows here by itself")
        return Headline("ok", "")

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        """Everything, for a page that has nothing yet; as JSON values."""
        return {
            **self._head(now_ns),
            "full": True,
            "episodes": self._episodes.rows(),
            "gone": [],
            "status": self._status_row(),
            "notices": self._notice_rows(),
            "pdus": self._pdu_rows(),
            "scores": {
                _label(key): {"anew": True, "peaks": [_peaks(series.peaks()) for series in scores.series]}
                for key, scores in self._scores.items()
            },
        }

    def delta(self, now_ns: int) -> dict[str, Any]:
        """What changed since the last delta, for a page that has everything before; as JSON values.

        Many changed episodes are spread over several deltas.
        """
        episodes, gone = self._episodes.take_changed(MOST_EPISODES_A_DELTA)
        delta = self._head(now_ns)
        if episodes or gone:
            delta |= {"episodes": episodes, "gone": gone}
        rows = {"status": self._status_row, "notices": self._notice_rows, "pdus": self._pdu_rows}
        delta |= {name: rows[name]() for name in self._changed}
        self._changed.clear()
        scores: dict[str, Any] = {_label(key): None for key in self._scores_gone}
        for key, of_key in self._scores.items():
            peaks = [_peaks(series.take_changed()) for series in of_key.series]
            anew = of_key.begun_anew or key in self._scores_gone
            if anew or any(peaks):
                scores[_label(key)] = {"anew": anew, "peaks": peaks}
            of_key.begun_anew = False
        self._scores_gone.clear()
        if scores:
            delta["scores"] = scores
        return delta

    def episode(self, id_: str) -> dict[str, Any] | None:
        """Everything about one episode, as JSON values; None where it is not known any more."""
        episode = self._episodes.get(id_)
        if episode is None:
            return None
        event = episode.event
        table = self._pdus.pdus if self._pdus is not None and self._pdus.run == event.run else []
        rows = [row for row in table if row.source == event.source and _is_of(row, event.trace)]
        return {
            **episode.row(),
            "run": event.run,
            "reason": event.reason,
            "frames": event.frames,
            "score": msgspec.structs.asdict(event.score),
            "wireshark": event.wireshark,
            "pdus": [
                msgspec.structs.asdict(pdu)
                | {"rows": [_pdu_row(row) for row in rows if row.name == pdu.name]}
                for pdu in event.pdus
            ],
            "messages": [said._asdict() | {"decided_ms": ms(said.decided_ns)} for said in episode.messages],
            "scored": [
                [ms(line.time_ns), line.pdu, line.perplexity, line.surprisal] for line in episode.lines
            ],
        }

    def _begin_run(self, item: NewRun, now_ns: int) -> None:
        self._note(now_ns, f"the daemon began run {item.new}")
        if item.new == item.old:
            self._episodes.clear()  # the same ones come again, under the same ids
        else:
            self._episodes.replace_open([], "restarted")
        self._run, self._seq = item.new, 0
        self._runs += 1
        self._status = self._pdus = None
        self._changed |= {"status", "pdus"}
        # The next run may have other traces, and room is for so many only.
        self._scores_gone |= dict.fromkeys(self._scores)
        self._scores.clear()

    def _take_scores(self, batch: ScoreBatch) -> None:
        # Scores of a run that is not told of yet wait for nobody: they are of the moment.
        if self._run and batch.run != self._run:
            return
        key = batch.source, batch.trace
        scores = self._scores.get(key)
        if scores is None:
            if len(self._scores) >= MOST_SOURCES:
                return
            scores = self._scores[key] = SourceScores()
        scores.take(batch)

    def _lines_around(self, event: Event) -> list[ScoredLine]:
        scores = self._scores.get((event.source, event.trace))
        if scores is None or (self._run and event.run != self._run):
            return []
        until_ns = event.decided_ns if event.end_ns is None else event.end_ns
        names = {pdu.name for pdu in event.pdus}
        return scores.lines_of(names, event.start_ns - AROUND_NS, until_ns + AROUND_NS)

    def _note(self, now_ns: int, what: str) -> None:
        self._notices = [*self._notices[1 - MOST_NOTICES :], (now_ns, what)]
        self._changed.add("notices")

    def _head(self, now_ns: int) -> dict[str, Any]:
        headline = self.headline(now_ns)
        return {
            "connect": self.connect,
            "source": self._status.source if self._status else None,
            "run": self._run,
            "state": headline.state,
            "why": headline.why,
            "open": self._episodes.open_count,
            "seq": self._seq,
            "lost": self._lost,
            "restarts": self._runs,
            "capture_ms": ms(max((scores.last_ns for scores in self._scores.values()), default=0)),
        }

    def _status_row(self) -> Any:
        return None if self._status is None else msgspec.to_builtins(self._status)

    def _notice_rows(self) -> list[list[Any]]:
        return [[ms(time_ns), what] for time_ns, what in self._notices]

    def _pdu_rows(self) -> Any:
        if self._pdus is None:
            return None
        return {
            "last_ms": ms(self._pdus.last_ns),
            "rows": [_pdu_row(row) for row in self._pdus.pdus],
        }


def _label(key: _Key) -> str:
    source, trace = key
    return source if trace is msgspec.UNSET else f"{source} in {trace}"


def _is_of(row: PduRow, trace: str | UnsetType) -> bool:
    return trace is msgspec.UNSET or f" {row.flow}".endswith(f" in {trace}")


def _pdu_row(row: PduRow) -> dict[str, Any]:
    fields = msgspec.structs.asdict(row)
    last_ns = fields.pop("last_ns")
    return {**fields, "last_ms": None if last_ns is None else ms(last_ns)}


def _peaks(peaks: list[Peak]) -> list[list[Any]]:
    return [[ms(peak.time_ns), round(peak.value, 3), peak.pdu] for peak in peaks]


def _since(silent_ns: int) -> str:
    seconds = silent_ns // 1_000_000_000
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
