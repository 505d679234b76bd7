"""Faults that only the context tells: a wrong state, a reply or request alone, a wrong order."""

import math
from typing import ClassVar

import numpy as np

from training.draws import Draws
from training.simulate.clock import pdu_clock
from training.simulate.faults.base import Category
from training.simulate.faults.planned import (
    CLEAN_NS,
    LATENESS_NS,
    SECOND,
    PlannedFault,
    add_rows,
    cycle_of,
    cyclic_pdus,
    due_rows,
)
from training.simulate.faults.streams import EditFault, first_due
from training.simulate.scenario import Day, ScheduleEdit
from training.simulate.tables import Sends
from training.simulate.vehicle import Vehicle

__all__ = ["LoneReply", "NoReply", "Order", "WrongState"]


class WrongState(EditFault):
    """A PDU does for `size` seconds what it should do in another state of the vehicle.

    Either it runs with the fast cycle while its mode is idle, or with the slow one while it is active; or it
    is still sent after ignition was turned off.
    Severities: 0.2 to 1 s, to 3, to 6, to 15.
    """

    kind = "wrong_state"
    category: ClassVar[Category | None] = "manipulate"
    unit = "s"
    sizes = ((0.2, 1.0), (1.0, 3.0), (3.0, 6.0), (6.0, 15.0))
    needs = "a PDU whose cycle depends on a mode, or a cyclic PDU that needs ignition and a shutdown"

    def __init__(
        self,
        vehicle: Vehicle,
        at_ns: int,
        size: float,
        edit: ScheduleEdit,
        wrong_ns: int,
        comes: bool,
        right_ns: int,
    ) -> None:
        super().__init__(vehicle, at_ns, size, edit, wrong_ns, comes, right_ns)
        self._edit = edit
        if edit.keeps_on:
            # There is no message with which it is right again.
            self.until_ns = right_ns + LATENESS_NS

    @classmethod
    def targets(cls, vehicle: Vehicle) -> list[int]:
        """PDUs with two cycles, and cyclic ones that need ignition."""
        cyclic = set(cyclic_pdus(vehicle))
        return [
            index
            for index, pdu in enumerate(vehicle.pdus)
            if (pdu.mode is not None and pdu.cycle_ns and pdu.fast_cycle_ns)
            or (index in cyclic and pdu.needs_ignition)
        ]

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> "WrongState | None":
        """See `PlannedFault.make`."""
        if vehicle.pdus[target].fast_cycle_ns is None:
            return cls._after_shutdown(vehicle, day, at_ns, target, size, longest_ns)
        return cls._in_wrong_mode(vehicle, day, at_ns, target, size)

    @classmethod
    def _in_wrong_mode(
        cls, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float
    ) -> "WrongState | None":
        clock, pdu = pdu_clock(vehicle, target), vehicle.pdus[target]
        fast, slow = clock.activations(pdu.fast_cycle_ns or 0), clock.activations(cycle_of(pdu))
        active = day.mode_active(pdu.mode or 0, at_ns)
        common = math.lcm(fast, slow)
        first = first_due(vehicle, target, at_ns, common)
        last = first + common * max(1, round(size * SECOND / (common * clock.raster_ns)))
        lasts_s = (last - first) * clock.raster_ns / SECOND
        if not (cls.sizes[0][0] <= lasts_s <= cls.sizes[-1][1] and fast < slow):
            return None
        half_ns = clock.raster_ns // 2
        edit = ScheduleEdit(
            target, clock.time_ns(first) + half_ns, clock.time_ns(last) - half_ns, mode_active=not active
        )
        wrong_ns = clock.time_ns(first + fast)
        return cls(vehicle, at_ns, lasts_s, edit, wrong_ns, not active, clock.time_ns(last))

    @classmethod
    def _after_shutdown(
        cls, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> "WrongState | None":
        clock, pdu = pdu_clock(vehicle, target), vehicle.pdus[target]
        latest_ns = at_ns + longest_ns
        off_ns = next(
            (p.start_ns for p in day.phases if p.kind == "shutdown" and at_ns <= p.start_ns < latest_ns), None
        )
        if off_ns is None or round(size * SECOND) < cycle_of(pdu):
            return None
        stop_ns = off_ns + pdu.stop_delay_ns
        first = first_due(vehicle, target, stop_ns, clock.activations(cycle_of(pdu)))
        edit = ScheduleEdit(target, stop_ns, stop_ns + round(size * SECOND), keeps_on=True)
        return cls(vehicle, at_ns, size, edit, clock.time_ns(first), True, edit.end_ns)

    def on_sends(self, sends: Sends, lower_ns: int, upper_ns: int) -> Sends:
        """Watch for what comes of it; after the shutdown, up to its last message."""
        if not self._edit.keeps_on:
            return super().on_sends(sends, lower_ns, upper_ns)
        for row in due_rows(sends, self._edit.pdu, self._wrong_ns).tolist():
            self.note(int(sends.time_ns[row]), self._edit.pdu)
        return sends

    def fits(self, day: Day) -> bool:
        """In one state of the mode; after a shutdown, until the vehicle sleeps or wakes."""
        pdu = self.vehicle.pdus[self._edit.pdu]
        if self._edit.keeps_on:
            return not any(
                phase.kind != "shutdown"
                and phase.start_ns <= self.until_ns
                and phase.end_ns > self._edit.start_ns
                for phase in day.phases
            )
        still = not day.mode_changes(pdu.mode or 0, self.at_ns - CLEAN_NS, self.until_ns + CLEAN_NS)
        return still and super().fits(day)


def _every_ns(vehicle: Vehicle, reply: int) -> int:
    """Mean time from one request of a reply to the next."""
    request = vehicle.pdus[vehicle.pdus[reply].replies_to or 0]
    return request.event_interval_ns or request.cycle_ns or SECOND


class NoReply(PlannedFault):
    """`size` requests are not answered.

    Severities: 1 request, 2, 3 or 4, 5 to 8; fewer if there are fewer requests.
    """

    kind = "no_reply"
    category: ClassVar[Category | None] = "eliminate"
    unit = "messages"
    sizes = ((1, 1), (2, 2), (3, 4), (5, 8))
    whole = True
    needs = "a PDU that replies to another"
    patience: ClassVar[int] = 3
    requests: ClassVar[int] = 4
    longest_needed_ns: ClassVar[int] = 20 * SECOND

    def __init__(self, vehicle: Vehicle, at_ns: int, reply: int, size: float, lasts_ns: int) -> None:
        super().__init__(vehicle, at_ns, at_ns + lasts_ns, size)
        self._reply = reply
        self._request = vehicle.pdus[reply].replies_to
        self._end_ns = at_ns + lasts_ns - vehicle.pdus[reply].latency_ns[1] - LATENESS_NS
        self._most = round(size)
        self._requests: set[int] = set()

    @classmethod
    def targets(cls, vehicle: Vehicle) -> list[int]:
        """PDUs that reply."""
        return [index for index, pdu in enumerate(vehicle.pdus) if pdu.replies_to is not None]

    @classmethod
    def needed_ns(cls, vehicle: Vehicle) -> int:
        """Time for some requests."""
        every_ns = [_every_ns(vehicle, target) for target in cls.targets(vehicle)]
        return min(cls.requests * max(every_ns), cls.longest_needed_ns)

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> "NoReply | None":
        """See `PlannedFault.make`; where requests come often enough."""
        pdu = vehicle.pdus[target]
        every_ns = _every_ns(vehicle, target)
        least_ns = pdu.latency_ns[1] + LATENESS_NS + round(size) * every_ns
        if least_ns > longest_ns:
            return None
        return cls(vehicle, at_ns, target, size, min(longest_ns, least_ns + cls.patience * every_ns))

    def on_sends(self, sends: Sends, lower_ns: int, upper_ns: int) -> Sends:
        """Choose the first requests, and spoil what belongs to them."""
        of_both = (sends.pdu == self._request) | (sends.pdu == self._reply)
        for row in np.flatnonzero(of_both & (sends.time_ns >= self.at_ns) & sends.sent).tolist():
            time_ns, number = int(sends.time_ns[row]), int(sends.value[row])
            is_request = sends.pdu[row] == self._request
            if is_request and time_ns < self._end_ns and len(self._requests) < self._most:
                self._requests.add(number)
            if number in self._requests:
                self.spoil(sends, row, is_request)
                self.note(time_ns, int(sends.pdu[row]))
        if self._requests:
            self.size, self.severity = len(self._requests), self.severity_of(len(self._requests))
        return sends

    def spoil(self, sends: Sends, row: int, is_request: bool) -> None:
        """Take out a reply."""
        sends.sent[row] = is_request


class LoneReply(NoReply):
    """`size` replies come whose requests were not seen.

    Severities: 1 reply, 2, 3 or 4, 5 to 8; fewer if there are fewer requests.
    """

    kind = "lone_reply"
    category: ClassVar[Category | None] = "manipulate"

    def spoil(self, sends: Sends, row: int, is_request: bool) -> None:
        """Take out a request."""
        sends.sent[row] = not is_request


class Order(PlannedFault):
    """Two PDUs that follow each other in a task change places for `size` activations.

    Severities: 1 activation, 2 to 5, 6 to 20, 21 to 100.
    """

    kind = "order"
    category: ClassVar[Category | None] = "reorder"
    unit = "activations"
    sizes = ((1, 1), (2, 5), (6, 20), (21, 100))
    whole = True
    needs = "a cyclic PDU that is sent directly before another one in the same task"
    # Between the second PDU and what follows in the task.
    behind_ns: ClassVar[int] = 1_000

    def __init__(self, vehicle: Vehicle, at_ns: int, pdu: int, other: int, size: float) -> None:
        lasts_ns = (round(size) + 2) * cycle_of(vehicle.pdus[pdu]) + LATENESS_NS
        super().__init__(vehicle, at_ns, at_ns + lasts_ns, size)
        self._pdu = pdu
        self._other = other
        self._left = round(size)
        self._kept: Sends | None = None

    @classmethod
    def targets(cls, vehicle: Vehicle) -> list[int]:
        """The first PDU of each such pair, of pairs with the same sockets if there are some."""
        pairs, pdus = _pairs(vehicle), vehicle.pdus
        together = [first for first, then in pairs.items() if pdus[first].sockets == pdus[then].sockets]
        return together or list(pairs)

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> "Order":
        """See `PlannedFault.make`."""
        return cls(vehicle, at_ns, target, _pairs(vehicle)[target], size)

    def on_sends(self, sends: Sends, lower_ns: int, upper_ns: int) -> Sends:
        """Keep the first PDU back until the second is sent, which may be in the next slice."""
        added: list[Sends] = []
        either = (sends.pdu == self._pdu) | (sends.pdu == self._other)
        for row in np.flatnonzero(either & (sends.time_ns >= self.at_ns) & sends.due & sends.sent).tolist():
            time_ns = int(sends.time_ns[row])
            if sends.pdu[row] == self._pdu:
                if self._left:
                    self._kept = sends.take(np.array([row]))
                    sends.sent[row] = False
                    self._left -= 1
            elif self._kept is not None:
                self.note(int(self._kept.time_ns[0]), self._pdu, self._other)
                self._kept.time_ns[:] = time_ns + self.behind_ns
                self.note(time_ns + self.behind_ns)
                added.append(self._kept)
                self._kept = None
        return add_rows(sends, added)


def _pairs(vehicle: Vehicle) -> dict[int, int]:
    """The PDU that comes next in each activation, by the PDU before it."""
    last: dict[tuple[int, int | None, int], int] = {}
    pairs: dict[int, int] = {}
    for index in cyclic_pdus(vehicle, forwarded=False):
        pdu = vehicle.pdus[index]
        place = (pdu.ecu, pdu.cycle_ns, pdu.phase)
        if place in last:
            pairs[last[place]] = index
        last[place] = index
    return pairs
