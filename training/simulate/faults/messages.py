"""Faults of single messages of one PDU: late, early, missing, twice, stalled, or injected."""

from abc import abstractmethod
from typing import ClassVar, Self

import numpy as np

from training.draws import Draws
from training.simulate.faults.base import Category
from training.simulate.faults.planned import (
    LATENESS_NS,
    MS,
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

__all__ = ["Burst", "Delay", "Double", "Early", "Injection", "MessageFault", "Missing", "NmLoss"]


class MessageFault(PlannedFault):
    """A fault of a cyclic PDU's messages.

    Attributes:
        pdu: index of the PDU.
        cycle_ns: its cycle.
        rng: draws what differs from message to message.
    """

    def __init__(self, rng: Draws, vehicle: Vehicle, at_ns: int, pdu: int, size: float) -> None:
        self.pdu = pdu
        self.cycle_ns = cycle_of(vehicle.pdus[pdu])
        self.rng = rng
        super().__init__(vehicle, at_ns, at_ns, size)
        self.until_ns += self.lasts_ns() + 2 * self.cycle_ns + LATENESS_NS

    @abstractmethod
    def lasts_ns(self) -> int:
        """How long it lasts from the first message concerned."""

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> Self | None:
        """See `PlannedFault.make`."""
        return cls(rng, vehicle, at_ns, target, size)


class Delay(MessageFault):
    """One message comes `size` cycles late, the following ones in time.

    Severities: 0.1 to 0.3 cycles, to 1, to 2, to 5.
    """

    kind = "delay"
    category: ClassVar[Category | None] = "delay"
    unit = "cycles"
    sizes = ((0.1, 0.3), (0.3, 1.0), (1.0, 2.0), (2.0, 5.0))

    _done = False

    def lasts_ns(self) -> int:
        """The delay."""
        return round(self.size * self.cycle_ns)

    def on_sends(self, sends: Sends, lower_ns: int, upper_ns: int) -> Sends:
        """Move the first message."""
        rows = due_rows(sends, self.pdu, self.at_ns)
        if len(rows) and not self._done:
            self.note(int(sends.time_ns[rows[0]]), self.pdu)
            sends.time_ns[rows[0]] += self.lasts_ns()
            self.note(int(sends.time_ns[rows[0]]))
            self._done = True
        return sends


class Missing(MessageFault):
    """`size` messages in a row do not come.

    Severities: 1 message, 2 or 3, 4 to 8, 9 to 30.
    """

    kind = "missing"
    category: ClassVar[Category | None] = "eliminate"
    unit = "messages"
    sizes = ((1, 1), (2, 3), (4, 8), (9, 30))
    whole = True

    def __init__(self, rng: Draws, vehicle: Vehicle, at_ns: int, pdu: int, size: float) -> None:
        super().__init__(rng, vehicle, at_ns, pdu, size)
        self._left = round(size)
        self._back = False

    def lasts_ns(self) -> int:
        """The missing messages' cycles."""
        return round(self.size) * self.cycle_ns

    def on_sends(self, sends: Sends, lower_ns: int, upper_ns: int) -> Sends:
        """Take out the first messages, and see when the next one comes."""
        for row in due_rows(sends, self.pdu, self.at_ns).tolist():
            if self._back:
                break
            self.note(int(sends.time_ns[row]), self.pdu)
            if self._left:
                self.spoil(sends, row)
                self._left -= 1
            else:
                self._back = True
        return sends

    def spoil(self, sends: Sends, row: int) -> None:
        """Take out a message."""
        sends.sent[row] = False


class NmLoss(Missing):
    """`size` NM messages of one node in a row do not come.

    Severities: 1 message, 2 or 3, 4 to 7, 8 to 15.
    """

    kind = "nm_loss"
    sizes = ((1, 1), (2, 3), (4, 7), (8, 15))
    needs = "an NM PDU"

    @classmethod
    def targets(cls, vehicle: Vehicle) -> list[int]:
        """All NM PDUs."""
        return [index for index, pdu in enumerate(vehicle.pdus) if pdu.role == "nm" and pdu.cycle_ns]


class Early(MessageFault):
    """One message comes `size` cycles early, the following ones in time.

    Severities: 0.1 to 0.2 cycles, to 0.4, to 0.7, to 0.95.
    """

    kind = "early"
    category: ClassVar[Category | None] = "delay"
    unit = "cycles"
    sizes = ((0.1, 0.2), (0.2, 0.4), (0.4, 0.7), (0.7, 0.95))

    _seen = 0

    def lasts_ns(self) -> int:
        """From the message before to when the early one was due."""
        return 2 * self.cycle_ns

    def on_sends(self, sends: Sends, lower_ns: int, upper_ns: int) -> Sends:
        """After one message, send the next one early, and take it out when it is due."""
        added: list[Sends] = []
        for row in due_rows(sends, self.pdu, self.at_ns)[: 2 - self._seen].tolist():
            self._seen += 1
            if self._seen == 1:
                early_ns = int(sends.time_ns[row]) + self.cycle_ns - round(self.size * self.cycle_ns)
                message = copies(sends, row, [early_ns])
                message.counter += 1
                message.data_ns[:] = early_ns
                added.append(message)
                self.note(early_ns, self.pdu)
            else:
                sends.sent[row] = False
                self.note(int(sends.time_ns[row]))
        return add_rows(sends, added)


class Double(MessageFault):
    """`size` messages in a row are each sent again 0.3 to 3 ms later, with the same counter.

    Severities: 1 message, 2 or 3, 4 to 8, 9 to 30.
    """

    kind = "double"
    category: ClassVar[Category | None] = "inject"
    unit = "messages"
    sizes = ((1, 1), (2, 3), (4, 8), (9, 30))
    whole = True
    needs = "a cyclic PDU on a socket that keeps both messages"

    def __init__(self, rng: Draws, vehicle: Vehicle, at_ns: int, pdu: int, size: float) -> None:
        super().__init__(rng, vehicle, at_ns, pdu, size)
        self._left = round(size)

    def lasts_ns(self) -> int:
        """The messages' cycles."""
        return round(self.size) * self.cycle_ns

    @classmethod
    def targets(cls, vehicle: Vehicle) -> list[int]:
        """Cyclic PDUs whose second message does not take the place of the first in a datagram."""
        return [
            index
            for index in cyclic_pdus(vehicle)
            if vehicle.pdus[index].trigger
            or not any(
                vehicle.sockets[socket].collect_ns and vehicle.sockets[socket].collection == "last_is_best"
                for socket in vehicle.pdus[index].sockets
            )
        ]

    def on_sends(self, sends: Sends, lower_ns: int, upper_ns: int) -> Sends:
        """Add the second messages."""
        added: list[Sends] = []
        for row in due_rows(sends, self.pdu, self.at_ns)[: self._left].tolist():
            time_ns = int(sends.time_ns[row])
            again_ns = time_ns + self.rng.integer(300_000, 3 * MS)
            added.append(copies(sends, row, [again_ns]))
            self.note(time_ns, self.pdu)
            self.note(again_ns)
            self._left -= 1
        return add_rows(sends, added)


class Burst(MessageFault):
    """A PDU stalls for `size` seconds; what queued up then comes at once, 0.2 to 1 ms apart.

    Severities: 0.05 to 0.2 s, to 0.6, to 1.5, to 5; at least three messages of the PDU.
    """

    kind = "burst"
    category: ClassVar[Category | None] = "delay"
    unit = "s"
    sizes = ((0.05, 0.2), (0.2, 0.6), (0.6, 1.5), (1.5, 5.0))
    least_cycles: ClassVar[int] = 3

    _release_ns = -1
    _done = False

    def lasts_ns(self) -> int:
        """The stall and the flush."""
        stall_ns = round(self.size * SECOND)
        return stall_ns + 2 * (stall_ns // self.cycle_ns + 2) * MS

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> Self | None:
        """See `PlannedFault.make`."""
        if round(size * SECOND) < cls.least_cycles * cycle_of(vehicle.pdus[target]):
            return None
        return super().make(rng, vehicle, day, at_ns, target, size, longest_ns)

    def on_sends(self, sends: Sends, lower_ns: int, upper_ns: int) -> Sends:
        """Put off the messages of the stall, and those that come while the queue is emptied."""
        for row in due_rows(sends, self.pdu, self.at_ns).tolist():
            if self._done:
                break
            time_ns = int(sends.time_ns[row])
            if self._release_ns < 0:
                self._release_ns = time_ns + round(self.size * SECOND)
            if time_ns >= self._release_ns:
                self._done = True
                break
            self.note(time_ns, self.pdu)
            sends.time_ns[row] = self._release_ns
            self.note(self._release_ns)
            self._release_ns += self.rng.integer(200_000, MS)
        return sends


class Injection(MessageFault):
    """`size` foreign messages with the PDU's id, old data and old counters, faster than its cycle: a replay.

    Severities: 1 or 2 messages, 3 to 10, 11 to 40, 41 to 200.
    """

    kind = "injection"
    category: ClassVar[Category | None] = "inject"
    unit = "messages"
    sizes = ((1, 2), (3, 10), (11, 40), (41, 200))
    whole = True

    _done = False

    def __init__(self, rng: Draws, vehicle: Vehicle, at_ns: int, pdu: int, size: float) -> None:
        cycle_ns = cycle_of(vehicle.pdus[pdu])
        self._step_ns = round(cycle_ns * rng.uniform(0.1, 0.8))
        self._wait_ns = round(cycle_ns * rng.uniform(0.1, 0.9))
        self._age = rng.integer(5, 200)
        super().__init__(rng, vehicle, at_ns, pdu, size)
        self._last_foreign_ns = -1

    def lasts_ns(self) -> int:
        """From the PDU's own message before them to the last foreign one."""
        return self._wait_ns + round(self.size) * self._step_ns

    def on_sends(self, sends: Sends, lower_ns: int, upper_ns: int) -> Sends:
        """Add the foreign messages after the PDU's first one, and see when its next one comes after them."""
        added: list[Sends] = []
        rows = due_rows(sends, self.pdu, self.at_ns)
        if len(rows) and self._last_foreign_ns < 0:
            added.append(self._replay(sends, int(rows[0])))
        after = rows[sends.time_ns[rows] > self._last_foreign_ns]
        if len(after) and not self._done:
            self.note(int(sends.time_ns[after[0]]))
            self._done = True
        return add_rows(sends, added)

    def _replay(self, sends: Sends, row: int) -> Sends:
        count = round(self.size)
        first_ns = int(sends.time_ns[row]) + self._wait_ns
        replay = copies(sends, row, [first_ns + i * self._step_ns for i in range(count)])
        age = np.minimum(replay.counter, self._age)
        replay.data_ns = np.maximum(0, replay.data_ns + (np.arange(count) - age) * self.cycle_ns)
        replay.counter = replay.counter - age + np.arange(count)
        replay.due[:] = False
        self._last_foreign_ns = int(replay.time_ns[-1])
        self.note(first_ns, self.pdu)
        return replay
