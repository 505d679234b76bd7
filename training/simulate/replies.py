"""Replies to the requests of services."""

import numpy as np

from training.draws import below, make_key
from training.simulate.tables import Sends
from training.simulate.vehicle import Vehicle

__all__ = ["Replies"]


class Replies:
    """The replies that servers give to requests.

    Args:
        vehicle: whose requests and replies.
        drive: seed of the time that a reply takes.
    """

    def __init__(self, vehicle: Vehicle, drive: int) -> None:
        self._replies = [
            (model.replies_to, pdu, *model.latency_ns, make_key("reply", vehicle.seed, drive, pdu))
            for pdu, model in enumerate(vehicle.pdus)
            if model.replies_to is not None
        ]

    def replies(self, sends: Sends) -> Sends:
        """The reply to each request in `sends` that is sent and has one.

        It comes after a time between the shortest and the longest latency, which the request's number
        decides, carries that number as its value, and may be later than all of `sends`.
        """
        tables = [Sends.empty()]
        for request, pdu, shortest_ns, longest_ns, key in self._replies:
            rows = sends.take((sends.pdu == request) & sends.sent)
            latency_ns = shortest_ns + below(key, rows.value, longest_ns - shortest_ns + 1)
            replies = Sends.make(np.full(len(rows), pdu), rows.time_ns + latency_ns, False)
            replies.value = rows.value
            replies.changes = rows.value.copy()
            tables.append(replies)
        return Sends.join(tables)
