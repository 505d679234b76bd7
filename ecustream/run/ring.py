"""The bounded ring of lines between capture and scoring."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from ecustream.ledger import Ledger
from ecustream.run.batching import Waiting
from ecustream.traffic import Line

__all__ = ["Policy", "Ring", "RingCancelled"]

Policy = Literal["wait", "skip"]


class RingCancelled(Exception):  # noqa: N818 - a signal to the producer, not an error
    """The consumer wants no more lines; the producer should stop."""


class Ring:
    """Hands lines from one producer thread to one consumer thread, in order and bounded.

    With `wait` the producer waits for room, so nothing is lost (files). With `skip` the oldest lines make
    room (live capture cannot wait): they end in the ledger as `overwritten{backlog}`, and `take` tells
    the consumer how many went missing and where. The newest half stays, so that what follows a gap is long
    enough to be worth scoring: if each new line took the place of one, there would be a gap in every chunk.

    Both sides hand over lists of lines and pay per list, not per line.

    Args:
        capacity_lines: how many lines may wait.
        policy: what happens when there is no room.
        ledger: where lines end that the consumer never gets.
        changed: is notified when the consumer should look; the lock of all rings that share it.
        now_ns: the clock of arrivals.
    """

    def __init__(
        self,
        capacity_lines: int,
        policy: Policy,
        ledger: Ledger,
        changed: threading.Condition | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        if capacity_lines < 1:
            raise ValueError("a ring holds at least one line")
        self.capacity_lines = capacity_lines
        self._skips = policy == "skip"
        self._ledger = ledger
        self._now_ns = now_ns
        self._chunks: deque[tuple[list[Line], int]] = deque()
        self._taken_of_first = 0
        self._held = 0
        self._gap = 0
        self._wake_at = 1
        self._closed = False
        self._cancelled = False
        self._error: BaseException | None = None
        self._changed = changed or threading.Condition()

    def __len__(self) -> int:
        """How many lines wait."""
        return self._held

    @property
    def closed_and_empty(self) -> bool:
        """Whether nothing waits and nothing more can come, not even the producer's error."""
        with self._changed:
            return not self._held and (self._cancelled or (self._closed and self._error is None))

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
            if self._skips:
                self._append(lines[self._drop_for(len(lines)) :])
                return
            start = 0
            while start < len(lines):
                self._changed.wait_for(lambda: self._held < self.capacity_lines or self._cancelled)
                self._refuse_if_cancelled(len(lines) - start)
                room = self.capacity_lines - self._held
                self._append(lines[start : start + room])
                start += room

    def waiting(self) -> Waiting:
        """What the consumer could take now, and whether more may come."""
        with self._changed:
            oldest_ns = self._chunks[0][1] if self._chunks else 0
            return Waiting(self._held, oldest_ns, self._closed or self._cancelled)

    def wake_at(self, lines: int) -> None:
        """Notify the consumer from now on only when so many lines wait, or when no more can come."""
        with self._changed:
            self._wake_at = lines

    def take(self, max_lines: int) -> tuple[list[Line], int]:
        """Removes the oldest lines, at most `max_lines` of those that are there, without waiting.

        Returns:
            The lines, and how many were overwritten just before the first of them.

        Raises:
            BaseException: what the producer gave to `fail`, once every line before it was taken.
        """
        with self._changed:
            self.raise_if_failed()
            if not self._held:
                return [], 0
            gap, self._gap = self._gap, 0
            lines = self._remove(min(max_lines, self._held))
            self._changed.notify_all()
            return lines, gap

    def raise_if_failed(self) -> None:
        """Nothing, unless the producer failed and every line before that was taken.

        Raises:
            BaseException: as in `take`.
        """
        with self._changed:
            if self._error is not None and not self._held:
                raise self._error

    def keep(self) -> None:
        """Skip nothing from now on: `put` waits for room instead.

        It takes no lock, so that a signal handler may call it in a thread that has it.
        """
        self._skips = False

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

    def _refuse_if_cancelled(self, count: int) -> None:
        if self._cancelled:
            self._end_cancelled(count)
            raise RingCancelled

    def _end_cancelled(self, count: int) -> None:
        if count:
            self._ledger.end("lines", "unscored", count, reason="cancelled")

    def _drop_for(self, coming: int) -> int:
        """Where `coming` lines do not fit, drop all but the newest half of a ring; how many of them."""
        total = self._held + coming
        if total <= self.capacity_lines:
            return 0
        dropped = total - max(1, self.capacity_lines // 2)
        of_held = min(dropped, self._held)
        # Everything before the first line kept is gone, so the drops always form one gap, at the front.
        self._remove(of_held)
        self._gap += dropped
        self._ledger.end("lines", "overwritten", dropped, reason="backlog")
        return dropped - of_held

    def _append(self, lines: list[Line]) -> None:
        if lines:
            self._chunks.append((lines, self._now_ns()))
            self._held += len(lines)
        if self._held >= self._wake_at:
            self._changed.notify_all()

    def _remove(self, count: int) -> list[Line]:
        """The oldest `count` lines; a chunk that is only partly used stays in place."""
        lines: list[Line] = []
        self._held -= count
        while count:
            chunk, _ = self._chunks[0]
            part = chunk[self._taken_of_first : self._taken_of_first + count]
            lines += part
            count -= len(part)
            self._taken_of_first += len(part)
            if self._taken_of_first == len(chunk):
                self._chunks.popleft()
                self._taken_of_first = 0
        return lines
