"""The clocks of loggers, of which one is the clock of all that a capture with loggers gives."""

from ecustream.capture.carriers import MAX_TIME_NS
from ecustream.capture.reorder import WINDOW_NS

__all__ = ["JUMP_NS", "MAX_LOGGERS", "SAME_CLOCK_NS", "LoggerClocks"]

SAME_CLOCK_NS = WINDOW_NS // 2
"""Clocks that are nearer to each other are taken for one, and times by both are left as they are.

Frames by both then come within the window in which they are put in order, though a logger takes time to send.
"""
JUMP_NS = 1_000_000_000
"""A carrier can be held up by less."""

MAX_LOGGERS = 256
"""So many clocks are remembered; then all but the first are forgotten."""

_APART_NS = 2 * SAME_CLOCK_NS
_HELD_UP_NS = 2_000_000_000
"""All carriers of so long are not: where they are later than by the drift, the clock was set back."""
_DRIFT = 5_000
"""Clocks go by each other by no more than one part in so many (200 ppm)."""

Clock = int | None
"""A device id, or None for the clock of the capture."""


class LoggerClocks:
    """Follows how far each logger's clock is from that of the capture; a pure state machine.

    The clock of the first logger is that of everything. Times by a clock that is farther than
    `SAME_CLOCK_NS` from it are moved by the distance, all others are left as they are. The distance is that
    of a carrier's newest recording from the carrier itself, less whatever it takes a logger to send at its
    fastest: the greatest one, which gives way by 200 ppm, so that it follows a drift.
    """

    def __init__(self) -> None:
        self._ahead_ns: dict[Clock, int] = {None: 0}
        self._seen_ns: dict[int, int] = {}
        # By logger: when its last two seconds began, and the distance of its fastest carrier since.
        self._fastest: dict[int, tuple[int, int]] = {}
        self._first: Clock = None
        self._moved: set[Clock] = set()

    def see(self, device: int, carrier_ns: int, newest_ns: int) -> str | None:
        """Take note of a carrier.

        Args:
            device: the logger.
            carrier_ns: when its frame was captured, by the clock of the capture.
            newest_ns: the time of the newest recording in it, by the clock of the logger.

        Returns:
            Why times from this carrier on do not follow those before; None where they do.
        """
        ahead_ns = newest_ns - carrier_ns
        before_ns = self._ahead_ns.get(device)
        elapsed_ns = max(0, carrier_ns - self._seen_ns.get(device, carrier_ns))
        self._seen_ns[device] = carrier_ns
        if before_ns is None:
            self._make_room()
            self._ahead_ns[device] = ahead_ns
            if self._first is not None:
                self._settle(device)
                return None
            self._first = device
            self._settle(None)
            if not self._moved:
                return None
            return f"the clock of logger {device:#06x} is {_seconds(ahead_ns)} that of the capture"
        now_ns = self._set_to(device, carrier_ns, ahead_ns, before_ns)
        if now_ns is not None:
            self._ahead_ns[device] = now_ns
            self._fastest.pop(device, None)
            for clock in self._ahead_ns if device == self._first else (device,):
                self._settle(clock)
            came = _seconds(now_ns - before_ns)
            return f"the clock of logger {device:#06x} is suddenly {came} where it was"
        self._ahead_ns[device] = max(ahead_ns, before_ns - elapsed_ns // _DRIFT)
        drifted = [c for c in self._ahead_ns if c not in self._moved and abs(self._distance(c)) > _APART_NS]
        self._moved.update(drifted)
        if not drifted:
            return None
        return f"the clocks of logger {device:#06x} and of the capture have drifted apart by more than 0.1 s"

    def time(self, clock: Clock, time_ns: int) -> int:
        """A time by one of the clocks, by the clock of everything."""
        if clock not in self._moved:
            return time_ns
        return min(max(0, time_ns + self._distance(clock)), MAX_TIME_NS)

    def passed(self, capture_ns: int) -> int:
        """What the clock of everything shows, by the slowest logger, at a time by that of the capture."""
        if self._first is None:
            return capture_ns
        return capture_ns + min(ahead for clock, ahead in self._ahead_ns.items() if clock not in self._moved)

    def _set_to(self, device: int, carrier_ns: int, ahead_ns: int, before_ns: int) -> int | None:
        """How far the logger's clock is ahead now, where it was set; None where it was not."""
        if abs(ahead_ns - before_ns) > JUMP_NS:
            return ahead_ns
        since_ns, fastest_ns = self._fastest.get(device, (carrier_ns, ahead_ns))
        fastest_ns = max(fastest_ns, ahead_ns)
        self._fastest[device] = since_ns, fastest_ns
        if carrier_ns - since_ns < _HELD_UP_NS:
            return None
        del self._fastest[device]
        return fastest_ns if before_ns - fastest_ns > _APART_NS else None

    def _settle(self, clock: Clock) -> None:
        """Decide whether times by this clock are moved."""
        if abs(self._distance(clock)) > SAME_CLOCK_NS:
            self._moved.add(clock)
        else:
            self._moved.discard(clock)

    def _make_room(self) -> None:
        if len(self._ahead_ns) > MAX_LOGGERS:
            kept = (None, self._first)
            self._ahead_ns = {clock: self._ahead_ns[clock] for clock in kept}
            self._seen_ns.clear()
            self._fastest.clear()
            self._moved.intersection_update(kept)

    def _distance(self, clock: Clock) -> int:
        return self._ahead_ns[self._first] - self._ahead_ns[clock]


def _seconds(ahead_ns: int) -> str:
    return f"{abs(ahead_ns) / 1e9:,.1f} s {'ahead of' if ahead_ns > 0 else 'behind'}"
