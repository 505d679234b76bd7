"""Faults of a PDU's cycle: it is wrong, or moves away from its place."""

import math
from typing import ClassVar

import numpy as np

from training.draws import Draws, IntArray
from training.simulate.clock import pdu_clock
from training.simulate.faults.base import Category
from training.simulate.faults.planned import (
    LATENESS_NS,
    MS,
    SECOND,
    PlannedFault,
    cycle_of,
    cyclic_pdus,
    due_rows,
)
from training.simulate.scenario import Day, ScheduleEdit
from training.simulate.tables import Sends
from training.simulate.vehicle import Vehicle

__all__ = ["Desync", "EditFault", "Phase", "WrongCycle", "first_due"]


class EditFault(PlannedFault):
    """A fault that is an edit of a PDU's schedule; it only watches what comes of it.

    Args:
        edit: the change.
        wrong_ns: when the first message is due which does not come, or comes though it should not.
        comes: it is the latter: the truth begins with the message.
        right_ns: when the first message is due again with which the cycle is right.
    """

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
        super().__init__(vehicle, at_ns, right_ns + cycle_of(vehicle.pdus[edit.pdu]) + LATENESS_NS, size)
        self.edits = (edit,)
        self._pdu = edit.pdu
        self._wrong_ns = wrong_ns
        self._right_ns = right_ns
        self._begun = not comes
        self._ended = False
        if not comes:
            self.note(wrong_ns, edit.pdu)

    def on_sends(self, sends: Sends, lower_ns: int, upper_ns: int) -> Sends:
        """Watch for the first wrong message and the first right one."""
        for from_ns, done in ((self._wrong_ns, self._begun), (self._right_ns, self._ended)):
            rows = due_rows(sends, self._pdu, from_ns)
            if len(rows) and not done:
                self.note(int(sends.time_ns[rows[0]]), self._pdu)
                self._begun = True
                self._ended = from_ns == self._right_ns
        return sends


