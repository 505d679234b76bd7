"""When each PDU came, batch by batch, each occurrence with the ones before it that still matter."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from training.baselines.columns import Columns, Ints

__all__ = ["Came", "Occurrences", "rows_by_pdu"]


class Came(NamedTuple):
    """The occurrences of one PDU in a batch.

    Attributes:
        pdu: its number.
        rows: of its lines in the batch, shape (n,).
        times_ns: of what is remembered and then of these lines, never falling, shape (remembered + n,):
            lines that overtook each other in the capture count as simultaneous.
        remembered: how many come first.
        first_ns: its first occurrence since the trace began or was interrupted.
    """

    pdu: int
    rows: Ints
    times_ns: Ints
    remembered: int
    first_ns: int

    @property
    def now_ns(self) -> Ints:
        """Times of these lines, shape (n,)."""
        return self.times_ns[self.remembered :]

    @property
    def following(self) -> Ints:
        """Rows of the lines that have an occurrence before them: all, or all but the first."""
        return self.rows if self.remembered else self.rows[1:]

    @property
    def intervals_ns(self) -> Ints:
        """Time since the occurrence before, of the lines `following`."""
        return np.diff(self.times_ns[max(self.remembered - 1, 0) :])

    def within(self, window_ns: int) -> Ints:
        """How many came before each line and less than `window_ns` ago, shape (n,)."""
        before = np.searchsorted(self.times_ns, self.now_ns - window_ns, side="right")
        counts: Ints = np.arange(self.remembered, len(self.times_ns)) - before
        return counts


class Occurrences:
    """Remembers the occurrences of every PDU in one trace.

    Args:
        reach_ns: how far back the times of a PDU (by number) are needed; the newest is always kept.
    """

    def __init__(self, reach_ns: Callable[[int], int] = lambda _: 0) -> None:
        self._reach_ns = reach_ns
        self._kept: dict[int, Ints] = {}
        self._first_ns: dict[int, int] = {}

    def add(self, lines: Columns) -> Iterator[Came]:
        """The PDUs of the next lines by number; all must be taken."""
        for pdu, rows in rows_by_pdu(lines.pdu):
            kept = self._kept.get(pdu)
            times = lines.time_ns[rows]
            remembered = 0
            if kept is not None:
                remembered = len(kept)
                times = np.concatenate([kept, times])
            times = np.maximum.accumulate(times)
            first = self._first_ns.setdefault(pdu, int(times[0]))
            yield Came(pdu, rows, times, remembered, first)
            start = np.searchsorted(times, times[-1] - self._reach_ns(pdu), side="right")
            self._kept[pdu] = times[min(int(start), len(times) - 1) :]

    def last_ns(self) -> dict[int, int]:
        """The newest occurrence of every PDU."""
        return {pdu: int(times[-1]) for pdu, times in self._kept.items()}

    def forget(self) -> None:
        """Begin anew, as after an interruption."""
        self._kept.clear()
        self._first_ns.clear()


def rows_by_pdu(pdu: npt.NDArray[np.int32]) -> Iterator[tuple[int, Ints]]:
    """Each PDU with the rows of its lines, in order."""
    if not len(pdu):
        return
    # Numpy sorts 16 bits by counting, several times as fast.
    narrow = pdu.astype(np.int16) if int(pdu.max()) < 1 << 15 else pdu
    order = np.argsort(narrow, kind="stable")
    starts = np.flatnonzero(np.diff(pdu[order], prepend=-1))
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
        yield int(pdu[order[start]]), order[start:stop]
