"""Faults of a whole ECU: it stops, restarts, is overloaded, or its time base jumps."""

from typing import ClassVar

import numpy as np

from training.draws import Draws, IntArray, below, make_key
from training.simulate.faults.base import Category
from training.simulate.faults.planned import LATENESS_NS, MS, SECOND, PlannedFault, add_rows
from training.simulate.scenario import Day
from training.simulate.tables import BoolArray, Sends, Wire
from training.simulate.vehicle import Vehicle

__all__ = ["ClockStep", "EcuFault", "EcuStop", "GatewayRestart", "Overload"]

FAST_CYCLE_NS = 100 * MS


class EcuFault(PlannedFault):
    """A fault of an ECU.

    Attributes:
        ecu: index of the ECU.
    """

    target_type = "ecu"
    needs = "an ECU that has a PDU of 100 ms or faster"

    def __init__(self, vehicle: Vehicle, at_ns: int, ecu: int, size: float, lasts_ns: int) -> None:
        super().__init__(vehicle, at_ns, at_ns + lasts_ns, size)
        self.ecu = ecu
        self._waiting: set[int] = set()

    @classmethod
    def targets(cls, vehicle: Vehicle) -> list[int]:
        """ECUs with a fast PDU, so that it is seen however short it is."""
        return sorted({pdu.ecu for pdu in vehicle.pdus if pdu.cycle_ns and pdu.cycle_ns <= FAST_CYCLE_NS})

    def lose(self, pdu: IntArray, time_ns: IntArray, due: BoolArray | bool = True) -> None:
        """Messages are lost; the truth lasts until those PDUs come again that were due."""
        if len(pdu):
            self.note(int(time_ns.min()))
            missed = np.unique(pdu[due]) if isinstance(due, np.ndarray) else np.unique(pdu)
            self._waiting.update(missed.tolist())
            self._concerned.update(missed.tolist())

    def regain(self, pdu: IntArray, time_ns: IntArray) -> None:
        """Messages come again, in order of time."""
        rows = np.flatnonzero(np.isin(pdu, list(self._waiting))) if self._waiting else ()
        for row in rows:
            if int(pdu[row]) in self._waiting:
                self.note(int(time_ns[row]))
                self._waiting.remove(int(pdu[row]))


class EcuStop(EcuFault):
    """An ECU sends nothing for `size` seconds, but NM messages perhaps; nobody replies to its requests.

    Severities: 0.2 to 0.5 s, to 1, to 2, to 5.
    """

    kind = "ecu_stop"
    category: ClassVar[Category | None] = "eliminate"
    unit = "s"
    sizes = ((0.2, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 5.0))
    latest_reply_ns: ClassVar[int] = 500 * MS

    def __init__(self, vehicle: Vehicle, at_ns: int, ecu: int, size: float, nm_goes_on: bool) -> None:
        own = [i for i in vehicle.pdus_of(ecu) if not (nm_goes_on and vehicle.pdus[i].role == "nm")]
        self._own = _mask(len(vehicle.pdus), own)
        self._end_ns = at_ns + round(size * SECOND)
        back_ns = max(self.latest_reply_ns, _slowest_ns(vehicle, own)) + LATENESS_NS
        super().__init__(vehicle, at_ns, ecu, size, round(size * SECOND) + back_ns)
        self._copies = _Copies(vehicle, ecu)
        self._asked: set[tuple[int, int]] = set()

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> "EcuStop":
        """See `PlannedFault.make`."""
        return cls(vehicle, at_ns, target, size, rng.random() < 0.5)

    def on_sends(self, sends: Sends, lower_ns: int, upper_ns: int) -> Sends:
        """Take out what the ECU sends, and the replies to what it did not ask."""
        own = self._own[sends.pdu] & (sends.time_ns >= self.at_ns) & sends.sent
        stopped = own & (sends.time_ns < self._end_ns)
        sends.sent[stopped] = False
        self.lose(sends.pdu[stopped], sends.time_ns[stopped], sends.due[stopped])
        back = own & ~stopped & sends.due
        self.regain(sends.pdu[back], sends.time_ns[back])
        self._take_out_replies(sends, stopped)
        return sends

    def on_wire(self, wire: Wire, lower_ns: int, upper_ns: int) -> Wire:
        """Take out the copies of others' PDUs that the ECU does not send as a gateway."""
        copied = self._copies.rows(wire) & (wire.time_ns >= self.at_ns)
        stopped = copied & (wire.time_ns < self._end_ns)
        self.lose(wire.pdu[stopped], wire.time_ns[stopped], self._copies.cyclic[wire.pdu[stopped]])
        return wire.take(~stopped)

    def _take_out_replies(self, sends: Sends, stopped: BoolArray) -> None:
        pdus = self.vehicle.pdus
        for row in np.flatnonzero(stopped).tolist():
            if pdus[sends.pdu[row]].role == "request":
                self._asked.add((int(sends.pdu[row]), int(sends.value[row])))
        if self._asked:
            for row in np.flatnonzero(~sends.due & sends.sent).tolist():
                request = pdus[sends.pdu[row]].replies_to
                if request is not None and (request, int(sends.value[row])) in self._asked:
                    sends.sent[row] = False


