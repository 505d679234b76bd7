"""What detection remembers of a PDU and of a bus."""

from ecustream.detect.calibration import PduCalibration
from ecustream.detect.debounce import Debounce
from ecustream.detect.intervals import IntervalWatch
from ecustream.traffic import Stream

__all__ = ["NEVER_NS", "Bus", "Watched"]

NEVER_NS = 2**63 - 1
"""Later than every time."""

_STALE_NS = 5_000_000_000
_PAUSE_FACTOR = 3
_PAUSE_FLOOR_NS = 50_000_000
_FIRST_LINE_NS = 2_000_000_000
_LONGEST_NS = 2**61


class Watched:
    """One known PDU: its intervals, and the evidence of the two channels.

    Attributes:
        allowance_ns: so long after a line that was in time the next one is overdue.
        overdue: it has missed its deadline and has not come since.
        silent_since_ns: its last line before it was overdue; None if there was none.
        deadline_ns: the deadline that counts; None while it has none.
        deadline_order: deadlines of one time fall due in this order.
        queued_ns: where its entry in `Deadlines` stands; `NEVER_NS` while it has none.
        queued_order: tells that entry from older ones.
        last_frame: the frame that carried its last line.
        expiry_ns: after so long without a line a finding of it is over.
    """

    __slots__ = (
        "allowance_ns",
        "cal",
        "deadline_ns",
        "deadline_order",
        "expiry_ns",
        "interval",
        "intervals",
        "last_frame",
        "model",
        "overdue",
        "queued_ns",
        "queued_order",
        "silent_since_ns",
        "stream",
    )

    def __init__(
        self, cal: PduCalibration, stream: Stream, interval: Debounce, model: Debounce, counts_cycles: float
    ) -> None:
        self.cal = cal
        self.stream = stream
        self.intervals = IntervalWatch(cal, counts_cycles) if cal.cycle_ns else None
        self.interval = interval
        self.model = model
        # While calibration learns, nothing counts: infinite cycles.
        excess_ns = min(counts_cycles * cal.cycle_ns, _LONGEST_NS) if cal.cycle_ns else 0.0
        self.allowance_ns = cal.longest_ns[0] + round(excess_ns)
        self.expiry_ns = max(_STALE_NS, 5 * cal.cycle_ns)
        self.overdue = False
        self.silent_since_ns: int | None = None
        self.deadline_ns: int | None = None
        self.deadline_order = 0
        self.queued_ns = NEVER_NS
        self.queued_order = 0
        self.last_frame = 0

    def forget(self) -> None:
        """Forget the history, as after a gap in the capture."""
        self.interval.reset()
        self.model.reset()
        self.overdue, self.deadline_ns = False, None
        if self.intervals is not None:
            self.intervals.reset()


class Bus:
    """One bus.

    Attributes:
        pause_ns: the longest time in which clean traffic carried nothing; None if it was never learned.
        heard: a line of it came.
        silent: it has carried nothing for clearly longer than that, and before its first line for 2 s.
        initialized: its vehicle is not in the activity state "not initialized".
        overdue: how many of its PDUs are overdue.
        disturbed_ns: until then the model's context is none that it was calibrated on, because PDUs are
            missing or out of time; what it says of other PDUs is an echo.
        since: since when its PDUs are expected, in words; before its first line, since when that is.
    """

    __slots__ = (
        "_limit_ns",
        "disturbed_ns",
        "heard",
        "initialized",
        "last_ns",
        "overdue",
        "pause_ns",
        "silent",
        "since",
        "stream",
    )

    def __init__(
        self, source: str, pause_ns: int | None, now: int, *, since: str, heard: bool = True
    ) -> None:
        self.stream = Stream(-1, f"bus|{source}", f"all of {source}", source, "", 0, "", 0)
        self.pause_ns = pause_ns
        self._limit_ns = NEVER_NS
        if pause_ns is not None:
            self._limit_ns = max(_PAUSE_FACTOR * pause_ns, pause_ns + _PAUSE_FLOOR_NS)
            if not heard:
                self._limit_ns = max(self._limit_ns, _FIRST_LINE_NS)
        self.last_ns = now
        self.heard = heard
        self.silent = False
        self.initialized = True
        self.overdue = 0
        self.disturbed_ns = 0
        self.since = since

    @property
    def silent_ns(self) -> int:
        """When it becomes silent if nothing more comes; never if it is already."""
        return NEVER_NS if self.silent else self.last_ns + self._limit_ns
