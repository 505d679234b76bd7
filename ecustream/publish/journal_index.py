"""Where in the journal's segments the events of each run stand: a sparse index, some bytes an entry."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from ecustream.publish.journal_records import scan

__all__ = ["Index", "Page", "RunRange", "Segment", "Span"]

MARK_BYTES = 1 << 16
"""A page begins to read at most so many bytes before its first event."""


class RunRange(msgspec.Struct, frozen=True):
    """The oldest and the last event of a run that are held; `last_seq < first_seq` where there is none."""

    run: str
    first_seq: int
    last_seq: int


class Page(NamedTuple):
    """Events that follow each other without a gap; where there is none, `oldest` is the next one held."""

    events: list[bytes]
    oldest: int | None


class Segment:
    """One file of the journal: its path, its size in bytes, and which events it holds.

    `created_ns` and `written_ns` are wall times of its first and last write, in nanoseconds since 1970.
    """

    def __init__(self, path: Path, number: int, created_ns: int) -> None:
        self.path = path
        self.number = number
        self.created_ns = created_ns
        self.written_ns = created_ns
        self.size_bytes = 0
        self.spans: list[Span] = []


class Span:
    """Events `first` to `last` of one run, in one piece of a segment that ends at byte `end`."""

    def __init__(self, segment: Segment, run: str, first: int) -> None:
        self.segment = segment
        self.run = run
        self.first = first
        self.last = first - 1
        self.end = 0
        self._seqs = array("Q")
        self._offsets = array("Q")

    def add(self, offset: int, end: int) -> None:
        """The next event stands in bytes `offset` to `end`."""
        self.last += 1
        self.end = end
        if not self._offsets or offset - self._offsets[-1] >= MARK_BYTES:
            self._seqs.append(self.last)
            self._offsets.append(offset)

    def begin_of(self, seq: int) -> int:
        """A byte at which a record begins, at or a little before event `seq`."""
        return self._offsets[max(0, bisect_right(self._seqs, seq) - 1)]


class Index:
    """The spans of each run, runs in the order of their start."""

    def __init__(self) -> None:
        self._runs: dict[str, list[Span]] = {}

    def add(self, segment: Segment, run: str, seq: int | None, offset: int, end: int) -> None:
        """The record of `run` in bytes `offset` to `end` is event `seq`, or the start of the run (None).

        A run that starts again (an offline run has the same name each time) replaces what it was before.
        """
        spans = self._runs.get(run)
        if seq is None or (spans and seq <= spans[-1].last):
            self.forget(run)
            spans = None
        if spans is None:
            spans = self._runs[run] = []
        span = spans[-1] if spans else None
        if span is None or span.segment is not segment or seq != span.last + 1:
            span = Span(segment, run, 1 if seq is None else seq)
            spans.append(span)
            segment.spans.append(span)
        if seq is None:
            span.end = end
        else:
            span.add(offset, end)

    def forget(self, run: str) -> None:
        """`run` is not known any more."""
        for span in self._runs.pop(run, ()):
            span.segment.spans.remove(span)

    def drop(self, segment: Segment) -> None:
        """The segment is gone, and a run with it of which nothing else is left."""
        for run in {span.run for span in segment.spans}:
            left = [span for span in self._runs[run] if span.segment is not segment]
            if left:
                self._runs[run] = left
            else:
                del self._runs[run]
        segment.spans.clear()

    def runs(self) -> list[RunRange]:
        """What is held of each run, oldest run first; there may be gaps within."""
        return [RunRange(run, _first(spans), spans[-1].last) for run, spans in self._runs.items()]

    def oldest_without_gap(self, run: str) -> int | None:
        """From which event on everything of `run` is held, up to its last one; None where nothing is."""
        oldest = None
        for span in reversed(self._runs.get(run, ())):
            if span.last >= span.first:
                if oldest is not None and span.last + 1 != oldest:
                    break
                oldest = span.first
        return oldest

    def page(self, run: str, after: int, max_events: int, max_bytes: int) -> Page:
        """Reads the events of `run` that follow event `after`, as many as belong into one answer.

        Each is read and checked anew, so that one which the disk lost or spoilt meanwhile is a gap.
        """
        events: list[bytes] = []
        size_bytes = 0
        for seq, payload in _events(self._runs.get(run, ()), after + 1):
            if seq != after + 1 + len(events):
                return Page(events, None if events else seq)
            events.append(payload)
            size_bytes += len(payload)
            if len(events) >= max_events or size_bytes >= max_bytes:
                break
        return Page(events, None)


def _first(spans: list[Span]) -> int:
    return next((span.first for span in spans if span.last >= span.first), spans[0].first)


def _events(spans: Iterable[Span], first: int) -> Iterable[tuple[int, bytes]]:
    for span in spans:
        if span.last < max(first, span.first):
            continue
        try:
            with span.segment.path.open("rb") as file:
                for found in scan(file, span.begin_of(first), span.end):
                    if found.run == span.run and found.seq is not None and found.seq >= first:
                        yield found.seq, found.payload
        except OSError:  # a file that somebody deleted, or that the disk does not give back, is a gap
            continue
