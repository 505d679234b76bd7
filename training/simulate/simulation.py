"""Run a vehicle: its senders, faults, sockets and logger, slice by slice, into one stream of datagrams."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from ecustream.errors import ConfigError
from training.draws import IntArray
from training.labels import Context, Label
from training.simulate.batch import SLICE_NS, START_NS, Batch
from training.simulate.collect import Collector
from training.simulate.faults.base import Fault
from training.simulate.faults.plan import plan_faults
from training.simulate.faults.spec import FaultSpec, read_faults
from training.simulate.payload import PayloadWriter
from training.simulate.replies import Replies
from training.simulate.scenario import Day, Phase, read_scenario
from training.simulate.schedule import EcuSender
from training.simulate.tables import Capture, Sends, Wire
from training.simulate.vehicle import SocketModel, Vehicle

__all__ = ["Simulation"]

LEAST_S = 1e-9
MOST_S = 1e7
"""Four months; clocks are exact for longer."""


class Simulation:
    """The traffic of a vehicle on one drive.

    The same arguments give the same traffic on every machine; a longer drive begins with the traffic of a
    shorter one; faults change only what they touch. Memory does not grow with `seconds`.

    Args:
        vehicle: from `draw_vehicle` or `load_vehicle`.
        seconds: length of the trace, 1e-9 to 1e7.
        drive: draws what happens on it: jitter, events, modes, faults; 0 or more.
        faults: what goes wrong: from `read_faults`, or its argument.
        scenario: phases of the day: from `read_scenario`, or its argument.
        start_ns: start of the trace, nanoseconds since 1970.

    Attributes:
        sockets: the vehicle's sockets, and those that faults use beside them.
        faults: what goes wrong, and the controls, in order of time.

    Raises:
        ConfigError: an argument is out of its range.
    """

    def __init__(
        self,
        vehicle: Vehicle,
        seconds: float,
        drive: int = 0,
        faults: str | FaultSpec = "none",
        scenario: str | Sequence[Phase] = "drive",
        start_ns: int = START_NS,
    ) -> None:
        if not LEAST_S <= seconds <= MOST_S:
            raise ConfigError(f"--seconds {seconds:g}: a trace lasts {LEAST_S:g} s to {MOST_S:g} s")
        if drive < 0:
            raise ConfigError(f"--drive {drive}: the number of a drive is 0 or more")
        phases = read_scenario(scenario, seconds) if isinstance(scenario, str) else tuple(scenario)
        spec = read_faults(faults) if isinstance(faults, str) else faults
        self.vehicle = vehicle
        self.seconds = seconds
        self.drive = drive
        self.start_ns = start_ns
        undisturbed = Day(vehicle, phases, drive)
        self.faults = plan_faults(vehicle, undisturbed, seconds, drive, spec)
        self.day = undisturbed.edited([edit for fault in self.faults for edit in fault.edits])
        sockets: list[SocketModel] = list(vehicle.sockets)
        for fault in self.faults:
            fault.first_extra_socket = len(sockets)
            sockets += fault.extra_sockets
        self.sockets: tuple[SocketModel, ...] = tuple(sockets)

    def batches(self) -> Iterator[Batch]:
        """The traffic, second by second; to be called once, since faults remember what they did."""
        end_ns = round(self.seconds * 1e9)
        senders = [
            EcuSender(self.vehicle, ecu, self.day, self.drive) for ecu in range(len(self.vehicle.ecus))
        ]
        network = _Network(self.vehicle, self.sockets, self.drive)
        logger = _Logger(PayloadWriter(self.vehicle))
        waiting = list(self.faults)
        active: list[Fault] = []
        for lower_ns in range(0, end_ns, SLICE_NS):
            upper_ns = lower_ns + SLICE_NS
            while waiting and waiting[0].at_ns < upper_ns:
                active.append(waiting.pop(0))
            tables = [sender.advance(upper_ns) for sender in senders]
            wire = network.advance(tables, active, lower_ns, upper_ns)
            wire = wire.take(wire.time_ns < end_ns)
            capture = logger.capture(wire, active)
            # After all that faults do: only now they know what happened.
            truths = [fault.truth(self.start_ns) for fault in active if fault.until_ns <= upper_ns]
            yield logger.batch(
                wire,
                capture,
                self.start_ns,
                self.start_ns + min(upper_ns, end_ns),
                [self._with_activity(truth) for truth in truths if isinstance(truth, Label)],
                [truth for truth in truths if isinstance(truth, Context)]
                + self.day.context(self.start_ns, lower_ns, min(upper_ns, end_ns))
                + (self.day.context_open(self.start_ns, end_ns) if upper_ns >= end_ns else []),
            )
            network.end([fault for fault in active if fault.until_ns <= upper_ns])
            active = [fault for fault in active if fault.until_ns > upper_ns]

    def _with_activity(self, label: Label) -> Label:
        return msgspec.structs.replace(label, activity=self.day.activity_at(label.start_ns - self.start_ns))


class _Network:
    """From what ECUs send to datagrams on the wire, faults included; what is later than a slice waits."""

    def __init__(self, vehicle: Vehicle, sockets: Sequence[SocketModel], drive: int) -> None:
        self._replies = Replies(vehicle, drive)
        self._collector = Collector(vehicle, sockets, drive)
        self._counts = np.zeros(len(vehicle.pdus), dtype=np.int64)
        self._not_yet = Sends.empty()
        self._delayed = Sends.empty()
        self._in_flight = Wire.empty()

    def advance(self, tables: list[Sends], faults: list[Fault], lower_ns: int, upper_ns: int) -> Wire:
        """The datagrams that leave before `upper_ns`, in order of time."""
        new = Sends.join(tables)
        sends = Sends.join([self._not_yet, new, self._replies.replies(new)])
        sends = sends.take(np.lexsort((sends.pdu, sends.time_ns)))
        later = sends.time_ns >= upper_ns
        self._not_yet, sends = sends.take(later), sends.take(~later)
        sends.counter = self._counted(sends.pdu)
        for fault in faults:
            sends = fault.on_sends(_in_order(sends), lower_ns, upper_ns)

        sends = Sends.join([self._delayed, sends])
        later = sends.time_ns >= upper_ns
        self._delayed, sends = sends.take(later), sends.take(~later)
        wire = self._collector.advance(sends, upper_ns)
        for fault in faults:
            fault.watch(wire)
            wire = fault.on_wire(wire, lower_ns, upper_ns)

        wire = Wire.join([self._in_flight, wire])
        wire = wire.take(np.lexsort((wire.datagram, wire.time_ns)))
        later = wire.time_ns >= upper_ns
        self._in_flight, wire = wire.take(later), wire.take(~later)
        return wire

    def end(self, faults: list[Fault]) -> None:
        """Go on with the counters that faults leave behind."""
        for fault in faults:
            for pdu, shift in fault.counter_shift.items():
                self._counts[pdu] -= shift

    def _counted(self, pdu: IntArray) -> IntArray:
        """How often each row's PDU was sent before."""
        order = np.argsort(pdu, kind="stable")
        group = pdu[order]
        counter = np.empty(len(pdu), dtype=np.int64)
        counter[order] = np.arange(len(pdu)) - np.searchsorted(group, group) + self._counts[group]
        np.add.at(self._counts, pdu, 1)
        return counter


