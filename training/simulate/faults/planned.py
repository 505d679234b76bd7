"""What faults have in common: how one is drawn for a target, and how its truth is put down."""

from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np

from training.draws import Draws, IntArray
from training.labels import Context, Label
from training.simulate.faults.base import Fault
from training.simulate.scenario import Day
from training.simulate.tables import Sends, Wire
from training.simulate.vehicle import PduModel, Vehicle

__all__ = [
    "CLEAN_NS",
    "LATENESS_NS",
    "MS",
    "SECOND",
    "PlannedFault",
    "add_rows",
    "copies",
    "cycle_of",
    "cyclic_pdus",
    "due_rows",
]

MS = 1_000_000
SECOND = 1_000_000_000
CLEAN_NS = SECOND
# More than any send is late by task, queue and gateway.
LATENESS_NS = 50 * MS
TARGETS_TRIED = 8


class PlannedFault(Fault):
    """A fault with a target and a size.

    Attributes:
        target_type: what its target is: a PDU, an ECU, or nothing that a fault file names.
        needs: which targets it can have, in words for a fault file's author.
        sizes: smallest and largest size for each severity from 1 to 4.
        whole: sizes are whole numbers.
        signed: sizes may be negative; `sizes` are those of their amount.
        vehicle: where it happens.
    """

    target_type: ClassVar[Literal["pdu", "ecu", "none"]] = "pdu"
    needs: ClassVar[str] = "a cyclic PDU"
    sizes: ClassVar[tuple[tuple[float, float], ...]]
    whole: ClassVar[bool] = False
    signed: ClassVar[bool] = False

    def __init__(self, vehicle: Vehicle, at_ns: int, until_ns: int, size: float) -> None:
        super().__init__(at_ns, until_ns, self.severity_of(size), size)
        self.vehicle = vehicle
        self._first_ns: int | None = None
        self._last_ns = 0
        # When they left, where they are messages that did.
        self._first_left_ns: int | None = None
        self._last_left_ns = 0
        self._concerned: set[int] = set()

    @classmethod
    def targets(cls, vehicle: Vehicle) -> list[int]:
        """Which targets a vehicle has, by index; without a choice, one number. None: it cannot have it."""
        return cyclic_pdus(vehicle)

    @classmethod
    def needed_ns(cls, vehicle: Vehicle) -> int:
        """How long a drawn fault may last at least, so that something happens in it."""
        return 0

    @classmethod
    @abstractmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> "PlannedFault | None":
        """The fault with this target and size, shorter than `longest_ns` where its size leaves a choice.

        None: it cannot be here.
        """

    @classmethod
    def draw(
        cls,
        rng: Draws,
        vehicle: Vehicle,
        day: Day,
        at_ns: int,
        severity: int,
        longest_ns: int,
        *,
        target: int | None = None,
        size: float | None = None,
    ) -> "PlannedFault | None":
        """A fault of this severity at `at_ns` or soon after, ended `longest_ns` later; None: it cannot be.

        A `size` or one of the `targets` that is given is taken, in place of a drawn one.
        """
        targets = cls.targets(vehicle) if target is None else [target]
        for candidate in rng.sample(targets, TARGETS_TRIED):
            drawn = cls.draw_size(rng, severity) if size is None else size
            fault = cls.make(rng, vehicle, day, at_ns, candidate, drawn, longest_ns)
            if fault is not None and fault.until_ns - at_ns <= longest_ns:
                return fault
        return None

    @classmethod
    def draw_size(cls, rng: Draws, severity: int) -> float:
        """A size of this severity."""
        low, high = cls.sizes[severity - 1]
        if cls.whole:
            return rng.integer(int(low), int(high))
        # Three digits, as in a fault file, and never beyond the range.
        size = min(max(round(rng.uniform(low, high), 3), low), high)
        return -size if cls.signed and rng.random() < 0.5 else size

    @classmethod
    def severity_of(cls, size: float) -> int:
        """The severity of a size; where a limit belongs to two, the lower one."""
        amount = abs(size) if cls.signed else size
        return next((s for s, (_, high) in enumerate(cls.sizes, 1) if amount <= high), 4)

    @classmethod
    def allows(cls, size: float) -> bool:
        """Whether a size is in the range of all severities."""
        return cls.sizes[0][0] <= (abs(size) if cls.signed else size) <= cls.sizes[-1][1]

    def fits(self, day: Day) -> bool:
        """Whether the vehicle is in the state for it, a clean second before and after included."""
        return day.steady(self.at_ns - CLEAN_NS, self.until_ns + CLEAN_NS)

    def note(self, time_ns: int, *pdus: int) -> None:
        """Something was wrong, or is right again, at `time_ns`: the truth reaches there, and names `pdus`."""
        if self._first_ns is None or time_ns < self._first_ns:
            self._first_ns = time_ns
        self._last_ns = max(self._last_ns, time_ns)
        self._concerned.update(pdus)

    def watch(self, wire: Wire) -> None:
        """See when the datagrams with the first and the last message that was noted leave."""
        first_ns = wire.time_ns[wire.handed_ns == self._first_ns]
        last_ns = wire.time_ns[wire.handed_ns == self._last_ns]
        if len(first_ns) and self._first_left_ns is None:
            self._first_left_ns = int(first_ns.min())
        # The first may leave after the last was noted, where that is one that does not come.
        self._last_left_ns = max([self._last_left_ns, *first_ns.tolist(), *last_ns.tolist()])

    def truth(self, start_ns: int) -> Label | Context | None:
        """From the first to the last that was noted, as seen on the network, with all PDUs noted."""
        if self._first_ns is None:
            return None
        first_ns = start_ns + (self._first_ns if self._first_left_ns is None else self._first_left_ns)
        last_ns = start_ns + max(self._last_ns, self._last_left_ns)
        pdus = [self.vehicle.pdus[pdu].name for pdu in sorted(self._concerned)]
        if self.category is None:
            return Context(
                first_ns, last_ns, "control", self.kind, pdus=pdus, size=float(self.size), unit=self.unit
            )
        return Label(
            first_ns,
            last_ns,
            self.kind,
            pdus=pdus,
            severity=float(self.severity),
            category=self.category,
            size=float(self.size),
            unit=self.unit,
        )


