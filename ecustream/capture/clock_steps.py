"""Notices that the wall clock was set, by comparing it with a clock that nobody can set."""

import time
from collections.abc import Callable
from typing import NamedTuple

from ecustream.traffic import Frame

__all__ = ["ClockStep", "ClockSteps"]

_STEP_NS = 1_000_000_000
"""Time services correct less than that without setting the clock, and lines may be in such disorder."""
_SAME_INSTANT_NS = 1_000_000
_TRIES = 20


class ClockStep(NamedTuple):
    """The wall clock was set: forward by `by_ns`, or back where that is below 0.

    `border_ns` lies between the times of frames before and after: it says on which side of the step a frame
    is that was captured near it.
    """

    by_ns: int
    border_ns: int

    def is_after(self, time_ns: int) -> bool:
        """Whether a frame with that time was captured after the clock had been set."""
        return time_ns > self.border_ns if self.by_ns > 0 else time_ns < self.border_ns

    def __str__(self) -> str:
        direction = "forward" if self.by_ns > 0 else "back"
        return f"the clock of this machine was set {direction} by {abs(self.by_ns) / 1e9:.1f} s"


class ClockSteps:
    """Finds the frame before which the wall clock was set; a pure state machine, where the clocks are given.

    A machine that was suspended looks as if its clock had been set forward, and for a capture it was.

    Args:
        held_ns: how long a frame may stay in the ring without being there to be taken.
        wall_ns: the clock of the capture, which can be set, nanoseconds since 1970.
        steady_ns: a clock that cannot be set.

    Attributes:
        wall_ns: the wall clock at the last look.
        pending: whether the clock was set, and frames from before that may still come.
    """

    def __init__(
        self,
        held_ns: int,
        wall_ns: Callable[[], int] = time.time_ns,
        steady_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._held_ns = held_ns
        self._ask_wall_ns = wall_ns
        self._ask_steady_ns = steady_ns
        self._step: ClockStep | None = None
        self._seen_ns = 0
        self.wall_ns, self._steady_ns = self._both()

    @property
    def pending(self) -> bool:
        """See the class."""
        return self._step is not None

    def place(self, frames: list[Frame], complete: bool) -> tuple[list[Frame], ClockStep | None, list[Frame]]:
        """Look at the clocks after frames were taken, and at the frames.

        Args:
            frames: the next frames; none is a look, too.
            complete: whether no more were there to be taken.

        Returns:
            The frames before a step by more than a second, the step, and those after it. Without a step
            all are before it; it may also be found when no frame follows yet.
        """
        self._look()
        step = self._step
        if step is None:
            return frames, None, []
        first = next((i for i, frame in enumerate(frames) if step.is_after(frame.time_ns)), None)
        if first is None:
            if not complete or self._steady_ns - self._seen_ns <= self._held_ns:
                return frames, None, []
            # What was captured before the step was taken by now.
            first = 0
        self._step = None
        return frames[:first], step, frames[first:]

    def _look(self) -> None:
        wall_ns, steady_ns = self._both()
        elapsed_ns = steady_ns - self._steady_ns
        by_ns = wall_ns - self.wall_ns - elapsed_ns
        if abs(by_ns) > _STEP_NS:
            self._step = ClockStep(by_ns, self.wall_ns + (elapsed_ns + by_ns) // 2)
            self._seen_ns = steady_ns
        self.wall_ns, self._steady_ns = wall_ns, steady_ns

    def _both(self) -> tuple[int, int]:
        """Both clocks at one instant: a thread that loses its turn between them would see a step."""
        for _ in range(_TRIES):
            before_ns = self._ask_steady_ns()
            wall_ns = self._ask_wall_ns()
            after_ns = self._ask_steady_ns()
            if after_ns - before_ns < _SAME_INSTANT_NS:
                break
        return wall_ns, (before_ns + after_ns) // 2
