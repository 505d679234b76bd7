"""What the PDUs of a vehicle carry: an alive counter and signals that change slowly."""

import numpy as np
import numpy.typing as npt

from training.simulate.schedule import IntArray, Sends
from training.simulate.vehicle import SIGNALS, Vehicle

__all__ = ["PayloadWriter"]

COUNTER_BYTE = 1
CHANGE_BYTE = 2


class PayloadWriter:
    """Payloads of the PDUs in order of sending; it keeps each PDU's counters from call to call.

    Low nibble of byte 1: alive counter, one more with every message whether or not it reaches the wire.
    Byte 2: number of changes of an event or on-change signal. Three further bytes go up and down slowly.
    Arithmetic is in integers, so that the bytes are the same on every machine.
    """

    def __init__(self, vehicle: Vehicle) -> None:
        longest = max(pdu.length for pdu in vehicle.pdus)
        self._constant = np.zeros((len(vehicle.pdus), longest), dtype=np.uint8)
        for index, pdu in enumerate(vehicle.pdus):
            self._constant[index, : pdu.length] = np.frombuffer(pdu.constant, dtype=np.uint8)
        self._constant[:, COUNTER_BYTE] &= 0xF0
        self._constant[:, CHANGE_BYTE] = 0
        # Shape (SIGNALS, PDUs) each.
        self._byte, self._step_ns, self._amplitude, self._offset = np.array(
            [pdu.signals for pdu in vehicle.pdus], dtype=np.int64
        ).T
        self._sent = np.zeros(len(vehicle.pdus), dtype=np.int64)
        self._changes = np.zeros(len(vehicle.pdus), dtype=np.int64)

    def fill(self, sends: Sends) -> npt.NDArray[np.uint8]:
        """The payloads of a table, shape (rows, longest PDU), zero beyond a PDU's length."""
        payload = self._constant[sends.pdu]
        one = np.ones(len(sends), dtype=np.int64)
        payload[:, COUNTER_BYTE] |= (_running_count(sends.pdu, one, self._sent) & 0x0F).astype(np.uint8)
        changes = _running_count(sends.pdu, sends.change.astype(np.int64), self._changes)
        payload[:, CHANGE_BYTE] = changes & 0xFF
        rows = np.arange(len(sends))
        for signal in range(SIGNALS):
            amplitude = self._amplitude[signal, sends.pdu]
            step = sends.time_ns // self._step_ns[signal, sends.pdu] + self._offset[signal, sends.pdu]
            payload[rows, self._byte[signal, sends.pdu]] = np.abs(step % (2 * amplitude) - amplitude)
        return payload


def _running_count(pdu: IntArray, amount: IntArray, counts: IntArray) -> IntArray:
    """Each row's count of its PDU, its own amount included; `counts` by PDU is taken on and moved on."""
    order = np.argsort(pdu, kind="stable")
    total = np.cumsum(amount[order])
    group = pdu[order]
    first = np.searchsorted(group, group, side="left")
    running = np.empty_like(total)
    running[order] = total - total[first] + amount[order][first] + counts[group]
    np.add.at(counts, pdu, amount)
    return running
