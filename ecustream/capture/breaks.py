"""Where a live capture was interrupted, and how far it is."""

from typing import NamedTuple

__all__ = ["Break", "Reached"]


class Break(NamedTuple):
    """What comes after it does not follow what was before.

    Attributes:
        time_ns: capture time at which it goes on.
        source: the bus.
        why: a clause.
    """

    time_ns: int
    source: str
    why: str


class Reached(NamedTuple):
    """How far a capture is.

    Attributes:
        time_ns: capture time up to which everything was handed on; 0 where that is not known.
        breaks: how many breaks there were; `time_ns` is by the clock that was valid after them.
    """

    time_ns: int
    breaks: int
