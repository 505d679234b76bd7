"""The bounded ring of lines between capture and scoring."""

import threading
from collections import deque
from typing import Literal

from ecustream.ledger import Ledger
from ecustream.traffic import Line

__all__ = ["Ring", "RingCancelled"]

Policy = Literal["block", "overwrite"]


class RingCancelled(Exception):  # noqa: N818 - a signal to the producer, not an error
    """The consumer wants no more lines; the producer should stop."""


class Ring:
    """Hands lines from one producer thread to one consumer thread, in order and bounded.

    With `block` the producer waits for room, so nothing is lost (files). With `overwrite` the oldest lines
    make room (live capture cannot wait): they end in the ledger as `overwritten{backlog}`, and `take` tells
    the consumer how many went missing and where.

    Both sides hand over lists of lines and pay per list, not per line.

    Args:
        capacity_lines: how many lines may wait.
        policy: what happens to a line for which there is no room.
        ledger: where lines end that the consumer never gets.
    """

    def __init__(self, capacity_lines: int, policy: Policy, ledger: Ledger) -> None:
        if capacity_lines < 1:
            raise ValueError("a ring holds at least one line")
        self.capacity_lines = capacity_lines
        self._overwrites = policy == "overwrite"
        self._ledger = ledger
        self._chunks: deque[list[Line]] = deque()
        self._taken_of_first = 0
        self._held = 0
        self._gap = 0
        self._wanted = 0
        self._closed = False
        self._cancelled = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def __len__(self) -> int:
        """How many lines wait."""
        return self._held

    @property
    def closed_and_empty(self) -> bool:
        """Whether the producer is done and every line was taken."""
        with self._changed:
            return self._closed and not self._held

    def put(self, lines: list[Line]) -> None:
        """Appends lines; the list may be reused afterwards.

        Raises:
            RingCancelled: the consumer has stopped; lines not taken end as `unscored{cancelled}`.
            ValueError: the ring is closed.
        """
        with self._changed:
            if self._closed:
                raise ValueError("the ring is closed")
            self._refuse_if_cancelled(len(lines))
            if self._overwrites:
                self._append(lines[-self.capacity_lines :], skipped=max(0, len(lines) - self.capacity_lines))
                return
            start = 0
            while start < len(lines):
                self._changed.wait_for(lambda: self._held < self.capacity_lines or self._cancelled)
                self._refuse_if_cancelled(len(lines) - start)
                room = self.capacity_lines - self._held
                self._append(lines[start : start + room], skipped=0)
                start += room

    def take(
        self, max_lines: int, *, whole: bool = True, timeout_s: float | None = None
    ) -> tuple[list[Line], int]:
        """Removes the oldest lines.

        Args:
            max_lines: how many at most.
            whole: wait until there are `max_lines` or the ring is closed, so that chunks do not depend on
                timing; otherwise take what is there as soon as there is any.
            timeout_s: waits no longer than this and then takes what is there, perhaps nothing.

        Returns:
            The lines, and how many were overwritten just before the first of them.

        Raises:
            BaseException: what the producer gave to `fail`, once every line before it was taken.
            ValueError: the ring can never hold `max_lines` at once.
        """
        if not 1 <= max_lines <= self.capacity_lines:
            raise ValueError(f"max_lines must be from 1 to {self.capacity_lines}, the ring's capacity")
        with self._changed:
            self._wanted = max_lines if whole else 1
            self._changed.wait_for(self._consumer_may_go_on, timeout_s)
            if self._error is not None and not self._held:
                raise self._error
            gap, self._gap = self._gap, 0
            lines = self._remove(min(max_lines, self._held))
            self._changed.notify_all()
            return lines, gap

    def close(self) -> None:
        """The producer is done: the consumer gets what is there, then `([], 0)`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """The producer is done because of `error`, which the consumer gets after the lines before it."""
        with self._changed:
            self._error = error
            self._closed = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """The consumer stops: what waits ends as `unscored{cancelled}`, and `put` raises from now on."""
        with self._changed:
            self._cancelled = True
            self._end_cancelled(len(self._remove(self._held)))
            self._changed.notify_all()

    def _consumer_may_go_on(self) -> bool:
        return self._held >= self._wanted or self._closed or self._cancelled

    def _refuse_if_cancelled(self, count: int) -> None:
        if self._cancelled:
            self._end_cancelled(count)
            raise RingCancelled

    def _end_cancelled(self, count: int) -> None:
        if count:
            self._ledger.end("lines", "unscored", count, reason="cancelled")

    def _append(self, lines: list[Line], skipped: int) -> None:
        """Appends `lines` and drops the oldest; `skipped` lines just before them are dropped as well."""
        excess = max(0, self._held + len(lines) - self.capacity_lines)
        self._remove(excess)
        # Everything before the first line kept is gone, so the drops always form one gap, at the front.
        dropped = excess + skipped
        if dropped:
            self._gap += dropped
            self._ledger.end("lines", "overwritten", dropped, reason="backlog")
        if lines:
            self._chunks.append(lines)
            self._held += len(lines)
        if self._held >= self._wanted:
            self._changed.notify_all()

    def _remove(self, count: int) -> list[Line]:
        """The oldest `count` lines; a chunk that is only partly used stays in place."""
        lines: list[Line] = []
        self._held -= count
        while count:
            chunk = self._chunks[0]
            part = chunk[self._taken_of_first : self._taken_of_first + count]
            lines += part
            count -= len(part)
            self._taken_of_first += len(part)
            if self._taken_of_first == len(chunk):
                self._chunks.popleft()
                self._taken_of_first = 0
        return lines
