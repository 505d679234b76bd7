"""Peaks over time in bounded memory, for plots."""

from typing import NamedTuple

__all__ = ["Peak", "PeakSeries"]


class Peak(NamedTuple):
    """The highest value of a bucket, and which PDU had it; `time_ns` is where the bucket begins."""

    time_ns: int
    value: float
    pdu: str


class PeakSeries:
    """The maximum of each bucket of `width_ns`, for the last `capacity` buckets.

    Remembers which buckets have changed since they were last asked for.
    """

    def __init__(self, width_ns: int, capacity: int) -> None:
        if width_ns < 1 or capacity < 1:
            raise ValueError("a series has buckets of at least 1 ns, and at least one of them")
        self.width_ns = width_ns
        self.capacity = capacity
        self._peaks: dict[int, Peak] = {}
        self._changed: set[int] = set()
        self._newest = 0

    def __len__(self) -> int:
        return len(self._peaks)

    def add(self, time_ns: int, value: float, pdu: str) -> None:
        """Takes a value; one from before the first bucket that is still held is dropped."""
        bucket = time_ns // self.width_ns
        peak = self._peaks.get(bucket)
        if peak is None:
            self._make_room(bucket)
        elif peak.value >= value:
            return
        if bucket > self._newest - self.capacity:
            self._peaks[bucket] = Peak(bucket * self.width_ns, value, pdu)
            self._changed.add(bucket)

    def peaks(self) -> list[Peak]:
        """Every bucket that has a value, oldest first."""
        return [self._peaks[bucket] for bucket in sorted(self._peaks)]

    def take_changed(self) -> list[Peak]:
        """The buckets that changed since the last call, oldest first."""
        changed = [self._peaks[bucket] for bucket in sorted(self._changed)]
        self._changed.clear()
        return changed

    def clear(self) -> None:
        """Forgets everything."""
        self._peaks.clear()
        self._changed.clear()
        self._newest = 0

    def _make_room(self, bucket: int) -> None:
        if bucket <= self._newest:
            return
        self._newest = bucket
        oldest = bucket - self.capacity
        for old in [each for each in self._peaks if each <= oldest]:
            del self._peaks[old]
            self._changed.discard(old)