def _in_order(sends: Sends) -> Sends:
    """By time; a fault before may have moved rows."""
    if (np.diff(sends.time_ns) >= 0).all():
        return sends
    return sends.take(np.argsort(sends.time_ns, kind="stable"))


class _Logger:
    """From datagrams on the wire to what the capture has of them."""

    def __init__(self, payloads: PayloadWriter) -> None:
        self._payloads = payloads
        self._lost = 0

    def capture(self, wire: Wire, faults: list[Fault]) -> Capture:
        """What the logger makes of a slice's datagrams; `wire` is in order of time."""
        time_ns = wire.time_ns[_first_rows(wire)]
        capture = Capture(time_ns, time_ns.copy(), np.zeros(len(time_ns), dtype=np.bool_))
        for fault in faults:
            fault.on_capture(capture)
        return capture

    def batch(
        self,
        wire: Wire,
        capture: Capture,
        start_ns: int,
        until_ns: int,
        labels: list[Label],
        context: list[Context],
    ) -> Batch:
        """The slice as a batch."""
        first = _first_rows(wire)
        kept = ~capture.lost
        lost_upto = np.cumsum(capture.lost)[kept] + self._lost
        self._lost = self._lost + int(capture.lost.sum()) - (int(lost_upto[-1]) if kept.any() else 0)
        lost_before = np.diff(lost_upto, prepend=0)
        rows = wire.take(np.repeat(kept, np.diff(np.append(first, len(wire)))))
        sizes = np.diff(np.append(first, len(wire)))[kept]
        return Batch(
            until_ns=until_ns,
            time_ns=start_ns + capture.time_ns[kept],
            stamp_ns=start_ns + capture.stamp_ns[kept],
            lost_before=lost_before,
            socket=wire.socket[first][kept],
            first=np.concatenate([[0], np.cumsum(sizes)]),
            pdu=rows.pdu,
            payload=self._payloads.fill(rows),
            labels=tuple(sorted(labels, key=lambda label: label.start_ns)),
            context=tuple(sorted(context, key=lambda row: row.start_ns)),
        )


def _first_rows(wire: Wire) -> IntArray:
    """The first row of each datagram."""
    is_first = np.ones(len(wire), dtype=np.bool_)
    is_first[1:] = np.diff(wire.datagram) != 0
    return np.flatnonzero(is_first)
