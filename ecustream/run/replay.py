"""Replays lines at a multiple of real time, with absolute wake-up times so that delays do not add up."""

import threading
import time
from collections.abc import Iterator

from ecustream.run.gaps import CLOCK_STEP_NS
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
        self._newest_ns = 0
        self._started_s = 0.0
        self._cancelled = threading.Event()
        # Many times faster than real time, 2 ms of capture time would be a slice of a line or two.
        self._slice_ns = round(_SLICE_NS * max(1.0, speed))
        self.passed_ns = 0
        self.late_ns = 0

    def cancel(self) -> None:
        """Hand on everything at once from now on."""
        self._cancelled.set()

    def paced(self, lines: list[Line], waited_s: float = 0.0) -> Iterator[list[Line]]:
        """The lines in slices of at most 2 ms, each when its last line is due.

        Where the clock of the capture was set back, the replay goes on from there at the same pace.

        Args:
            lines: the next lines of a trace.
            waited_s: wall time for which they were waited for, because whoever writes the trace paused. By
                as much they may come later, and so may all that follow, without being called late.
        """
        first = 0
        for i, line in enumerate(lines):
            steps_back = line.time_ns < self._newest_ns - CLOCK_STEP_NS
            if i > first and (steps_back or line.time_ns - lines[first].time_ns > self._slice_ns):
                yield from self._when_due(lines[first:i], waited_s)
                first, waited_s = i, 0.0
            if steps_back:
                self._first_ns, self._newest_ns, self.passed_ns = None, 0, 0
            self._newest_ns = max(self._newest_ns, line.time_ns)
        if lines:
            yield from self._when_due(lines[first:], waited_s)

    def _when_due(self, part: list[Line], waited_s: float) -> Iterator[list[Line]]:
        self._wait_until(part[-1].time_ns, waited_s)
        yield part
        self.passed_ns = max(self.passed_ns, part[-1].time_ns)

    def _wait_until(self, time_ns: int, waited_s: float) -> None:
        if self._first_ns is None:
            self._first_ns, self._started_s = time_ns, time.monotonic()
        due_s = self._started_s + (time_ns - self._first_ns) / 1e9 / self.speed
        late_s = max(0.0, time.monotonic() - due_s)
        excused_s = min(late_s, waited_s)
        self._started_s += excused_s
        due_s += excused_s
        self.late_ns = round((late_s - excused_s) * 1e9)
        while (wait_s := due_s - time.monotonic()) > 0 and not self._cancelled.is_set():
            self._cancelled.wait(min(wait_s, _LONGEST_WAIT_S))
            virtual_ns = self._first_ns + int((time.monotonic() - self._started_s) * self.speed * 1e9)
            # The next line is due at time_ns and is not handed on yet: time has not passed that.
            self.passed_ns = max(self.passed_ns, min(virtual_ns, time_ns - self._slice_ns - 1))
