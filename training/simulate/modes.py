"""When the modes of a vehicle are active: alternating times of random length while it drives."""

from collections.abc import Iterator

from training.draws import Draws
from training.simulate.segments import FOREVER
from training.simulate.vehicle import ModeModel, Vehicle

__all__ = ["ModeTimes", "Span"]

Span = tuple[int, int]

SECOND = 1_000_000_000
BLOCK_NS = 600 * SECOND
CACHED_BLOCKS = 64


class ModeTimes:
    """The times at which modes are active in a drive, each at least 1 s long and 1 s apart.

    The drive is cut into blocks of 10 minutes; a mode is idle where a block begins. So any part of days of
    driving is known without what was before it.
    """

    def __init__(self, vehicle: Vehicle, drive: int) -> None:
        self._vehicle = vehicle
        self._drive = drive
        self._blocks: dict[tuple[int, int, int], list[Span]] = {}

    def active(self, mode: int, window: int, limits: Span, from_ns: int, to_ns: int) -> Iterator[Span]:
        """Spans in order of time, not cut, that overlap [from_ns, to_ns).

        Args:
            mode: index in `Vehicle.modes`.
            window: number of the drive, counted from the start of the trace.
            limits: when that drive begins and ends; the mode is idle outside.
            from_ns: from the start of the trace.
            to_ns: the end, excluded.
        """
        start_ns, end_ns = max(0, limits[0]), limits[1]
        first = max(0, (from_ns - start_ns) // BLOCK_NS)
        last = (min(to_ns, end_ns, FOREVER) - 1 - start_ns) // BLOCK_NS
        for block in range(first, last + 1):
            for span in self._block(mode, window, block, start_ns, end_ns):
                if span[0] < to_ns and span[1] > from_ns:
                    yield span

    def _block(self, mode: int, window: int, block: int, start_ns: int, end_ns: int) -> list[Span]:
        key = (mode, window, block)
        if key not in self._blocks:
            if len(self._blocks) >= CACHED_BLOCKS:
                del self._blocks[next(iter(self._blocks))]
            at_ns = start_ns + block * BLOCK_NS
            draws = Draws("mode", self._vehicle.seed, self._drive, *key)
            limit_ns = min(at_ns + BLOCK_NS - SECOND, end_ns)
            self._blocks[key] = _alternate(self._vehicle.modes[mode], draws, at_ns, limit_ns)
        return self._blocks[key]


def _alternate(mode: ModeModel, draws: Draws, at_ns: int, limit_ns: int) -> list[Span]:
    spans: list[Span] = []
    while True:
        start_ns = at_ns + _duration_ns(draws, mode.idle_ns)
        at_ns = min(start_ns + _duration_ns(draws, mode.active_ns), limit_ns)
        if at_ns - start_ns < SECOND:
            return spans
        spans.append((start_ns, at_ns))


def _duration_ns(draws: Draws, mean_ns: int) -> int:
    # In microseconds, so that the mean may be hours.
    return SECOND + draws.exponential(max(0, mean_ns - SECOND) // 1000) * 1000
