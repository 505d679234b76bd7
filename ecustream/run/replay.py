"""Replays lines at a multiple of real time, with absolute wake-up times so that delays do not add up."""

import threading
import time
from collections.abc import Iterator

from ecustream.traffic import Line

__all__ = ["Pacer"]

_SLICE_NS = 2_000_000
_LONGEST_WAIT_S = 0.02


class Pacer:
    """Holds lines back until they are due.

    Args:
        speed: 1 is real time, 2 twice as fast.

    Attributes:
        passed_ns: capture time up to which every line was handed on; it rises also while no line is due.
        late_ns: wall time by which the newest lines were handed on too late, because whoever takes them
            did not want them sooner, or because they could not be read so fast.
    """

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._first_ns: int | None = None
        self._started_s = 0.0
        self._cancelled = threading.Event()
        # Many times faster than real time, 2 ms of capture time would be a slice of a line or two.
        self._slice_ns = round(_SLICE_NS * max(1.0, speed))
        self.passed_ns = 0
        self.late_ns = 0

    def cancel(self) -> None:
        """Hand on everything at once from now on."""
        self._cancelled.set()

    def paced(self, lines: list[Line]) -> Iterator[list[Line]]:
        """The lines in slices of at most 2 ms, each when its last line is due."""
        first = 0
        for i in range(1, len(lines) + 1):
            if i == len(lines) or lines[i].time_ns - lines[first].time_ns > self._slice_ns:
                self._wait_until(lines[i - 1].time_ns)
                yield lines[first:i]
                self.passed_ns = max(self.passed_ns, lines[i - 1].time_ns)
                first = i

    def _wait_until(self, time_ns: int) -> None:
        if self._first_ns is None:
            self._first_ns, self._started_s = time_ns, time.monotonic()
        due_s = self._started_s + (time_ns - self._first_ns) / 1e9 / self.speed
        self.late_ns = max(0, round((time.monotonic() - due_s) * 1e9))
        while (wait_s := due_s - time.monotonic()) > 0 and not self._cancelled.is_set():
            self._cancelled.wait(min(wait_s, _LONGEST_WAIT_S))
            virtual_ns = self._first_ns + int((time.monotonic() - self._started_s) * self.speed * 1e9)
            # The next line is due at time_ns and is not handed on yet: time has not passed that.
            self.passed_ns = max(self.passed_ns, min(virtual_ns, time_ns - self._slice_ns - 1))
