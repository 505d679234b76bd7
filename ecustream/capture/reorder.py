"""Puts frames into the order of their times, which come nearly so."""

from bisect import bisect_right
from operator import attrgetter

from ecustream.ledger import Ledger
from ecustream.traffic import Frame

__all__ = ["LATE", "MAX_HELD", "WINDOW_NS", "Reorder"]

WINDOW_NS = 100_000_000
"""A frame waits until one is there that is so much newer: loggers send in batches, a link at a time."""
MAX_HELD = 65_536
"""So many may wait, so that a clock that stands still does not fill the memory."""
LATE = "logger_frames_late"
"""The note on a frame that came when newer ones had been handed on."""

_time_ns = attrgetter("time_ns")


class Reorder:
    """Holds frames for `WINDOW_NS`; a pure state machine.

    A frame that is older than one that was handed on is handed on at once, and noted.

    Args:
        ledger: for the note.

    Attributes:
        reached_ns: up to this time everything was handed on that was there; 0 at first.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._held: list[Frame] = []
        self._last_ns = 0
        self.reached_ns = 0

    @property
    def held(self) -> int:
        """How many frames wait."""
        return len(self._held)

    def put(self, frames: list[Frame]) -> list[Frame]:
        """Take the next frames; returns those whose turn it is."""
        if not frames:
            return []
        late = [frame for frame in frames if frame.time_ns < self._last_ns]
        if late:
            self._ledger.note(LATE, len(late))
            late.sort(key=_time_ns)
            last_ns = self._last_ns
            frames = [frame for frame in frames if frame.time_ns >= last_ns]
        self._held += frames
        # Stable: what has one time stays in the order in which it came.
        self._held.sort(key=_time_ns)
        newest_ns = self._held[-1].time_ns if self._held else 0
        return late + self.release(newest_ns - WINDOW_NS)

    def release(self, until_ns: int) -> list[Frame]:
        """The frames up to this time: nothing older is to come."""
        self.reached_ns = max(self.reached_ns, until_ns)
        count = bisect_right(self._held, self.reached_ns, key=_time_ns)
        return self._hand_on(max(count, len(self._held) - MAX_HELD))

    def flush(self) -> list[Frame]:
        """All that wait; what comes after them is by another clock."""
        frames = self._hand_on(len(self._held))
        self._last_ns = self.reached_ns = 0
        return frames

    def _hand_on(self, count: int) -> list[Frame]:
        frames = self._held[:count]
        if frames:
            del self._held[:count]
            self._last_ns = frames[-1].time_ns
        return frames
