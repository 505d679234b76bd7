"""When the lines that wait are scored, and how many: whole chunks, or what has waited long enough."""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Batcher", "Wait", "Waiting"]


class Waiting(NamedTuple):
    """What waits in one ring: how many lines, when the oldest came (ns of any clock), whether more can."""

    lines: int
    oldest_ns: int
    ended: bool


class Wait(NamedTuple):
    """How long the scorer should wait.

    Attributes:
        ns: 0 to score now, None to wait until something changes.
        lines: look again as soon as a ring holds so many.
    """

    ns: int | None
    lines: int


class Batcher:
    """Decides when a pass of the scorer begins; each pass takes up to `chunk_lines` of every ring.

    With a longest wait, a pass begins when a whole chunk is there or the oldest line has waited that long.
    So little traffic is scored soon, and the more lines came during a pass, the more the next one takes:
    after a stall in whole chunks, which cost the least a line. Without one, a pass takes a whole chunk of
    every ring that has not ended, so that passes never depend on timing.

    Args:
        chunk_lines: lines of one ring in a pass, at most.
        max_wait_ns: how long the oldest line may wait for a fuller chunk; None for whole chunks only.
    """

    def __init__(self, chunk_lines: int, max_wait_ns: int | None) -> None:
        self.chunk_lines = chunk_lines
        self._max_wait_ns = max_wait_ns

    def wait(self, rings: Sequence[Waiting], now_ns: int) -> Wait:
        """How long to wait before the next pass, given what waits in the rings at `now_ns`."""
        if all(ring.ended for ring in rings):
            return Wait(0, 1)
        if self._max_wait_ns is None:
            whole = all(ring.ended or ring.lines >= self.chunk_lines for ring in rings)
            return Wait(0 if whole else None, self.chunk_lines)
        held = [ring for ring in rings if ring.lines]
        if not held:
            return Wait(None, 1)
        due_ns = min(ring.oldest_ns for ring in held) + self._max_wait_ns
        if now_ns >= due_ns or any(ring.lines >= self.chunk_lines for ring in held):
            return Wait(0, 1)
        return Wait(due_ns - now_ns, self.chunk_lines)

    def counts(self, rings: Sequence[Waiting]) -> list[int]:
        """How many lines of each ring the next pass takes."""
        return [min(ring.lines, self.chunk_lines) for ring in rings]
