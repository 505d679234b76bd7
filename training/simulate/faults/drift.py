"""A PDU's cycle that drifts away, as from a clock of its own."""

from typing import ClassVar

import numpy as np

from training.draws import Draws, half_normal, make_key
from training.simulate.faults.base import Category
from training.simulate.faults.planned import (
    LATENESS_NS,
    SECOND,
    PlannedFault,
    add_rows,
    copies,
    cycle_of,
    cyclic_pdus,
    due_rows,
)
from training.simulate.scenario import Day
from training.simulate.tables import Sends
from training.simulate.vehicle import Vehicle

__all__ = ["Drift"]


class Drift(PlannedFault):
    """A PDU's cycle grows by up to `size` per cent, or shrinks, then it resynchronises.

    Severities: 0.5 to 1 %, to 2.5, to 5, to 10, either way.
    """

    kind = "drift"
    category: ClassVar[Category | None] = "delay"
    unit = "percent"
    sizes = ((0.5, 1.0), (1.0, 2.5), (2.5, 5.0), (5.0, 10.0))
    signed = True
    needs = "a cyclic PDU that is not forwarded"
    least_ns: ClassVar[int] = 10 * SECOND
    most_ns: ClassVar[int] = 60 * SECOND

    def __init__(self, rng: Draws, vehicle: Vehicle, at_ns: int, pdu: int, size: float, cycles: int) -> None:
        self._pdu = pdu
        self._cycle_ns = cycle_of(vehicle.pdus[pdu])
        self._cycles = cycles
        self._key = make_key("drift", rng.integer(0, 1 << 30))
        self._sigma_ns = vehicle.ecus[vehicle.pdus[pdu].ecu].jitter_sigma_ns
        self._sent = 0
        self._end_ns = -1
        self._ended = False
        super().__init__(vehicle, at_ns, at_ns + (cycles + 3) * self._cycle_ns + LATENESS_NS, size)

    @classmethod
    def targets(cls, vehicle: Vehicle) -> list[int]:
        """Cyclic PDUs of the ECUs' own tasks."""
        return cyclic_pdus(vehicle, forwarded=False)

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> "Drift | None":
        """See `PlannedFault.make`; at least 20 cycles."""
        cycle_ns = cycle_of(vehicle.pdus[target])
        most = (min(cls.most_ns, longest_ns - LATENESS_NS) // cycle_ns) - 3
        least = max(20, min(cls.least_ns // cycle_ns, most // 2))
        return cls(rng, vehicle, at_ns, target, size, rng.integer(least, most)) if least <= most else None

    def on_sends(self, sends: Sends, lower_ns: int, upper_ns: int) -> Sends:
        """From its first message to the end of the ramp, send the PDU by a cycle of its own."""
        added: list[Sends] = []
        rows = due_rows(sends, self._pdu, self.at_ns)
        if len(rows) and self._end_ns < 0:
            added.append(self._drifting(sends, int(rows[0])))
            rows = rows[1:]
        for row in rows.tolist():
            time_ns = int(sends.time_ns[row])
            if time_ns < self._end_ns:
                sends.sent[row] = False
                self.note(time_ns, self._pdu)
            elif not self._ended:
                self.note(time_ns)
                self.counter_shift[self._pdu] = int(sends.counter[row]) - self._sent
                self._ended = True
        if self._ended:
            sends.counter[rows[sends.time_ns[rows] >= self._end_ns]] -= self.counter_shift[self._pdu]
        return add_rows(sends, added)

    def _drifting(self, sends: Sends, row: int) -> Sends:
        """All messages of the ramp, after the one in `row`."""
        start_ns = int(sends.time_ns[row])
        ramp_ns = self._cycles * self._cycle_ns
        self._end_ns = start_ns + ramp_ns - self._cycle_ns // 2
        ppm = round(self.size * 10_000)
        times_ns, time_ns = [], start_ns
        # Half a cycle of room to the first message after.
        while time_ns < start_ns + ramp_ns - self._cycle_ns // 2:
            time_ns += self._cycle_ns + self._cycle_ns * ppm * (time_ns - start_ns) // (1_000_000 * ramp_ns)
            times_ns.append(time_ns)
        times_ns.pop()
        table = copies(sends, row, times_ns)
        number = np.arange(1, len(times_ns) + 1)
        table.time_ns += half_normal(self._key, number, self._sigma_ns)
        table.data_ns = table.time_ns.copy()
        table.counter += number
        self._sent = int(sends.counter[row]) + len(times_ns) + 1
        self.note(int(table.time_ns[0]), self._pdu)
        return table