class GatewayRestart(EcuFault):
    """What a gateway forwards and copies is gone for `size` seconds and comes back one by one within 1 s.

    Severities: 0.5 to 1 s, to 2, to 3, to 5. The counters of forwarded PDUs begin again at 0.
    """

    kind = "gateway_restart"
    category: ClassVar[Category | None] = "eliminate"
    unit = "s"
    sizes = ((0.5, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 5.0))
    needs = "a gateway that forwards PDUs"

    def __init__(self, rng: Draws, vehicle: Vehicle, at_ns: int, ecu: int, size: float) -> None:
        self._copies = _Copies(vehicle, ecu)
        forwarded = [i for i in vehicle.pdus_of(ecu) if vehicle.pdus[i].forwarded]
        concerned = forwarded + self._copies.pdus
        ramp_ns = rng.integer(100, 1000) * MS
        self._forwarded = _mask(len(vehicle.pdus), forwarded)
        self._back_ns = np.zeros(len(vehicle.pdus), np.int64)
        for place, pdu in enumerate(rng.shuffled(concerned)):
            self._back_ns[pdu] = at_ns + round(size * SECOND) + ramp_ns * (place + 1) // len(concerned)
        lasts_ns = round(size * SECOND) + ramp_ns + _slowest_ns(vehicle, concerned) + LATENESS_NS
        super().__init__(vehicle, at_ns, ecu, size, lasts_ns)

    @classmethod
    def targets(cls, vehicle: Vehicle) -> list[int]:
        """Gateways through which a cyclic PDU goes."""
        return [
            index
            for index, ecu in enumerate(vehicle.ecus)
            if ecu.gateway
            and (
                any(pdu.forwarded and pdu.ecu == index and pdu.cycle_ns for pdu in vehicle.pdus)
                or any(vehicle.pdus[pdu].cycle_ns for pdu in _Copies(vehicle, index).pdus)
            )
        ]

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> "GatewayRestart":
        """See `PlannedFault.make`."""
        return cls(rng, vehicle, at_ns, target, size)

    def on_sends(self, sends: Sends, lower_ns: int, upper_ns: int) -> Sends:
        """Take out forwarded PDUs, and let them count from 0 when they are back."""
        own = self._forwarded[sends.pdu] & (sends.time_ns >= self.at_ns) & sends.sent
        gone = own & (sends.time_ns < self._back_ns[sends.pdu])
        sends.sent[gone] = False
        self.lose(sends.pdu[gone], sends.time_ns[gone], sends.due[gone])
        back = own & ~gone
        self.regain(sends.pdu[back & sends.due], sends.time_ns[back & sends.due])
        for row in np.flatnonzero(back).tolist():
            sends.counter[row] -= self.counter_shift.setdefault(int(sends.pdu[row]), int(sends.counter[row]))
        return sends

    def on_wire(self, wire: Wire, lower_ns: int, upper_ns: int) -> Wire:
        """Take out the gateway's copies."""
        copied = self._copies.rows(wire) & (wire.time_ns >= self.at_ns)
        gone = copied & (wire.time_ns < self._back_ns[wire.pdu])
        self.lose(wire.pdu[gone], wire.time_ns[gone], self._copies.cyclic[wire.pdu[gone]])
        back = copied & ~gone
        self.regain(wire.pdu[back], wire.time_ns[back])
        return wire.take(~gone)


