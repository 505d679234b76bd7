"""What a live capture takes its frames from."""

from typing import NamedTuple, Protocol

from ecustream.traffic import Frame

__all__ = ["FrameSource", "Taken"]


class Taken(NamedTuple):
    """The next frames of an interface.

    Attributes:
        frames: oldest first.
        losses: (frame number, count) where so many frames were dropped just before that one.
        complete: whether no more are there.
        owing: whether a loss is known that comes after them: the next frame, or `overdue_loss`, tells of it.
    """

    frames: list[Frame]
    losses: list[tuple[int, int]]
    complete: bool
    owing: bool = False


class FrameSource(Protocol):
    """The frames of one interface, for one thread; made, it captures nothing before `start`.

    Attributes:
        limits: a clause on what it cannot do; empty where nothing need be said.
        packets: frames that came so far, those included that are known to have been dropped.
    """

    limits: str
    packets: int

    @property
    def is_bound(self) -> bool:
        """Whether it still belongs to the interface: one that was away, and came back, it has lost."""

    def start(self) -> None:
        """Capture from now on.

        Raises:
            OSError: the interface is gone.
        """

    def finish(self) -> None:
        """Capture no more; what came until now can still be taken, some 20 ms from now."""

    def wait(self, timeout_ms: int) -> bool:
        """Wait for frames, for `timeout_ms` at most; whether the interface went down or away meanwhile."""

    def frames(self, number: int, bus: str) -> Taken:
        """The frames that are there, or some of them, numbered from `number` on; `bus` is their source."""

    def overdue_loss(self) -> int:
        """How many were dropped of which no frame has told for so long that the caller has to; else 0."""

    def left_dropped(self) -> int:
        """How many dropped frames were told before no other by now; for the end."""

    def close(self) -> None:
        """Give back what it holds."""
