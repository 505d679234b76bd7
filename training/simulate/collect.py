"""Collects the PDUs of each socket into datagrams: the nPDU feature of AUTOSAR's socket adaptor."""

from collections.abc import Sequence

import numpy as np

from training.draws import IntArray, below, make_key
from training.simulate.tables import DATAGRAM_STEP, BoolArray, Sends, Wire
from training.simulate.vehicle import SocketModel, Vehicle

__all__ = ["MAX_DATAGRAM_BYTES", "PDU_HEADER_BYTES", "Collector"]

PDU_HEADER_BYTES = 8
MAX_DATAGRAM_BYTES = 1400
GATEWAY_DELAY_NS = 2_000_000


class Collector:
    """Turns sends into datagrams, slice by slice; the result does not depend on the slices.

    A PDU enters the buffer of each of its sockets: at once where the socket is its ECU's, else up to 2 ms
    later, for a gateway sends that copy. A buffer's PDUs leave as one datagram with a PDU that has
    `trigger`, `collect_ns` after the first of them entered, or just before a PDU would make it longer than
    `MAX_DATAGRAM_BYTES`. Sockets that do not collect send each PDU as it comes.

    Args:
        vehicle: whose PDUs come.
        sockets: `vehicle.sockets` and what faults add.
        drive: which drive of the vehicle it is; decides what a gateway takes for a copy.
    """

    def __init__(self, vehicle: Vehicle, sockets: Sequence[SocketModel], drive: int) -> None:
        self._key = make_key("gateway", vehicle.seed, drive)
        self._ecu_of_pdu = np.array([pdu.ecu for pdu in vehicle.pdus], np.int64)
        self._bytes = np.array([PDU_HEADER_BYTES + pdu.length for pdu in vehicle.pdus], np.int64)
        self._trigger = np.array([pdu.trigger for pdu in vehicle.pdus], np.bool_)
        self._fan_out = np.array([len(pdu.sockets) for pdu in vehicle.pdus], np.int64)
        self._first_target = np.cumsum(self._fan_out) - self._fan_out
        self._targets = np.array([socket for pdu in vehicle.pdus for socket in pdu.sockets], np.int64)
        self._ecu_of_socket = np.array([socket.ecu for socket in sockets], np.int64)
        self._wait_ns = np.array([s.collect_ns if s.layout == "soad" else 0 for s in sockets], np.int64)
        self._last_is_best = np.array([s.collection == "last_is_best" for s in sockets], np.bool_)
        self._held = Wire.empty()
        self._datagrams = 0

    def advance(self, sends: Sends, until_ns: int) -> Wire:
        """The datagrams that leave before `until_ns` and after those of the last call, in order of time.

        Args:
            sends: all sends from the end of the last call to `until_ns`, in any order; rows that are not
                `sent` are passed over.
            until_ns: where the slice ends; more than at the last call.
        """
        copies = Wire.join([self._held, self._copies(sends)])
        # Stable, so that what enters a socket at the same time stays in order of sending.
        order = np.lexsort((copies.time_ns, copies.socket))
        order = order[copies.time_ns[order] < until_ns]
        entered = copies.take(order)
        first, leave_ns = self._datagrams_of(entered)
        count = np.diff(first)
        gone = leave_ns < until_ns

        stays = np.ones(len(copies), np.bool_)
        stays[order[np.repeat(gone, count)]] = False
        self._held = copies.take(stays)

        entered.datagram = np.repeat(np.arange(len(count)), count)
        entered.time_ns = np.repeat(leave_ns, count)
        wire = self._replaced(entered.take(np.repeat(gone, count)))
        return self._numbered(wire.take(np.argsort(wire.time_ns, kind="stable")))

    def _copies(self, sends: Sends) -> Wire:
        """A row for each socket of each send, in order of sending, with the time when it gets there."""
        order = np.lexsort((sends.counter, sends.pdu, sends.time_ns))
        sends = sends.take(order[sends.sent[order]])
        directed = sends.socket >= 0
        count = np.where(directed, 1, self._fan_out[sends.pdu])
        row = np.repeat(np.arange(len(sends)), count)
        nth = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        pdu = sends.pdu[row]
        directed = directed[row]
        socket = sends.socket[row]
        socket[~directed] = self._targets[(self._first_target[pdu] + nth)[~directed]]
        handed_ns = sends.time_ns[row]
        time_ns = handed_ns.copy()
        routed = np.flatnonzero(self._ecu_of_socket[socket] != self._ecu_of_pdu[pdu])
        copy = pdu[routed] << 48 | socket[routed] << 32 | sends.counter[row[routed]]
        time_ns[routed] += below(self._key, copy, GATEWAY_DELAY_NS + 1)
        zeros = np.zeros(len(row), np.int64)
        content = (sends.counter[row], sends.changes[row], sends.data_ns[row], sends.value[row])
        return Wire(pdu, socket, zeros, time_ns, handed_ns, *content)

    def _datagrams_of(self, entered: Wire) -> tuple[IntArray, IntArray]:
        """Cut rows in order of socket and time into datagrams.

        Returns:
            The first row of each datagram and, last, the number of rows; and when each datagram leaves. The
            last one of a socket leaves earlier if something enters that makes it.
        """
        rows = len(entered)
        if not rows:
            return np.zeros(1, np.int64), np.zeros(0, np.int64)
        time_ns, wait_ns = entered.time_ns, self._wait_ns[entered.socket]
        next_row = np.arange(rows) + 1
        # For a datagram that begins with a row: the row after its last, by each of the three rules.
        begin = int(time_ns.min())
        span = int(time_ns.max()) - begin + int(self._wait_ns.max()) + 1
        place = entered.socket * span + time_ns - begin
        by_timeout = np.maximum(np.searchsorted(place, place + wait_ns), next_row)
        at_once = np.where(self._trigger[entered.pdu] | (wait_ns == 0), next_row, rows + 1)
        by_trigger = np.minimum.accumulate(at_once[::-1])[::-1]
        upto = np.concatenate([[0], np.cumsum(self._bytes[entered.pdu])])
        by_size = np.searchsorted(upto, upto[:-1] + MAX_DATAGRAM_BYTES, side="right") - 1
        unless_full = np.minimum(by_timeout, by_trigger)
        end = np.minimum(unless_full, np.maximum(by_size, next_row))
        replaces = (end < unless_full) & self._last_is_best[entered.socket]

        first = self._chain(entered.pdu, end, unless_full, replaces)
        start, after = first[:-1], end[first[:-1]]
        leave_ns = time_ns[start] + wait_ns[start]
        full = np.flatnonzero(after < unless_full[start])
        leave_ns[full] = time_ns[after[full]]
        triggered = np.flatnonzero(after == by_trigger[start])
        leave_ns[triggered] = time_ns[after[triggered] - 1]
        return first, leave_ns

    def _chain(self, pdu: IntArray, end: IntArray, unless_full: IntArray, replaces: BoolArray) -> IntArray:
        """The rows at which datagrams begin, given where one that begins at a row ends; `end` is corrected.

        Where a PDU takes its own place again, a datagram holds more rows than the sum of their bytes says:
        `replaces` marks where that is to be found out, up to `unless_full`.
        """
        ends, inexact = end.tolist(), replaces.tolist()
        first, row = [], 0
        while row < len(ends):
            first.append(row)
            if inexact[row]:
                ends[row] = end[row] = self._end_of_distinct(pdu, row, int(unless_full[row]))
            row = ends[row]
        return np.array([*first, row], np.int64)

    def _end_of_distinct(self, pdu: IntArray, row: int, limit: int) -> int:
        room = MAX_DATAGRAM_BYTES
        held: set[int] = set()
        for at in range(row, limit):
            if (index := int(pdu[at])) not in held:
                room -= int(self._bytes[index])
                if room < 0 and held:
                    return at
                held.add(index)
        return limit

    def _replaced(self, wire: Wire) -> Wire:
        """In `last_is_best` sockets, a datagram holds a PDU once, where it came first, as it came last."""
        rows = np.flatnonzero(self._last_is_best[wire.socket])
        place = wire.datagram[rows] * len(self._trigger) + wire.pdu[rows]
        order = np.argsort(place, kind="stable")
        rows, changes = rows[order], np.diff(place[order]) != 0
        is_first, is_last = np.append(True, changes), np.append(changes, True)
        if not len(rows) or is_first.all():
            return wire
        first, last = rows[is_first], rows[is_last]
        for column in (wire.handed_ns, wire.counter, wire.changes, wire.data_ns, wire.value):
            column[first] = column[last]
        kept = np.ones(len(wire), np.bool_)
        kept[rows[~is_first]] = False
        return wire.take(kept)

    def _numbered(self, wire: Wire) -> Wire:
        if len(wire):
            number = np.cumsum(np.append(False, np.diff(wire.datagram) != 0))
            wire.datagram = (self._datagrams + number) * DATAGRAM_STEP
            self._datagrams += int(number[-1]) + 1
        return wire