def cyclic_pdus(vehicle: Vehicle, *, forwarded: bool = True) -> list[int]:
    """Indices of the ordinary PDUs that are sent in one cycle alone; without `forwarded`, the ECU's own."""
    return [
        index
        for index, pdu in enumerate(vehicle.pdus)
        if pdu.send_type == "cyclic"
        and pdu.role == "com"
        and pdu.cycle_ns
        and (forwarded or not pdu.forwarded)
    ]


def cycle_of(pdu: PduModel) -> int:
    """The nominal cycle of a PDU that has one, in nanoseconds."""
    if pdu.cycle_ns is None:
        raise ValueError(f"{pdu.name} has no cycle")
    return pdu.cycle_ns


def due_rows(sends: Sends, pdu: int, from_ns: int) -> IntArray:
    """The rows in which a PDU is sent in its cycle at or after `from_ns`, in order of time."""
    return np.flatnonzero((sends.pdu == pdu) & (sends.time_ns >= from_ns) & sends.due & sends.sent)


def copies(sends: Sends, row: int, times_ns: list[int]) -> Sends:
    """A row once more for each of these times; its data are those of the row."""
    table = sends.take(np.full(len(times_ns), row, np.int64))
    table.time_ns = np.array(times_ns, dtype=np.int64)
    return table


def add_rows(sends: Sends, tables: list[Sends]) -> Sends:
    """A table and more rows behind it."""
    return Sends.join([sends, *tables]) if tables else sends
