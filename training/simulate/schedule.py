"""When an ECU sends: task activations in virtual time, the PDUs due in each, and their datagrams."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from training.simulate.vehicle import EcuModel, PduModel, Vehicle

__all__ = ["EcuSender", "IntArray", "Sends", "stream"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

DATAGRAM_BYTES = 1400
PDU_HEADER_BYTES = 8
FORWARD_DELAY_NS = 2_000_000
LATE_ACTIVATION_SHARE = 0.001
LATE_ACTIVATION_CYCLES = 0.3
# A task that is preempted still starts before its next activation.
LATE_ACTIVATION_RASTERS = 0.95
GAP_SPREAD = 0.5

# First element of a random stream's key; streams of different use never meet.
ACTIVATIONS, EVENTS, FAULTS = range(3)


def stream(seed: int, use: int, index: int = 0) -> np.random.Generator:
    """The random stream `index` of a use (`ACTIVATIONS` by ECU, `EVENTS` by PDU, `FAULTS`) under a seed."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(use, index))))


@dataclass(slots=True)
class Sends:
    """A table of PDUs on their way to the wire, one row each; all columns have one length.

    Attributes:
        pdu: index in `Vehicle.pdus`.
        time_ns: when its datagram is sent, from the start of the trace.
        datagram: rows of equal number and time share a datagram.
        due: its cycle was due, as opposed to sent on change alone.
        change: it carries a new value of an event or on-change signal.
        sent: it reaches the wire.
    """

    pdu: IntArray
    time_ns: IntArray
    datagram: IntArray
    due: BoolArray
    change: BoolArray
    sent: BoolArray

    def __len__(self) -> int:
        return len(self.pdu)

    def take(self, rows: npt.NDArray[np.bool_] | IntArray) -> "Sends":
        """The rows of a mask or an index array, as a new table."""
        return Sends(*(getattr(self, field.name)[rows] for field in fields(self)))

    @staticmethod
    def join(tables: list["Sends"]) -> "Sends":
        """All rows of several tables, one after the other; at least one table."""
        return Sends(*(np.concatenate([getattr(t, f.name) for t in tables]) for f in fields(Sends)))


