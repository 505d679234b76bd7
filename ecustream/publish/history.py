"""Remembers the events of a run and answers the questions of the reply socket; no socket here."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Annotated, Any, NamedTuple

import msgspec

from ecustream.events import Event
from ecustream.publish.journal import Journal
from ecustream.publish.journal_index import Page, RunRange
from ecustream.publish.messages import JournalStatus, Status, encode, json_schemas
from ecustream.publish.pdus import PduTable

__all__ = [
    "MAX_REQUEST_BYTES",
    "PAGE_BYTES",
    "PAGE_EVENTS",
    "History",
    "Record",
    "bad_request",
    "is_bad_request",
]

MAX_REQUEST_BYTES = 4096
PAGE_EVENTS = 10_000
# Some milliseconds of the thread that also sends what is live.
PAGE_BYTES = 1_000_000
OPS = ("snapshot", "replay", "runs", "status", "pdus", "schema")


class _Request(msgspec.Struct):
    op: str


class _Replay(msgspec.Struct):
    run: str
    after: int
    limit: Annotated[int, msgspec.Meta(ge=1)] = PAGE_EVENTS


class Record(NamedTuple):
    """An event as it is published: its JSON, and what a history must know of it."""

    seq: int
    id: str
    closes: bool
    body: bytes

    @classmethod
    def of(cls, event: Event) -> "Record":
        """The record of an event, which may be changed afterwards."""
        return cls(event.seq, event.id, event.phase == "close", encode(event))


class History:
    """The last `capacity` events of one run, the last message of each episode that is still open, a journal.

    Events are kept as the JSON bytes that were published, so that a replayed event equals the live one.
    Open episodes are as many as the detectors hold. Where memory no longer reaches, and for earlier runs,
    the journal answers, if there is one.
    """

    def __init__(self, run: str, capacity: int, journal: Journal | None = None) -> None:
        if capacity < 1:
            raise ValueError("a history holds at least one event")
        self.run = run
        self.seq = 0
        self._events: deque[bytes] = deque(maxlen=capacity)
        self._open: dict[str, msgspec.Raw] = {}
        self._journal = journal
        if journal is not None:
            journal.begin(run)

    @property
    def oldest(self) -> int:
        """From which `seq` on every event of the run can be replayed; `seq + 1` where there is none yet."""
        in_memory = self._oldest_in_memory
        if self._journal is None or self._journal.seq + 1 < in_memory:
            return in_memory
        return min(in_memory, self._journal.oldest_without_gap() or in_memory)

    def extend(self, records: Sequence[Record]) -> None:
        """Takes over the next events of the run, in the journal first, as far as that can be written.

        With none it gives the journal the chance to write what it could not write before.
        """
        if self._journal is not None and self._journal.due:
            self._journal.append([*self._not_journalled(), *((r.seq, r.body) for r in records)])
        for record in records:
            self.seq = record.seq
            self._events.append(record.body)
            if record.closes:
                self._open.pop(record.id, None)
            else:
                self._open[record.id] = msgspec.Raw(record.body)

    def close(self) -> None:
        """Closes the journal, after a last attempt to write what is not in it."""
        if self._journal is not None:
            self._journal.append(self._not_journalled())
            self._journal.close()

    def journal_status(self) -> JournalStatus | None:
        """How the journal is doing, None where there is none; may be called from any thread."""
        return None if self._journal is None else self._journal.status(self.seq)

    def snapshot(self) -> dict[str, Any]:
        """`{"run", "seq", "oldest", "open"}`: the last message of each open episode, in order of opening."""
        return {"run": self.run, "seq": self.seq, "oldest": self.oldest, "open": list(self._open.values())}

    def runs(self) -> list[RunRange]:
        """Every run that can be replayed or had no event; oldest first, this one last."""
        earlier = [] if self._journal is None else self._journal.runs()
        first = self._oldest_in_memory
        if earlier and earlier[-1].run == self.run:
            own = earlier.pop()
            first = min(first, own.first_seq if own.last_seq >= own.first_seq else first)
        return [*earlier, RunRange(self.run, first, self.seq)]

    def replay(self, run: str, after: int, limit: int = PAGE_EVENTS) -> dict[str, Any]:
        """A page of the events of `run` that follow event `after`, or an error saying why there is none.

        `complete` tells whether the last one given is the run's last; `next_run` is the run that followed.
        Errors: `other_run` with the run that is being published, `too_old` with the next event that is still
        held (asking with `after = oldest - 1` goes on there; what is between is gone), `bad_request`.
        """
        runs = self.runs()
        place = next((i for i, known in enumerate(runs) if known.run == run), None)
        if place is None:
            return {"error": "other_run", "run": self.run}
        last = runs[place].last_seq
        if after < 0 or (run == self.run and after > last):
            return bad_request(f"after must be from 0 to {last}, the last event")
        page = self._page(run, after, min(limit, PAGE_EVENTS))
        if not page.events and after < last:
            return {"error": "too_old", "oldest": page.oldest or last + 1}
        return {
            "run": run,
            "events": [msgspec.Raw(event) for event in page.events],
            "complete": after + len(page.events) >= last,
            "next_run": None if run == self.run else runs[place + 1].run,
        }

    @property
    def _oldest_in_memory(self) -> int:
        return self.seq + 1 - len(self._events)

    def _from_memory(self, first: int) -> Iterator[bytes]:
        return islice(self._events, first - self._oldest_in_memory, None)

    def _not_journalled(self) -> list[tuple[int, bytes]]:
        """Events that the journal has not got, as far as memory still has them."""
        if self._journal is None or self._journal.seq == self.seq:
            return []
        first = max(self._journal.seq + 1, self._oldest_in_memory)
        return list(enumerate(self._from_memory(first), first))

    def _page(self, run: str, after: int, max_events: int) -> Page:
        in_memory = self._oldest_in_memory if run == self.run else None
        if in_memory is not None and after + 1 >= in_memory:
            return Page(_fitting(self._from_memory(after + 1), max_events), None)
        page = Page([], None)
        if self._journal is not None:
            page = self._journal.page(run, after, max_events, PAGE_BYTES)
        return Page(page.events, page.oldest or in_memory)

    def answer(self, request: bytes, status: Status, pdus: PduTable | None = None) -> bytes:
        """The JSON answer to one JSON request; whatever the request is, there is an answer."""
        return msgspec.json.encode(self._answer(request, status, pdus))

    def _answer(self, request: bytes, status: Status, pdus: PduTable | None) -> Any:
        if len(request) > MAX_REQUEST_BYTES:
            return bad_request(f"a request has at most {MAX_REQUEST_BYTES} bytes")
        try:
            op = msgspec.json.decode(request, type=_Request).op
            match op:
                case "snapshot":
                    return self.snapshot()
                case "replay":
                    ask = msgspec.json.decode(request, type=_Replay)
                    return self.replay(ask.run, ask.after, ask.limit)
                case "runs":
                    return {"runs": self.runs()}
                case "status":
                    return status
                case "pdus":
                    return pdus or PduTable(run=self.run, last_ns=0, pdus=[])
                case "schema":
                    return json_schemas()
        except RecursionError:
            return bad_request("nested too deeply")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return bad_request(str(error))
        return bad_request(f"op must be one of {', '.join(OPS)}")


def _fitting(events: Iterable[bytes], max_events: int) -> list[bytes]:
    """As many of the first events as belong into one answer."""
    page = []
    size_bytes = 0
    for event in events:
        page.append(event)
        size_bytes += len(event)
        if len(page) >= max_events or size_bytes >= PAGE_BYTES:
            break
    return page


def bad_request(why: str) -> dict[str, Any]:
    """The answer to what is no request, saying why."""
    return {"error": "bad_request", "why": why}


def is_bad_request(answer: bytes) -> bool:
    """Whether a JSON answer is that of `bad_request`."""
    return answer.startswith(b'{"error":"bad_request",')
