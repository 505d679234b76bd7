"""Keeps the number of streams small, whatever comes for months: too many ports or ids count as one.

Whoever asks for the time or for a name takes a new port each time, and what only looks like PDUs has any
id. No PDU of a vehicle has so many ports, so from some number on they are one, which is written 0.
"""

from collections import Counter

from ecustream.traffic import Flow

__all__ = ["MOST_IDS", "MOST_PAIRS", "MOST_PORTS", "Folding"]

MOST_PORTS = 32
"""Ports of one end that have met the same port of the other end; further ones are told as 0."""
MOST_PAIRS = 256
"""Pairs of ports between two addresses; further ones are told as 0 and 0."""
MOST_IDS = 2048
"""PDU ids without a name on one flow; what has a further one is told as a datagram without ids."""


class Folding:
    """Decides under which ports a PDU that was not seen before is told; a pure state machine.

    To be asked once for each; memory is bounded, where addresses are.
    """

    def __init__(self) -> None:
        self._seen: Counter[tuple[object, ...]] = Counter()

    def fold(self, flow: Flow, pdu_id: int | None, *, named: bool) -> tuple[Flow, int | None]:
        """Where to tell a PDU that is new.

        Args:
            flow: where it came.
            pdu_id: its id; None where it has none.
            named: whether the name table has it; then it keeps its id.
        """
        if not named and pdu_id is not None and not self._take(("ids", *flow), MOST_IDS):
            pdu_id = None
        ends = (flow.source, flow.src, flow.dst, pdu_id)
        sports, dports, pairs = ("from", *ends, flow.dport), ("to", *ends, flow.sport), ("pairs", *ends)
        if self._seen[sports] >= MOST_PORTS:
            return flow._replace(sport=0), pdu_id
        if self._seen[dports] >= MOST_PORTS:
            return flow._replace(dport=0), pdu_id
        if not self._take(pairs, MOST_PAIRS):
            return flow._replace(sport=0, dport=0), pdu_id
        self._seen[sports] += 1
        self._seen[dports] += 1
        return flow, pdu_id

    def _take(self, key: tuple[object, ...], most: int) -> bool:
        """Whether there was room for one more."""
        if self._seen[key] >= most:
            return False
        self._seen[key] += 1
        return True