def repeats(rng: Draws, round_ns: int, longest_ns: int) -> int:
    """How many rounds of a cycle an edit lasts: 2 to 40, less where there is no time; 0: not even one."""
    most = min(40, (longest_ns - LATENESS_NS) // round_ns - 3)
    return rng.integer(min(2, most), most) if most > 0 else 0


class WrongCycle(EditFault):
    """A PDU's cycle is `size` times the right one for a while.

    Severities: x1.1 to x1.3, to x1.75, to x2.5, to x5, and the same below 1; as the raster allows.
    """

    kind = "wrong_cycle"
    category: ClassVar[Category | None] = "delay"
    unit = "factor"
    sizes = ((1.1, 1.3), (1.3, 1.75), (1.75, 2.5), (2.5, 5.0))
    needs = "a cyclic PDU whose cycle times the factor fits into its raster"
    factors: ClassVar[tuple[tuple[float, ...], ...]] = (
        (1.2, 0.8),
        (1.5, 1.4, 0.75, 0.6),
        (2.0, 2.0, 0.5, 0.5),
        (4.0, 3.0, 0.25, 0.2),
    )

    @classmethod
    def draw_size(cls, rng: Draws, severity: int) -> float:
        """One of some factors, most often twice or half the cycle."""
        return rng.choice(cls.factors[severity - 1])

    @classmethod
    def severity_of(cls, size: float) -> int:
        """A factor and its inverse are as severe."""
        return super().severity_of(max(size, 1 / size))

    @classmethod
    def allows(cls, size: float) -> bool:
        """The inverse factors too."""
        return size > 0 and super().allows(max(size, 1 / size))

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> "WrongCycle | None":
        """See `PlannedFault.make`; begins and ends in an activation in which both cycles are due."""
        clock, pdu = pdu_clock(vehicle, target), vehicle.pdus[target]
        right = clock.activations(cycle_of(pdu))
        wrong = round(right * size)
        if wrong in (0, right) or abs(wrong - right * size) > 0.02 * right * size:
            return None
        common = math.lcm(right, wrong)
        rounds = repeats(rng, common * clock.raster_ns, longest_ns)
        if not rounds:
            return None
        first = first_due(vehicle, target, at_ns, right)
        last = first + rounds * common
        half_ns = clock.raster_ns // 2
        edit = ScheduleEdit(
            target,
            clock.time_ns(first) + half_ns,
            clock.time_ns(last) - half_ns,
            cycle_ns=wrong * clock.raster_ns,
            shift=(first - pdu.phase) % wrong,
        )
        wrong_ns = clock.time_ns(first + min(right, wrong))
        return cls(vehicle, at_ns, wrong / right, edit, wrong_ns, wrong < right, clock.time_ns(last))


class Desync(EditFault):
    """A member of a group moves away from the others, by `size` of its cycle, at once or gradually.

    Severities: 0.02 to 0.1 cycles, to 0.2, to 0.35, to 0.5; negative: it comes before the others.
    """

    kind = "desync"
    category: ClassVar[Category | None] = "delay"
    unit = "cycles"
    sizes = ((0.02, 0.1), (0.1, 0.2), (0.2, 0.35), (0.35, 0.5))
    signed = True
    needs = "a cyclic PDU that is sent together with others"

    @classmethod
    def targets(cls, vehicle: Vehicle) -> list[int]:
        """Cyclic PDUs of a group that has several."""
        groups = [(pdu.ecu, pdu.group) for pdu in vehicle.pdus]
        return [
            index
            for index in cyclic_pdus(vehicle)
            if vehicle.pdus[index].group is not None and groups.count(groups[index]) > 1
        ]

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> PlannedFault | None:
        """See `PlannedFault.make`; gradually where it is less than an activation, or by chance."""
        clock, pdu = pdu_clock(vehicle, target), vehicle.pdus[target]
        cycle = clock.activations(cycle_of(pdu))
        shift = round(size * cycle)
        if size > 0 and (not shift or rng.random() < 0.5):
            return GradualDesync.make(rng, vehicle, day, at_ns, target, size, longest_ns)
        rounds = repeats(rng, cycle * clock.raster_ns, longest_ns)
        if not shift or not rounds or not cls.sizes[0][0] <= abs(shift / cycle) <= cls.sizes[-1][1]:
            return None
        first = first_due(vehicle, target, at_ns, cycle)
        last = first + rounds * cycle
        half_ns = clock.raster_ns // 2
        # Neither the place after the last right message nor that before the next one counts twice.
        edit = ScheduleEdit(
            target,
            clock.time_ns(first + max(shift, 0)) + half_ns,
            clock.time_ns(last + min(shift, 0)) - half_ns,
            shift=shift,
        )
        wrong_ns = clock.time_ns(first + cycle + min(shift, 0))
        return cls(vehicle, at_ns, shift / cycle, edit, wrong_ns, shift < 0, clock.time_ns(last))


class Phase(PlannedFault):
    """A PDU's phase moves by `size` of its cycle, slowly, and back; every interval stays near the cycle.

    Severities: 0.05 to 0.1 cycles, to 0.2, to 0.35, to 0.5.
    """

    kind = "phase"
    category: ClassVar[Category | None] = "delay"
    unit = "cycles"
    sizes: ClassVar[tuple[tuple[float, float], ...]] = ((0.05, 0.1), (0.1, 0.2), (0.2, 0.35), (0.35, 0.5))
    least_ns: ClassVar[int] = 5 * SECOND
    most_ns: ClassVar[int] = 60 * SECOND
    # An interval differs from the cycle by 4 % at most.
    steepest: ClassVar[int] = 25

    def __init__(self, vehicle: Vehicle, at_ns: int, pdu: int, size: float, ramp_ns: int) -> None:
        self._pdu = pdu
        self._cycle_ns = cycle_of(vehicle.pdus[pdu])
        self._shift_ns = round(size * self._cycle_ns)
        self._half_ns = ramp_ns // 2
        self._start_ns = -1
        super().__init__(vehicle, at_ns, at_ns + 2 * self._half_ns + 2 * self._cycle_ns + LATENESS_NS, size)

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> "Phase | None":
        """See `PlannedFault.make`."""
        cycle_ns = cycle_of(vehicle.pdus[target])
        room_ns = min(cls.most_ns, longest_ns - 2 * cycle_ns - LATENESS_NS)
        least_ns = max(
            min(cls.least_ns, room_ns // 2), round(2 * cls.steepest * size * cycle_ns), 20 * cycle_ns
        )
        if least_ns > room_ns:
            return None
        return cls(vehicle, at_ns, target, size, rng.integer(least_ns // MS, room_ns // MS) * MS)

    def on_sends(self, sends: Sends, lower_ns: int, upper_ns: int) -> Sends:
        """Move each message by its part of the way there or back."""
        rows = due_rows(sends, self._pdu, self.at_ns)
        if not len(rows):
            return sends
        if self._start_ns < 0:
            self._start_ns = int(sends.time_ns[rows[0]])
        due_ns = sends.time_ns[rows].copy()
        way_ns: IntArray = np.maximum(0, self._half_ns - np.abs(due_ns - self._start_ns - self._half_ns))
        # Microseconds, so that the product fits.
        sends.time_ns[rows] += (way_ns // 1000) * self._shift_ns // (self._half_ns // 1000)
        moved = sends.time_ns[rows] > due_ns
        for time_ns in (*due_ns[moved][:1].tolist(), *sends.time_ns[rows][moved][-1:].tolist()):
            self.note(time_ns, self._pdu)
        return sends


class GradualDesync(Phase):
    """A member of a group leaves the others slowly and comes back; see `Desync`."""

    kind = Desync.kind
    category: ClassVar[Category | None] = Desync.category
    sizes = Desync.sizes


def first_due(vehicle: Vehicle, index: int, at_ns: int, cycle: int) -> int:
    """The first activation from `at_ns` in which a PDU with this cycle, in activations, is due."""
    earliest = pdu_clock(vehicle, index).first_from(at_ns)
    return earliest + (vehicle.pdus[index].phase - earliest) % cycle
