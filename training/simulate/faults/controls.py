"""Controls: what looks like a fault, in the payload or in the logger, and must not be reported."""

from typing import ClassVar

import numpy as np

from training.draws import Draws
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
from training.simulate.scenario import Day
from training.simulate.tables import Capture, Sends
from training.simulate.vehicle import Vehicle

__all__ = ["CaptureLoss", "CounterFreeze", "LoggerClockStep", "ModeChange", "PayloadFreeze"]


class PayloadFreeze(PlannedFault):
    """The signals of a PDU stand still for `size` seconds while its counter goes on.

    Severities: 0.1 to 1 s, to 3, to 6, to 15.
    """

    kind = "payload_freeze"
    category: ClassVar[Category | None] = None
    unit = "s"
    sizes = ((0.1, 1.0), (1.0, 3.0), (3.0, 6.0), (6.0, 15.0))

    def __init__(self, vehicle: Vehicle, at_ns: int, pdu: int, size: float) -> None:
        lasts_ns = round(size * SECOND)
        super().__init__(vehicle, at_ns, at_ns + lasts_ns + cycle_of(vehicle.pdus[pdu]) + LATENESS_NS, size)
        self._pdu = pdu
        self._end_ns = at_ns + lasts_ns
        self._frozen: int | None = None

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> "PayloadFreeze | None":
        """See `PlannedFault.make`; at least two messages."""
        if round(size * SECOND) < 2 * cycle_of(vehicle.pdus[target]):
            return None
        return cls(vehicle, at_ns, target, size)

    def on_sends(self, sends: Sends, lower_ns: int, upper_ns: int) -> Sends:
        """Freeze all messages as the first one is."""
        for row in due_rows(sends, self._pdu, self.at_ns).tolist():
            if sends.time_ns[row] >= self._end_ns:
                break
            if self._frozen is None:
                self._frozen = self.read(sends, row)
            self.freeze(sends, row, self._frozen)
            self.note(int(sends.time_ns[row]), self._pdu)
        return sends

    def read(self, sends: Sends, row: int) -> int:
        """What stands still."""
        return int(sends.data_ns[row])

    def freeze(self, sends: Sends, row: int, value: int) -> None:
        """Let it stand still."""
        sends.data_ns[row] = value


class CounterFreeze(PayloadFreeze):
    """The alive counter of a PDU stands still for `size` seconds while its signals go on.

    Severities: 0.1 to 1 s, to 3, to 6, to 15.
    """

    kind = "counter_freeze"

    def read(self, sends: Sends, row: int) -> int:
        """The counter."""
        return int(sends.counter[row])

    def freeze(self, sends: Sends, row: int, value: int) -> None:
        """Let the counter stand still."""
        sends.counter[row] = value


class ModeChange(PlannedFault):
    """An ordinary change of a mode, and the `size` seconds after it.

    Severities: 0.5 to 1 s, to 2, to 4, to 10.
    """

    kind = "mode_change"
    category: ClassVar[Category | None] = None
    unit = "s"
    target_type = "none"
    needs = "a mode that a PDU follows"
    sizes = ((0.5, 1.0), (1.0, 2.0), (2.0, 4.0), (4.0, 10.0))

    @classmethod
    def targets(cls, vehicle: Vehicle) -> list[int]:
        """All modes on which a PDU depends."""
        return sorted({pdu.mode for pdu in vehicle.pdus if pdu.mode is not None})

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> "ModeChange | None":
        """See `PlannedFault.make`; the first change of the mode."""
        lasts_ns = round(size * SECOND)
        changes = day.mode_changes(target, at_ns, at_ns + longest_ns - lasts_ns)
        if not changes:
            return None
        change_ns = changes[0][0]
        fault = cls(vehicle, at_ns, change_ns + lasts_ns, size)
        fault.note(change_ns, *(index for index, pdu in enumerate(vehicle.pdus) if pdu.mode == target))
        fault.note(change_ns + lasts_ns)
        return fault


class _LoggerControl(PlannedFault):
    """Something that happens in the logger."""

    category: ClassVar[Category | None] = None
    target_type = "none"
    needs = "a cyclic PDU"

    @classmethod
    def targets(cls, vehicle: Vehicle) -> list[int]:
        """The one logger, of a vehicle with cyclic traffic."""
        return [0] if cyclic_pdus(vehicle) else []


class CaptureLoss(_LoggerControl):
    """The logger loses `size` frames in a row.

    Severities: 5 to 20 frames, to 60, to 200, to 500.
    """

    kind = "capture_loss"
    unit = "frames"
    sizes = ((5, 20), (21, 60), (61, 200), (201, 500))
    whole = True
    # Other sockets and other PDUs may share a datagram with it.
    margin: ClassVar[int] = 2

    def __init__(self, vehicle: Vehicle, at_ns: int, until_ns: int, size: float) -> None:
        super().__init__(vehicle, at_ns, until_ns, size)
        self._left = round(size)
        self._ended = False

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> "CaptureLoss":
        """See `PlannedFault.make`; as long as the sockets' fastest PDUs take for it."""
        fastest_ns: dict[int, int] = {}
        for pdu in cyclic_pdus(vehicle):
            cycle_ns = cycle_of(vehicle.pdus[pdu])
            for socket in vehicle.pdus[pdu].sockets:
                fastest_ns[socket] = min(cycle_ns, fastest_ns.get(socket, cycle_ns))
        every_ns = SECOND * MS // sum(SECOND * MS // cycle_ns for cycle_ns in fastest_ns.values())
        lasts_ns = cls.margin * round(size) * every_ns + 2 * max(fastest_ns.values())
        return cls(vehicle, at_ns, at_ns + lasts_ns, size)

    def on_capture(self, capture: Capture) -> None:
        """Lose the first frames."""
        rows = np.flatnonzero((capture.time_ns >= self.at_ns) & ~capture.lost)[: self._left + 1]
        lost = rows[: self._left]
        capture.lost[lost] = True
        self._left -= len(lost)
        # The truth reaches to the first frame that is captured again.
        noted = lost if self._ended else rows
        self._ended = self._ended or len(rows) > len(lost)
        for row in (noted[:1], noted[-1:]):
            if len(row):
                self.note(int(capture.time_ns[row[0]]))


class LoggerClockStep(_LoggerControl):
    """The logger's clock is `size` ms wrong for a while: all timestamps are shifted.

    Severities: 1 to 5 ms, to 20, to 80, to 200, either way.
    """

    kind = "logger_clock_step"
    unit = "ms"
    sizes = ((1.0, 5.0), (5.0, 20.0), (20.0, 80.0), (80.0, 200.0))
    signed = True

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> "LoggerClockStep | None":
        """See `PlannedFault.make`; lasts 1 to 10 s."""
        most = min(10_000, longest_ns // MS)
        return cls(vehicle, at_ns, at_ns + rng.integer(1_000, most) * MS, size) if most >= 1_000 else None

    def on_capture(self, capture: Capture) -> None:
        """Shift timestamps."""
        rows = np.flatnonzero((capture.time_ns >= self.at_ns) & (capture.time_ns < self.until_ns))
        capture.stamp_ns[rows] += round(self.size * MS)
        for row in (*rows[:1].tolist(), *rows[-1:].tolist()):
            self.note(int(capture.time_ns[row]))
            self.note(int(capture.stamp_ns[row]))