class Overload(EcuFault):
    """Everything that an ECU sends is late by up to `size` ms, in order, for 1 to 10 s.

    Severities: 0.3 to 1 ms, to 2, to 3.5, to 5.
    """

    kind = "overload"
    category: ClassVar[Category | None] = "delay"
    unit = "ms"
    sizes = ((0.3, 1.0), (1.0, 2.0), (2.0, 3.5), (3.5, 5.0))

    def __init__(
        self, rng: Draws, vehicle: Vehicle, at_ns: int, ecu: int, size: float, lasts_ns: int
    ) -> None:
        super().__init__(vehicle, at_ns, ecu, size, lasts_ns + LATENESS_NS)
        self._key = make_key("overload", rng.integer(0, 1 << 30))
        self._own = _mask(len(vehicle.pdus), vehicle.pdus_of(ecu))
        self._raster_ns = vehicle.ecus[ecu].raster_ns
        self._end_ns = at_ns + lasts_ns
        self._free_ns = 0

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> "Overload | None":
        """See `PlannedFault.make`."""
        lasts_ns = _draw_duration(rng, longest_ns - LATENESS_NS)
        return cls(rng, vehicle, at_ns, target, size, lasts_ns) if lasts_ns else None

    def on_sends(self, sends: Sends, lower_ns: int, upper_ns: int) -> Sends:
        """Put off each activation, and what would overtake it."""
        rows = np.flatnonzero(self._own[sends.pdu] & (sends.time_ns >= self.at_ns))
        if not len(rows):
            return sends
        time_ns = sends.time_ns[rows]
        late_ns = below(self._key, time_ns // self._raster_ns, round(self.size * MS))
        ready_ns = time_ns + np.where(time_ns < self._end_ns, late_ns, 0)
        moved_ns = np.maximum.accumulate(np.maximum(ready_ns, self._free_ns))
        self._free_ns = int(moved_ns[-1])
        sends.time_ns[rows] = moved_ns
        late = moved_ns > time_ns
        for end_ns in (*time_ns[late][:1].tolist(), *moved_ns[late][-1:].tolist()):
            self.note(end_ns)
        self._concerned.update(np.unique(sends.pdu[rows[late & sends.due[rows]]]).tolist())
        return sends


class ClockStep(EcuFault):
    """An ECU's time base jumps: what it sends in cycles is `size` ms late, or early, until it is set right.

    Alive counters go on without a gap: the ECU counts what it sends.

    Severities: 1 to 5 ms, to 20, to 80, to 200, either way.
    """

    kind = "clock_step"
    category: ClassVar[Category | None] = "delay"
    unit = "ms"
    sizes = ((1.0, 5.0), (5.0, 20.0), (20.0, 80.0), (80.0, 200.0))
    signed = True

    def __init__(
        self, vehicle: Vehicle, at_ns: int, ecu: int, size: float, cycles_ns: dict[int, int], lasts_ns: int
    ) -> None:
        slowest_ns = max(cycles_ns.values())
        step_ns = round(size * MS)
        # A message is early if an earlier one is late by the rest of some cycles.
        self._late_ns = np.zeros(len(vehicle.pdus), np.int64)
        for pdu, cycle_ns in cycles_ns.items():
            self._late_ns[pdu] = step_ns if step_ns > 0 else step_ns % cycle_ns
        self._cyclic = _mask(len(vehicle.pdus), list(cycles_ns))
        self._step_ns = at_ns + (0 if step_ns > 0 else slowest_ns)
        self._end_ns = self._step_ns + lasts_ns
        self._again = step_ns < 0
        # How many messages more, or less, were sent so far.
        self._more = np.zeros(len(vehicle.pdus), np.int64)
        lasts_ns = self._end_ns - at_ns + slowest_ns + LATENESS_NS
        super().__init__(vehicle, at_ns, ecu, size, lasts_ns)

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> "ClockStep | None":
        """See `PlannedFault.make`; lasts 1 to 10 s."""
        cycles_ns = {
            pdu: model.fast_cycle_ns
            if model.mode is not None and model.fast_cycle_ns and day.mode_active(model.mode, at_ns)
            else model.cycle_ns
            for pdu in vehicle.pdus_of(target)
            if (model := vehicle.pdus[pdu]).cycle_ns
        }
        known_ns = {pdu: cycle_ns for pdu, cycle_ns in cycles_ns.items() if cycle_ns}
        lasts_ns = _draw_duration(rng, longest_ns - 2 * max(known_ns.values()) - LATENESS_NS)
        return cls(vehicle, at_ns, target, size, known_ns, lasts_ns) if lasts_ns else None

    def on_sends(self, sends: Sends, lower_ns: int, upper_ns: int) -> Sends:
        """Shift what the ECU sends between the jump and its end."""
        rows = self._cyclic[sends.pdu] & sends.due & sends.sent
        late_ns = self._late_ns[sends.pdu]
        there = rows & (sends.time_ns >= self._step_ns) & (sends.time_ns < self._end_ns)
        added: list[Sends] = []
        if self._again:
            twice = rows & (sends.time_ns < self._step_ns) & (sends.time_ns + late_ns >= self._step_ns)
            added.append(sends.take(twice))
            added[0].time_ns += late_ns[twice]
            added[0].counter += 1
            np.add.at(self._more, sends.pdu[twice], 1)
        between = (sends.time_ns >= self._step_ns) & (sends.time_ns < self._end_ns)
        after = self._cyclic[sends.pdu] & (sends.time_ns >= self._end_ns)
        sends.counter[between] += self._more[sends.pdu[between]]
        shifted = np.flatnonzero(there)
        before_ns = sends.time_ns[shifted].copy()
        sends.time_ns[shifted] += late_ns[shifted]
        # When the time base jumps back, it jumps over these.
        passed = shifted[sends.time_ns[shifted] >= self._end_ns]
        sends.sent[passed] = False
        np.add.at(self._more, sends.pdu[passed], -1)
        sends.counter[after] += self._more[sends.pdu[after]]
        self.counter_shift = {pdu: -int(self._more[pdu]) for pdu in np.flatnonzero(self._more).tolist()}
        self.lose(sends.pdu[shifted], before_ns)
        for table in added:
            self.lose(table.pdu, table.time_ns)
        back = rows & ~there & (sends.time_ns >= self._end_ns)
        self.regain(sends.pdu[back], sends.time_ns[back])
        return add_rows(sends, added)


class _Copies:
    """Which datagram rows are PDUs of other ECUs that a gateway sends."""

    def __init__(self, vehicle: Vehicle, ecu: int) -> None:
        # One more than there are, for the sockets of faults.
        self._sockets = np.append([socket.ecu == ecu for socket in vehicle.sockets], False)
        self._foreign = np.array([pdu.ecu != ecu for pdu in vehicle.pdus], np.bool_)
        self.cyclic = np.array([pdu.cycle_ns is not None for pdu in vehicle.pdus], np.bool_)
        self.pdus = [
            index
            for index, pdu in enumerate(vehicle.pdus)
            if pdu.ecu != ecu and any(vehicle.sockets[socket].ecu == ecu for socket in pdu.sockets)
        ]

    def rows(self, wire: Wire) -> BoolArray:
        """A mask of the rows."""
        own = self._sockets[np.minimum(wire.socket, len(self._sockets) - 1)]
        copied: BoolArray = own & self._foreign[wire.pdu]
        return copied


def _mask(length: int, items: list[int]) -> BoolArray:
    mask = np.zeros(length, np.bool_)
    mask[items] = True
    return mask


def _slowest_ns(vehicle: Vehicle, pdus: list[int]) -> int:
    return max((vehicle.pdus[pdu].cycle_ns or 0 for pdu in pdus), default=0)


def _draw_duration(rng: Draws, longest_ns: int) -> int:
    """1 to 10 s, in nanoseconds; 0 if there is not so much time."""
    most = min(10_000, longest_ns // MS)
    return rng.integer(1_000, most) * MS if most >= 1_000 else 0
