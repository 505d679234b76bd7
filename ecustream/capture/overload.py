"""When blocks of the ring are given back one by one, and when all together, so that losses are few."""

__all__ = ["PERIOD_NS", "Overload"]

PERIOD_NS = 1_000_000_000
"""Losses that follow each other sooner are one."""


class Overload:
    """Notices that a reader is too slow for good; a pure state machine.

    The kernel drops while it waits for a block. A reader that is too slow and gives back one block after the
    other loses something before each of them, and hardly two blocks follow each other. If it gives back what
    it read in a second all together, it loses as much, but in one place, and what is between is whole.
    A single loss is no overload: the reader was held up, and is the faster one now.

    Attributes:
        holding: blocks that were read are not given back.
    """

    def __init__(self) -> None:
        self.holding = False
        self._lost_ns: int | None = None
        self._until_ns = 0

    def lost(self, now_ns: int) -> None:
        """The kernel has dropped frames, as is seen now, by a clock that never goes back."""
        if self._lost_ns is not None and now_ns - self._lost_ns < PERIOD_NS and not self.holding:
            self.holding = True
            self._until_ns = self._lost_ns + PERIOD_NS
        self._lost_ns = now_ns

    def is_due(self, now_ns: int) -> bool:
        """Whether what is held has to be given back now, though more could be read."""
        return self.holding and now_ns >= self._until_ns

    def release(self) -> None:
        """Everything was given back."""
        self.holding = False
