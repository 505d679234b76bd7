"""Faults: what goes wrong in a vehicle, when, and the label that says so.

A fault sees every table of sends of the vehicle before it goes to the wire and returns it changed: rows
moved, not sent, or added. A new kind is a subclass of `Fault` with a `draw` and an entry in `FAULT_KINDS`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ecustream.errors import ConfigError
from training.simulate.schedule import FAULTS, Sends, stream
from training.simulate.vehicle import Vehicle

__all__ = ["FAULT_KINDS", "FAULT_LEVELS", "Delay", "EcuStop", "Fault", "Label", "Missing", "plan_faults"]

SECOND = 1_000_000_000
FAULT_LEVELS: dict[str, float | None] = {"none": None, "light": 20.0, "heavy": 4.0}
"""Mean seconds from fault to fault."""

FIRST_FAULT_NS = 5 * SECOND
CLEAN_NS = SECOND
# More than any send is late by task, queue and gateway.
LATENESS_NS = 50_000_000
FAST_CYCLE_NS = 100_000_000


@dataclass(frozen=True, slots=True)
class Label:
    """What was wrong: a line of the label file.

    Attributes:
        start_ns: when the first message concerned should have come, nanoseconds since 1970.
        end_ns: when the traffic was right again: the late message, or the next of those which are missing.
        kind: `delay`, `missing` or `ecu_stop`.
        pdus: names of the PDUs concerned.
        severity: delay in cycles, number of missing messages, or seconds of an ECU's silence.
    """

    start_ns: int
    end_ns: int
    kind: str
    pdus: tuple[str, ...]
    severity: float


class Fault(ABC):
    """One fault.

    `at_ns` is when it begins at the earliest and `until_ns` when its effect has ended at the latest, both
    from the start of the trace; it finds the first message concerned itself.
    """

    kind: ClassVar[str]

    def __init__(self, at_ns: int, until_ns: int, severity: float) -> None:
        self.at_ns = at_ns
        self.until_ns = until_ns
        self.severity = severity

    @abstractmethod
    def apply(self, sends: Sends) -> Sends:
        """Change the rows concerned; called with every table that reaches into `at_ns` to `until_ns`.

        A PDU's rows are in the order of their times, also from call to call.
        """

    @abstractmethod
    def label(self, start_ns: int) -> Label:
        """The label, once all tables up to `until_ns` were seen; `start_ns` is the start of the trace."""


class Delay(Fault):
    """One message of a cyclic PDU comes `severity` cycles late; the following come in time."""

    kind = "delay"

    def __init__(self, at_ns: int, pdu: int, name: str, cycle_ns: int, severity: float) -> None:
        self._delay_ns = round(severity * cycle_ns)
        super().__init__(at_ns, at_ns + 2 * cycle_ns + self._delay_ns + LATENESS_NS, severity)
        self._pdu = pdu
        self._name = name
        self._due_ns: list[int] = []

    def apply(self, sends: Sends) -> Sends:
        """Move the first message after `at_ns`, into a datagram of its own."""
        rows = np.flatnonzero((sends.pdu == self._pdu) & (sends.time_ns >= self.at_ns))
        if len(rows) and not self._due_ns:
            row = rows[0]
            self._due_ns.append(int(sends.time_ns[row]))
            sends.time_ns[row] += self._delay_ns
            # Negative numbers are free: datagrams are counted from 0.
            sends.datagram[row] = -1 - self.at_ns
        return sends

    def label(self, start_ns: int) -> Label:
        """From when it should have come to when it came."""
        due_ns = start_ns + self._due_ns[0]
        return Label(due_ns, due_ns + self._delay_ns, self.kind, (self._name,), self.severity)

    @classmethod
    def draw(cls, rng: np.random.Generator, vehicle: Vehicle, at_ns: int) -> "Delay":
        """A delay of 0.5 to 3 cycles of any cyclic PDU."""
        pdu, cycle_ns = _draw_cyclic(rng, vehicle)
        return cls(at_ns, pdu, vehicle.pdus[pdu].name, cycle_ns, round(rng.uniform(0.5, 3.0), 3))


class Missing(Fault):
    """`severity` messages of a cyclic PDU in a row do not come."""

    kind = "missing"

    def __init__(self, at_ns: int, pdu: int, name: str, cycle_ns: int, count: int) -> None:
        super().__init__(at_ns, at_ns + (count + 2) * cycle_ns + LATENESS_NS, count)
        self._pdu = pdu
        self._name = name
        self._count = count
        # Due times of the missing messages and of the one after them.
        self._due_ns: list[int] = []

    def apply(self, sends: Sends) -> Sends:
        """Take out the first messages after `at_ns`."""
        rows = np.flatnonzero((sends.pdu == self._pdu) & (sends.time_ns >= self.at_ns))
        for row in rows[: self._count + 1 - len(self._due_ns)].tolist():
            sends.sent[row] = len(self._due_ns) == self._count
            self._due_ns.append(int(sends.time_ns[row]))
        return sends

    def label(self, start_ns: int) -> Label:
        """From when the first should have come to when the next one came."""
        due_ns, back_ns = self._due_ns[0], self._due_ns[self._count]
        return Label(start_ns + due_ns, start_ns + back_ns, self.kind, (self._name,), self.severity)

    @classmethod
    def draw(cls, rng: np.random.Generator, vehicle: Vehicle, at_ns: int) -> "Missing":
        """One to five messages of any cyclic PDU; one is the most frequent."""
        pdu, cycle_ns = _draw_cyclic(rng, vehicle)
        count = int(rng.choice([1, 2, 3, 4, 5], p=[0.4, 0.2, 0.2, 0.1, 0.1]))
        return cls(at_ns, pdu, vehicle.pdus[pdu].name, cycle_ns, count)


class EcuStop(Fault):
    """An ECU sends nothing for `severity` seconds, then goes on as if it had."""

    kind = "ecu_stop"

    def __init__(self, at_ns: int, vehicle: Vehicle, ecu: int, stop_ns: int) -> None:
        pdus = vehicle.pdus_of(ecu)
        cycles_ns = [vehicle.pdus[pdu].cycle_ns or 0 for pdu in pdus]
        super().__init__(at_ns, at_ns + stop_ns + max(cycles_ns) + LATENESS_NS, stop_ns / SECOND)
        self._vehicle = vehicle
        self._pdus = np.array(pdus, dtype=np.int64)
        self._end_ns = at_ns + stop_ns
        self._lost_ns: list[int] = []
        self._missed: set[int] = set()
        # By PDU: the first message after the stop.
        self._back_ns: dict[int, int] = {}

    def apply(self, sends: Sends) -> Sends:
        """Take out everything from the ECU until the stop ends, then see what comes back when."""
        own = np.isin(sends.pdu, self._pdus) & (sends.time_ns >= self.at_ns)
        stopped = own & (sends.time_ns < self._end_ns)
        sends.sent[stopped] = False
        if stopped.any():
            self._lost_ns.append(int(sends.time_ns[stopped].min()))
        self._missed.update(sends.pdu[stopped & sends.due].tolist())
        for row in np.flatnonzero(own & ~stopped).tolist():
            self._back_ns.setdefault(int(sends.pdu[row]), int(sends.time_ns[row]))
        return sends

    def label(self, start_ns: int) -> Label:
        """From the first message lost to when the last of the PDUs that missed a due time came again."""
        lost_ns = min(self._lost_ns)
        back_ns = max(self._back_ns[pdu] for pdu in self._missed)
        names = tuple(self._vehicle.pdus[pdu].name for pdu in sorted(self._missed))
        return Label(start_ns + lost_ns, start_ns + back_ns, self.kind, names, self.severity)

    @classmethod
    def draw(cls, rng: np.random.Generator, vehicle: Vehicle, at_ns: int) -> "EcuStop":
        """A stop of 0.5 to 3 s of an ECU that has a fast PDU, so that a stop of any length is seen."""
        fast = sorted({pdu.ecu for pdu in vehicle.pdus if pdu.cycle_ns and pdu.cycle_ns <= FAST_CYCLE_NS})
        ecu = fast[int(rng.integers(len(fast)))]
        return cls(at_ns, vehicle, ecu, int(rng.integers(500, 3001)) * 1_000_000)


Draw = Callable[[np.random.Generator, Vehicle, int], Fault]
FAULT_KINDS: dict[str, tuple[float, Draw]] = {
    Delay.kind: (0.45, Delay.draw),
    Missing.kind: (0.45, Missing.draw),
    EcuStop.kind: (0.10, EcuStop.draw),
}
"""Kind: its share of all faults, and how one is drawn."""


def plan_faults(vehicle: Vehicle, seconds: float, seed: int, level: str) -> list[Fault]:
    """The faults of a trace in order of time: about one per mean time of the level, none overlapping.

    The first 5 s and at least 1 s before and after every fault are clean, and so is the last second.

    Args:
        vehicle: whose PDUs and ECUs fail.
        seconds: length of the trace.
        seed: traffic seed of the trace.
        level: a key of `FAULT_LEVELS`.

    Raises:
        ConfigError: there is no such level.
    """
    if level not in FAULT_LEVELS:
        raise ConfigError(f"--faults {level}: no such level, there are {', '.join(FAULT_LEVELS)}")
    mean_s = FAULT_LEVELS[level]
    faults: list[Fault] = []
    if mean_s is None:
        return faults
    rng = stream(seed, FAULTS)
    kinds = list(FAULT_KINDS.values())
    shares = np.array([share for share, _ in kinds])
    slot = 0
    earliest_ns = FIRST_FAULT_NS
    while True:
        at_ns = max(earliest_ns, FIRST_FAULT_NS + int((slot + rng.random()) * mean_s * SECOND))
        _, draw = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]
        fault = draw(rng, vehicle, at_ns)
        if fault.until_ns + CLEAN_NS > seconds * SECOND:
            return faults
        faults.append(fault)
        earliest_ns = fault.until_ns + CLEAN_NS
        slot += 1


def _draw_cyclic(rng: np.random.Generator, vehicle: Vehicle) -> tuple[int, int]:
    """Index and cycle of a PDU which is sent in its cycle alone."""
    cyclic = [
        (index, pdu.cycle_ns)
        for index, pdu in enumerate(vehicle.pdus)
        if pdu.send_type == "cyclic" and pdu.cycle_ns is not None
    ]
    return cyclic[int(rng.integers(len(cyclic)))]
