"""Takes the lines for a pass of the scorer from all rings together."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ecustream.run.batching import Batcher, Waiting
from ecustream.run.ring import Ring
from ecustream.traffic import Line

__all__ = ["Intake", "Taken"]


class Taken(NamedTuple):
    """What a pass takes of one ring.

    Attributes:
        lines: its next lines; none also where some wait that are not due yet.
        skipped: how many were skipped before them.
        empty: nothing waited in the ring.
        ended: neither did anything wait, nor can anything more come.
    """

    lines: list[Line]
    skipped: int
    empty: bool
    ended: bool


class Intake:
    """The scorer's side of the rings.

    Args:
        rings: they share `changed`.
        batcher: decides when a pass begins.
        changed: the rings' condition.
        now_ns: the rings' clock.

    Attributes:
        behind_ns: how long the oldest line had waited when the last pass began.
    """

    def __init__(
        self,
        rings: Sequence[Ring],
        batcher: Batcher,
        changed: threading.Condition,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._rings = rings
        self._batcher = batcher
        self._changed = changed
        self._now_ns = now_ns
        self.behind_ns = 0

    @property
    def done(self) -> bool:
        """Whether nothing waits and nothing more can come."""
        return all(ring.closed_and_empty for ring in self._rings)

    def take(self, timeout_ns: int | None = None) -> list[Taken]:
        """Wait for a pass, for `timeout_ns` at most, and take its lines.

        Returns:
            Of each ring what it takes; no lines at the timeout.

        Raises:
            BaseException: a producer's, see `Ring.take`; then no ring has given up a line.
        """
        with self._changed:
            end_ns = None if timeout_ns is None else self._now_ns() + timeout_ns
            while True:
                for ring in self._rings:
                    ring.raise_if_failed()
                held = [ring.waiting() for ring in self._rings]
                now_ns = self._now_ns()
                wait = self._batcher.wait(held, now_ns)
                if wait.ns == 0:
                    break
                if end_ns is not None and now_ns >= end_ns:
                    self.behind_ns = 0
                    return [_taken([], 0, waiting) for waiting in held]
                for ring in self._rings:
                    ring.wake_at(wait.lines)
                left_ns = wait.ns
                if end_ns is not None:
                    left_ns = end_ns - now_ns if left_ns is None else min(left_ns, end_ns - now_ns)
                self._changed.wait(None if left_ns is None else left_ns / 1e9)
            oldest_ns = min((ring.oldest_ns for ring in held if ring.lines), default=now_ns)
            self.behind_ns = now_ns - oldest_ns
            counts = self._batcher.counts(held)
            return [
                _taken(*ring.take(count), waiting)
                for ring, count, waiting in zip(self._rings, counts, held, strict=True)
            ]


def _taken(lines: list[Line], skipped: int, waiting: Waiting) -> Taken:
    empty = not waiting.lines
    return Taken(lines, skipped, empty, empty and waiting.ended)
