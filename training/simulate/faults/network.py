"""Faults between ECUs: datagrams twice or in another order, PDUs on a wrong port or from a wrong sender."""

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np

from training.draws import Draws
from training.labels import Context, Label
from training.simulate.faults.base import Category
from training.simulate.faults.messages import Missing
from training.simulate.faults.planned import LATENESS_NS, MS, SECOND, PlannedFault, cyclic_pdus
from training.simulate.scenario import Day
from training.simulate.tables import Sends, Wire
from training.simulate.vehicle import SocketModel, Vehicle

__all__ = ["Duplicate", "Reorder", "WrongPort", "WrongSender"]


class Duplicate(PlannedFault):
    """`size` datagrams of a socket come twice, the copy 10 to 300 us later, as from a loop of a gateway.

    Severities: 1 datagram, 2 to 5, 6 to 20, 21 to 100.
    """

    kind = "duplicate"
    category: ClassVar[Category | None] = "inject"
    unit = "messages"
    sizes = ((1, 1), (2, 5), (6, 20), (21, 100))
    whole = True
    target_type = "ecu"
    needs = "an ECU with a cyclic PDU"

    def __init__(
        self, rng: Draws, vehicle: Vehicle, at_ns: int, socket: int, size: float, every_ns: int
    ) -> None:
        super().__init__(vehicle, at_ns, at_ns + (round(size) + 2) * every_ns + LATENESS_NS, size)
        self._rng = rng
        self._socket = socket
        self._left = round(size)

    @classmethod
    def targets(cls, vehicle: Vehicle) -> list[int]:
        """ECUs with a cyclic PDU."""
        return sorted({vehicle.pdus[pdu].ecu for pdu in cyclic_pdus(vehicle)})

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> "Duplicate":
        """See `PlannedFault.make`; a socket of a random cyclic PDU of the ECU."""
        pdu = rng.choice([pdu for pdu in cyclic_pdus(vehicle) if vehicle.pdus[pdu].ecu == target])
        socket = rng.choice(vehicle.pdus[pdu].sockets)
        every_ns = min(
            vehicle.pdus[other].cycle_ns or SECOND
            for other in cyclic_pdus(vehicle)
            if socket in vehicle.pdus[other].sockets
        )
        return cls(rng, vehicle, at_ns, socket, size, every_ns)

    def on_wire(self, wire: Wire, lower_ns: int, upper_ns: int) -> Wire:
        """Add copies of the first datagrams."""
        rows = np.flatnonzero((wire.socket == self._socket) & (wire.time_ns >= self.at_ns))
        tables = [wire]
        for datagram in np.unique(wire.datagram[rows])[: self._left].tolist():
            again = wire.take(np.flatnonzero(wire.datagram == datagram))
            self.note(int(again.time_ns[0]), *again.pdu.tolist())
            again.datagram += 1
            again.time_ns += self._rng.integer(10_000, 300_000)
            self.note(int(again.time_ns[0]))
            tables.append(again)
            self._left -= 1
        return Wire.join(tables)


class Reorder(PlannedFault):
    """`size` datagrams of an ECU are put off by 0.2 to 0.6 ms and overtaken by those behind them.

    Severities: 1 datagram, 2 to 5, 6 to 20, 21 to 100; fewer if fewer are so close to each other.
    """

    kind = "reorder"
    category: ClassVar[Category | None] = "reorder"
    unit = "datagrams"
    sizes = ((1, 1), (2, 5), (6, 20), (21, 100))
    whole = True
    target_type = "ecu"
    needs = "an ECU with a PDU of 20 ms or faster"
    fast_ns: ClassVar[int] = 20 * MS
    # Where one is close behind another, a third often is.
    close_ns: ClassVar[int] = 300_000
    late_ns: ClassVar[tuple[int, int]] = (200_000, 600_000)

    def __init__(
        self, rng: Draws, vehicle: Vehicle, at_ns: int, ecu: int, size: float, lasts_ns: int
    ) -> None:
        super().__init__(vehicle, at_ns, at_ns + lasts_ns, size)
        self._rng = rng
        self._own = np.append([socket.ecu == ecu for socket in vehicle.sockets], False)
        self._before_ns = -SECOND
        # When the datagram that was put off last leaves, as long as nothing else has left.
        self._late_ns: int | None = None
        self._most = round(size)
        self._overtaken = 0

    @classmethod
    def targets(cls, vehicle: Vehicle) -> list[int]:
        """ECUs with a fast PDU."""
        return sorted(
            {vehicle.pdus[pdu].ecu for pdu in cyclic_pdus(vehicle) if _cycle(vehicle, pdu) <= cls.fast_ns}
        )

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> "Reorder":
        """See `PlannedFault.make`."""
        lasts_ns = min(longest_ns, round(size) * 100 * MS + SECOND)
        return cls(rng, vehicle, at_ns, target, size, lasts_ns)

    def on_wire(self, wire: Wire, lower_ns: int, upper_ns: int) -> Wire:
        """Put off datagrams amid others, and see which ones are overtaken."""
        own = self._own[np.minimum(wire.socket, len(self._own) - 1)]
        rows = np.flatnonzero((wire.time_ns >= self.at_ns) & (wire.time_ns < self.until_ns - MS))
        _, first = np.unique(wire.datagram[rows], return_index=True)
        for row in rows[first].tolist():
            time_ns = int(wire.time_ns[row])
            overtakes = self._see(time_ns)
            amid_others = time_ns - self._before_ns < self.close_ns
            self._before_ns = time_ns
            chosen = bool(own[row]) and amid_others and not overtakes and self._late_ns is None
            if chosen and self._overtaken < self._most:
                datagram = np.flatnonzero(wire.datagram == wire.datagram[row])
                wire.time_ns[datagram] += self._rng.integer(*self.late_ns)
                self._late_ns = int(wire.time_ns[row])
                self.note(time_ns, *wire.pdu[datagram].tolist())
                self.note(self._late_ns)
        return wire

    def _see(self, time_ns: int) -> bool:
        """Whether the datagram that leaves overtakes the one that was put off."""
        overtakes = self._late_ns is not None and time_ns < self._late_ns
        self._late_ns = None
        self._overtaken += overtakes
        return overtakes

    def truth(self, start_ns: int) -> Label | Context | None:
        """From when the first was to leave to when the last left; as many as were overtaken, None: none."""
        if not self._overtaken:
            return None
        self.size, self.severity = self._overtaken, self.severity_of(self._overtaken)
        return super().truth(start_ns)


