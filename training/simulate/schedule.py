"""When an ECU sends: task activations in virtual time, and the PDUs that are handed over in each."""

import numpy as np

from training.draws import IntArray, below, half_normal, make_key
from training.simulate.clock import ecu_clock
from training.simulate.scenario import Day
from training.simulate.sending import PduSender
from training.simulate.tables import Sends
from training.simulate.vehicle import Vehicle

__all__ = ["EcuSender"]

FORWARD_DELAY_NS = 2_000_000
LATE_ONE_IN = 1000
LATE_PERCENT_OF_CYCLE = 30
# A task that is preempted still starts before its next activation.
LATE_PERCENT_OF_RASTER = 95
NO_CYCLE_NS = 1 << 40
ORDER_BITS = 12


class EcuSender:
    """The PDUs that one ECU sends, replies apart.

    An activation k of its task is due at anchor + k * raster on the ECU's clock. It starts later by a
    half-normal jitter, one in a thousand by up to 30 % of the shortest cycle of its PDUs that are due, and
    never before the activation before it has ended. Its PDUs follow in the vehicle's order with small gaps.
    Forwarded PDUs come in their own time, up to 2 ms after another bus brought them.

    Args:
        vehicle: of which vehicle.
        ecu: index of the ECU.
        day: how each PDU is sent when.
        drive: seed of jitter, gaps, changes and events.
    """

    def __init__(self, vehicle: Vehicle, ecu: int, day: Day, drive: int) -> None:
        self._model = model = vehicle.ecus[ecu]
        self._clock = ecu_clock(model)
        pdus = [pdu for pdu in vehicle.pdus_of(ecu) if vehicle.pdus[pdu].role != "reply"]
        own = [pdu for pdu in pdus if not vehicle.pdus[pdu].forwarded]
        self._own = np.array(own, np.int64)
        self._senders = [PduSender(vehicle, pdu, day, drive) for pdu in own]
        cycles_ns = [vehicle.pdus[pdu].fast_cycle_ns or vehicle.pdus[pdu].cycle_ns for pdu in own]
        self._cycle_ns = np.array([cycle_ns or NO_CYCLE_NS for cycle_ns in cycles_ns], np.int64)
        self._forwarded = [
            (pdu, PduSender(vehicle, pdu, day, drive), make_key("forward", vehicle.seed, drive, pdu))
            for pdu in pdus
            if vehicle.pdus[pdu].forwarded
        ]
        self._keys = {
            use: make_key("task", vehicle.seed, drive, ecu, use)
            for use in ("gap", "jitter", "is_late", "late")
        }
        self._free_ns = 0

    def advance(self, until_ns: int) -> Sends:
        """All PDUs of the activations which are due before `until_ns`, from where the last call ended.

        A PDU's rows are in order of time; times may be later than `until_ns`.
        """
        return Sends.join([self._task(until_ns), *self._forward(until_ns)])

    def _task(self, until_ns: int) -> Sends:
        until = self._clock.first_from(until_ns)
        sendings = [sender.advance(until, until_ns) for sender in self._senders]
        order = np.repeat(np.arange(len(sendings)), [len(sending.activation) for sending in sendings])
        if not len(order):
            return Sends.empty()
        activation, due, changes, value = (np.concatenate(columns) for columns in zip(*sendings, strict=True))
        place = (activation << ORDER_BITS) + order
        by_place = np.argsort(place)
        place, order, activation = place[by_place], order[by_place], activation[by_place]

        first = np.flatnonzero(np.diff(activation, prepend=-1))
        gap_ns = self._model.gap_ns
        load_ns = np.cumsum(gap_ns + below(self._keys["gap"], place, gap_ns // 2 + 1))
        before_ns = np.append(0, load_ns[first[1:] - 1])
        total_ns = np.append(before_ns[1:], load_ns[-1]) - before_ns
        shortest_ns = np.minimum.reduceat(self._cycle_ns[order], first)
        start_ns = self._starts(activation[first], shortest_ns, total_ns)
        task = np.repeat(np.arange(len(first)), np.diff(first, append=len(order)))
        sends = Sends.make(self._own[order], start_ns[task] + load_ns - before_ns[task], due[by_place])
        sends.changes, sends.value = changes[by_place], value[by_place]
        return sends

    def _starts(self, activation: IntArray, shortest_ns: IntArray, load_ns: IntArray) -> IntArray:
        """Start of each activation: due time, jitter, a late one now and then, and never overlapping."""
        limit_ns = np.minimum(
            shortest_ns * LATE_PERCENT_OF_CYCLE, self._model.raster_ns * LATE_PERCENT_OF_RASTER
        )
        is_late = below(self._keys["is_late"], activation, LATE_ONE_IN) == 0
        late_ns = is_late * below(self._keys["late"], activation, limit_ns // 100 + 1)
        jitter_ns = half_normal(self._keys["jitter"], activation, self._model.jitter_sigma_ns)
        ready_ns = self._clock.time_ns(activation) + jitter_ns + late_ns
        # start[k] = max(ready[k], start[k-1] + load[k-1]), as a running maximum.
        done_ns = np.cumsum(load_ns) - load_ns
        start_ns: IntArray = np.maximum.accumulate(np.maximum(ready_ns - done_ns, self._free_ns)) + done_ns
        self._free_ns = int(start_ns[-1] + load_ns[-1])
        return start_ns

    def _forward(self, until_ns: int) -> list[Sends]:
        tables = []
        for pdu, sender, key in self._forwarded:
            activation, due, changes, value = sender.advance(sender.clock.first_from(until_ns), until_ns)
            time_ns = sender.clock.time_ns(activation) + below(key, activation, FORWARD_DELAY_NS + 1)
            sends = Sends.make(np.full(len(activation), pdu), time_ns, due)
            sends.changes, sends.value = changes, value
            tables.append(sends)
        return tables
