"""Activity state from UDP network management: which nodes say that they are awake.

The control bit vector is byte 0 of the message, bit 0 the Repeat Message Request (AUTOSAR SWS UdpNm). A
node stops sending when it is ready to sleep; the bus sleeps when the last one has been silent for the NM
timeout and the wait for bus sleep (2 s and 1.5 s, timings of public NM profiles).
"""

from ecustream.traffic import STATE_INIT, STATE_NORMAL, STATE_TRANSITION

__all__ = ["NetworkManagement"]

_TIMEOUT_NS = 2_000_000_000
_SLEEP_NS = 3_500_000_000
_ANNOUNCE_NS = 1_000_000_000
_REPEAT_MESSAGE = 0x01


class _Node:
    __slots__ = ("announced_until_ns", "last_ns", "repeats")

    def __init__(self) -> None:
        self.last_ns = 0
        self.repeats = False
        self.announced_until_ns = 0


class NetworkManagement:
    """The state machine over the NM messages of all nodes.

    A node is starting while it asks for Repeat Message, and for 1 s after its first message since a sleep
    that was seen. (At the beginning of a capture nobody knows whether a first message is a wake-up.)
    """

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._heard_ns: int | None = None
        self._start_ns = 0

    def restart(self, time_ns: int) -> None:
        """Begin anew at `time_ns`, with no node known: the start of a capture, or a step of the clock."""
        self._nodes.clear()
        self._heard_ns = None
        self._start_ns = time_ns

    def message(self, node: str, time_ns: int, payload: bytes) -> None:
        """Take an NM message of the node with that address."""
        known = self._nodes.get(node)
        silent_since_ns = known.last_ns if known is not None else self._start_ns
        if known is None:
            known = self._nodes[node] = _Node()
        if time_ns - silent_since_ns > _SLEEP_NS:
            known.announced_until_ns = time_ns + _ANNOUNCE_NS
        known.last_ns = self._heard_ns = time_ns
        known.repeats = bool(payload and payload[0] & _REPEAT_MESSAGE)

    def evaluate(self, time_ns: int) -> int | None:
        """The state at capture time `time_ns`; None before any NM message."""
        if self._heard_ns is None:
            return None
        awake = [node for node in self._nodes.values() if time_ns - node.last_ns <= _TIMEOUT_NS]
        if not awake:
            return STATE_TRANSITION if time_ns - self._heard_ns <= _SLEEP_NS else STATE_INIT
        starting = sum(node.repeats or time_ns < node.announced_until_ns for node in awake)
        return STATE_TRANSITION if 2 * starting >= len(awake) else STATE_NORMAL