class _Misdirected(Missing):
    """`size` messages of a PDU go out on a socket that the vehicle does not have."""

    category: ClassVar[Category | None] = "manipulate"
    sizes = ((1, 1), (2, 5), (6, 20), (21, 100))
    needs = "a cyclic PDU with one socket"

    @classmethod
    def targets(cls, vehicle: Vehicle) -> list[int]:
        """Cyclic PDUs with one socket, a UDP socket."""
        return [
            pdu
            for pdu in cyclic_pdus(vehicle)
            if len(vehicle.pdus[pdu].sockets) == 1 and vehicle.sockets[vehicle.pdus[pdu].sockets[0]].source
        ]

    @classmethod
    def make(
        cls, rng: Draws, vehicle: Vehicle, day: Day, at_ns: int, target: int, size: float, longest_ns: int
    ) -> Self | None:
        """See `PlannedFault.make`."""
        fault = cls(rng, vehicle, at_ns, target, size)
        socket = fault.wrong_socket(vehicle.sockets[vehicle.pdus[target].sockets[0]])
        if socket is None:
            return None
        fault.extra_sockets = (socket,)
        return fault

    def spoil(self, sends: Sends, row: int) -> None:
        """Send a message on the wrong socket."""
        sends.socket[row] = self.first_extra_socket

    @abstractmethod
    def wrong_socket(self, right: SocketModel) -> SocketModel | None:
        """The socket on which the PDU goes out; None: there is no such one."""


class WrongPort(_Misdirected):
    """`size` messages of a PDU go out from or to a wrong port.

    Severities: 1 message, 2 to 5, 6 to 20, 21 to 100.
    """

    kind = "wrong_port"

    def wrong_socket(self, right: SocketModel) -> SocketModel:
        """Another port, not far away."""
        away = self.rng.integer(1, 400)
        if self.rng.random() < 0.5:
            return replace(right, source_port=_other_port(right.source_port, away))
        return replace(right, destination_port=_other_port(right.destination_port, away))


class WrongSender(_Misdirected):
    """`size` messages of a PDU come from another ECU's address.

    Severities: 1 message, 2 to 5, 6 to 20, 21 to 100.
    """

    kind = "wrong_sender"
    needs = "a cyclic PDU with one socket, and another ECU with an address of the same family"

    @classmethod
    def targets(cls, vehicle: Vehicle) -> list[int]:
        """Cyclic PDUs with one socket, for which there is another sender."""
        return [
            pdu
            for pdu in super().targets(vehicle)
            if _other_senders(vehicle, vehicle.sockets[vehicle.pdus[pdu].sockets[0]])
        ]

    def wrong_socket(self, right: SocketModel) -> SocketModel:
        """The same socket, of another ECU."""
        other = self.rng.choice(_other_senders(self.vehicle, right))
        return replace(right, ecu=other.ecu, source=other.source)


def _other_senders(vehicle: Vehicle, right: SocketModel) -> list[SocketModel]:
    """Sockets of other ECUs with an address of the same family, those in the same VLAN if there are some."""
    others = [
        socket
        for socket in vehicle.sockets
        if socket.source
        and socket.source != right.source
        and socket.ecu != right.ecu
        and (":" in socket.source) == (":" in right.source)
    ]
    return [socket for socket in others if socket.vlan == right.vlan] or others


def _other_port(port: int, away: int) -> int:
    return port + away if port + away <= 65_535 else port - away


def _cycle(vehicle: Vehicle, pdu: int) -> int:
    return vehicle.pdus[pdu].cycle_ns or SECOND