class EcuSender:
    """The traffic of one ECU, activation by activation.

    An activation k is due at anchor + k * raster on the ECU's clock. It starts later by a half-normal
    jitter, one in a thousand by up to 30 % of the shortest cycle due in it, and never before the activation
    before it has ended. Its PDUs follow in a fixed order with small gaps; where the ECU collects, they
    share datagrams that leave when full or when the activation ends.
    """

    def __init__(self, vehicle: Vehicle, ecu: int, seed: int) -> None:
        self.ecu: EcuModel = vehicle.ecus[ecu]
        self._index = np.array(vehicle.pdus_of(ecu), dtype=np.int64)
        pdus: list[PduModel] = [vehicle.pdus[i] for i in self._index]
        # A period of 0 stands for "has no cycle".
        self._period = np.array([(p.cycle_ns or 0) // self.ecu.raster_ns for p in pdus], dtype=np.int64)
        self._phase = np.array([p.phase for p in pdus], dtype=np.int64)
        self._forwarded = np.array([p.forwarded for p in pdus], dtype=np.bool_)
        self._bytes = np.array([p.length + PDU_HEADER_BYTES for p in pdus], dtype=np.int64)
        self._rng = stream(seed, ACTIVATIONS, ecu)
        self._events = [
            (column, _event_activations(stream(seed, EVENTS, int(self._index[column])), pdu, self.ecu))
            for column, pdu in enumerate(pdus)
            if pdu.event_interval_ns
        ]
        self._next_event = [next(events) for _, events in self._events]
        self._next = 0
        self._free_ns = 0

    def advance(self, until_ns: int) -> Sends:
        """All PDUs of the activations which are due before `until_ns`, from where the last call ended."""
        k = self._activations(until_ns)
        due = (k[:, None] % np.maximum(self._period, 1) == self._phase) & (self._period > 0)
        active = due.copy()
        change = self._changes(k, active)
        row, column = np.nonzero(active)

        gap_ns = (self.ecu.gap_ns * (1 + GAP_SPREAD * self._rng.random(len(row)))).astype(np.int64)
        gap_ns[self._forwarded[column]] = 0
        load_ns = np.cumsum(gap_ns)
        before = np.concatenate([[0], load_ns])[np.searchsorted(row, np.arange(len(k) + 1))]
        start_ns = self._starts(k, due, np.diff(before))
        time_ns = start_ns[row] + load_ns - before[row]

        forwarded = self._forwarded[column]
        delay_ns = self._rng.integers(0, FORWARD_DELAY_NS, len(row))
        time_ns = np.where(forwarded, start_ns[row] + delay_ns, time_ns)
        datagram = np.arange(len(row))
        if self.ecu.collects:
            own = ~forwarded
            group = _fill_datagrams(row[own], self._bytes[column[own]])
            datagram[own] = np.flatnonzero(own)[group]
            # Rows of a datagram leave with the last of them.
            time_ns[own] = time_ns[datagram[own]]
        return Sends(
            pdu=self._index[column],
            time_ns=time_ns,
            datagram=datagram,
            due=due[row, column],
            change=change[row, column],
            sent=np.ones(len(row), dtype=np.bool_),
        )

    def _nominal_ns(self, k: IntArray) -> IntArray:
        elapsed_ns = k * self.ecu.raster_ns
        # In two steps, so that days of nanoseconds do not overflow.
        return self.ecu.anchor_ns + elapsed_ns + elapsed_ns // 1000 * self.ecu.drift_ppb // 1_000_000

    def _activations(self, until_ns: int) -> IntArray:
        left_ns = until_ns - int(self._nominal_ns(np.array([self._next]))[0])
        k = self._next + np.arange(max(0, left_ns) * 1001 // 1000 // self.ecu.raster_ns + 2)
        k = k[self._nominal_ns(k) < until_ns]
        self._next += len(k)
        return k

    def _changes(self, k: IntArray, active: BoolArray) -> BoolArray:
        """Mark sends on change in `active` (activations x PDUs); returns which of them bring a new value."""
        change = np.zeros_like(active)
        for number, (column, events) in enumerate(self._events):
            activation, is_new = self._next_event[number]
            while activation < self._next:
                row = activation - (self._next - len(k))
                active[row, column] = True
                change[row, column] = is_new
                activation, is_new = next(events)
            self._next_event[number] = activation, is_new
        return change

    def _starts(self, k: IntArray, due: BoolArray, load_ns: IntArray) -> IntArray:
        """Start of each activation: due time, jitter, a late one now and then, and never overlapping."""
        jitter_ns = np.abs(self._rng.normal(0, self.ecu.jitter_sigma_ns, len(k)))
        late = self._rng.random(len(k)) < LATE_ACTIVATION_SHARE
        no_limit = np.iinfo(np.int64).max // self.ecu.raster_ns
        shortest = np.where(due, self._period, no_limit).min(axis=1, initial=no_limit)
        limit_rasters = np.minimum(LATE_ACTIVATION_CYCLES * shortest, LATE_ACTIVATION_RASTERS)
        late_ns = late * self._rng.random(len(k)) * limit_rasters * self.ecu.raster_ns
        ready_ns = self._nominal_ns(k) + (jitter_ns + late_ns).astype(np.int64)
        # start[k] = max(ready[k], start[k-1] + load[k-1]), as a running maximum.
        done_ns = np.cumsum(load_ns) - load_ns
        start_ns: IntArray = np.maximum.accumulate(np.maximum(ready_ns - done_ns, self._free_ns)) + done_ns
        if len(k):
            self._free_ns = int(start_ns[-1] + load_ns[-1])
        return start_ns


def _event_activations(rng: np.random.Generator, pdu: PduModel, ecu: EcuModel) -> Iterator[tuple[int, bool]]:
    """Activations in which a PDU is sent on change or as an event, and whether its value is new then."""
    activation = 0
    while True:
        wait_ns = rng.exponential(pdu.event_interval_ns)
        activation += 1 + int(wait_ns / ecu.raster_ns)
        repetitions = pdu.repetitions if pdu.send_type == "mixed" else int(rng.poisson(pdu.repetitions))
        yield activation, True
        for _ in range(repetitions):
            activation += pdu.repetition_activations
            # A burst brings new values, repetitions of a change the same one again.
            yield activation, pdu.send_type == "event"


def _fill_datagrams(activation: IntArray, size: IntArray) -> IntArray:
    """For each PDU, the position of the last PDU in its datagram.

    PDUs come in the order of sending; a datagram holds PDUs of one activation, at most `DATAGRAM_BYTES`.
    """
    last = np.searchsorted(activation, activation, side="right") - 1
    upto = np.cumsum(size)
    first = np.searchsorted(activation, activation, side="left")
    total = upto[last] - upto[first] + size[first]
    for start in np.unique(first[total > DATAGRAM_BYTES]).tolist():
        end = int(last[start])
        while start <= end:
            room = int(upto[start] - size[start]) + DATAGRAM_BYTES
            stop = min(end, int(np.searchsorted(upto, room, side="right")) - 1)
            last[start : stop + 1] = stop
            start = stop + 1
    return last
