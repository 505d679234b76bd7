"""Which PDU is overdue next, where a deadline moves with every line and hardly ever passes."""

import heapq

from ecustream.detect.watched import NEVER_NS, Watched

__all__ = ["Deadlines"]


class Deadlines:
    """The deadlines of all PDUs; of those at one time the one that was set first comes first.

    A PDU has one entry in the queue, at or before its deadline. An entry that comes to the front too early
    is put back to where it belongs, so that setting a later deadline, as every line does, moves nothing.
    """

    def __init__(self) -> None:
        self._queue: list[tuple[int, int, Watched]] = []
        self._order = 0

    def set(self, watched: Watched, at_ns: int) -> None:
        """Give a PDU a deadline in place of the one it has; the same one again keeps its turn."""
        if at_ns != watched.deadline_ns:
            self._order += 1
            watched.deadline_ns, watched.deadline_order = at_ns, self._order
            if at_ns < watched.queued_ns:
                self._queue_up(watched, at_ns)

    def _queue_up(self, watched: Watched, at_ns: int) -> None:
        watched.queued_ns, watched.queued_order = at_ns, watched.deadline_order
        heapq.heappush(self._queue, (at_ns, watched.deadline_order, watched))

    def soonest_ns(self) -> int:
        """When the next deadline is; `NEVER_NS` if there is none."""
        queue = self._queue
        while queue:
            at_ns, order, watched = queue[0]
            deadline_ns = watched.deadline_ns
            if order != watched.queued_order:
                heapq.heappop(queue)
            elif deadline_ns is None:
                heapq.heappop(queue)
                watched.queued_ns, watched.queued_order = NEVER_NS, 0
            elif order != watched.deadline_order:
                watched.queued_ns, watched.queued_order = deadline_ns, watched.deadline_order
                heapq.heapreplace(queue, (deadline_ns, watched.deadline_order, watched))
            else:
                return at_ns
        return NEVER_NS

    def pop(self) -> Watched:
        """Take out the PDU whose deadline is next; it has none from now on.

        Raises:
            IndexError: there is no deadline.
        """
        self.soonest_ns()
        watched = heapq.heappop(self._queue)[2]
        watched.deadline_ns = None
        watched.queued_ns, watched.queued_order = NEVER_NS, 0
        return watched
