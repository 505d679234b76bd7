"""Activity state from the population of cyclic PDUs: how many of those that could be there are there.

A PDU is active while its last line is at most three of its own cycles old, and it counts once three
cycles have passed since the start of the capture: before, its absence says nothing. So a capture that
begins in the middle of a drive is in normal operation from its first line, and one that begins with a
start-up is found out as soon as the fast PDUs are missed.
"""

from collections.abc import Mapping

from ecustream.traffic import STATE_INIT, STATE_NORMAL, STATE_TRANSITION

__all__ = ["Member", "Population"]

_ACTIVE_CYCLES = 3
_FEW = 0.2
"""Below this share of active PDUs nothing is initialized."""
_HALF = 0.5
"""Above this share a vehicle stays in normal operation: a few silent ECUs are a fault, not a shutdown."""
_MOST = 0.9
"""From this share on a start-up is over."""
_STEADY = 0.05
"""The share counts as steady while it stays this near to a level."""
_STEADY_MOST_NS = 300_000_000
_STEADY_HALF_NS = 3_000_000_000
_STEADY_FEW_NS = 1_000_000_000
_GAP_NS = 500_000_000


class Member:
    """One PDU key as the state machines know it; `last_ns` is its last line, `cycle_ns` 0 if not cyclic.

    `is_read` tells that its payload is read: as the mapped PDU (`mapped`), or as the UDP-NM of a `node`.
    """

    __slots__ = ("cycle_ns", "is_read", "last_ns", "mapped", "node")

    def __init__(self, cycle_ns: int = 0, node: str | None = None) -> None:
        self.cycle_ns = cycle_ns
        self.last_ns: int | None = None
        self.mapped = False
        self.is_read = False
        self.node = node


class Population:
    """The state machine over the shares of active PDUs.

    Normal operation holds while at least half of the PDUs are active. It is reached from below when nine
    tenths have been active for 0.3 s, or when half or more have been, without change, for 3 s. Fewer than
    a fifth are "not initialized", at once at the beginning and after 1 s in a shutdown; all else is
    start-up or shutdown.

    Args:
        cycles_ns: known cyclic PDUs, key to cycle.
    """

    def __init__(self, cycles_ns: Mapping[str, int]) -> None:
        self.members = {key: Member(cycle_ns) for key, cycle_ns in cycles_ns.items() if cycle_ns > 0}
        self.state = STATE_NORMAL
        count = len(self.members)
        self._enough = min(count, max(5, round(_FEW * count)))
        fastest = min((member.cycle_ns for member in self.members.values()), default=0)
        self.gap_ns = max(_GAP_NS, _ACTIVE_CYCLES * fastest)
        self.restart(0)

    def restart(self, time_ns: int) -> None:
        """Begin anew at `time_ns`, after a gap or a step of the clock; the state stays until it is known."""
        self._start_ns = time_ns
        self._decided = False
        self._level = -1.0
        self._level_since_ns = time_ns
        for member in self.members.values():
            member.last_ns = None

    def evaluate(self, time_ns: int) -> int:
        """The state at capture time `time_ns`."""
        elapsed = time_ns - self._start_ns
        counted = active = 0
        for member in self.members.values():
            horizon = _ACTIVE_CYCLES * member.cycle_ns
            if elapsed >= horizon:
                counted += 1
                last_ns = member.last_ns
                if last_ns is not None and time_ns - last_ns <= horizon:
                    active += 1
        if counted and counted >= self._enough:
            self.state = self._next_state(active / counted, time_ns)
            self._decided = True
        return self.state

    def _next_state(self, share: float, time_ns: int) -> int:
        if abs(share - self._level) > _STEADY:
            self._level = share
            self._level_since_ns = time_ns
        steady_ns = time_ns - self._level_since_ns
        if self.state == STATE_NORMAL and share >= _HALF:
            return STATE_NORMAL
        if share >= _MOST and steady_ns >= _STEADY_MOST_NS:
            return STATE_NORMAL
        if share >= _HALF and steady_ns >= _STEADY_HALF_NS:
            return STATE_NORMAL
        if share >= _FEW:
            return STATE_TRANSITION
        known_idle = self.state == STATE_INIT or not self._decided
        return STATE_INIT if known_idle or steady_ns >= _STEADY_FEW_NS else STATE_TRANSITION
