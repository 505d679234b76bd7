"""What the PDUs of a vehicle carry: alive counters, signals, session ids, time stamps."""

import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from training.draws import IntArray
from training.simulate.batch import START_NS
from training.simulate.protocols import follow_up_message, sync_message
from training.simulate.tables import Wire
from training.simulate.vehicle import SIGNALS, Role, Vehicle

__all__ = ["PayloadWriter"]

Payload = npt.NDArray[np.uint8]
Fill = Callable[[Payload, IntArray, Wire], None]

COUNTER_BYTE, CHANGE_BYTE, MODE_BYTE, MODE_BIT = 1, 2, 3, 0x01
# Second half of a SOME/IP header, from the client id on.
SESSION_BYTE, SOMEIP_BYTES = 2, 8
SOMEIP_VERSION, REQUEST, RESPONSE, E_OK = 1, 0x00, 0x80, 0
SESSION_IDS = 0xFFFF
SD_FLAGS_BYTE, REBOOT_FLAG = 8, 0x80
NM_CONTROL_BYTE, NM_NODE_BYTE = 0, 1
SEQUENCE_BYTE, TIMESTAMP_BYTE = 30, 34
NS_PER_S = 1_000_000_000


class PayloadWriter:
    """Writes the payloads of a vehicle's PDUs, each from nothing but its row, in integers throughout.

    - `com`: the low nibble of byte 1 is the alive counter; byte 2 counts the changes of PDUs that are sent
      on change or in bursts; bit 0 of byte 3 is the state that a PDU announces; signals move slowly.
    - `request`, `reply`: the second half of a SOME/IP header, then constant.
    - `sd`: session id and reboot flag in a constant message.
    - `nm`: control bit vector, node id, then constant.
    - `sync`, `follow_up`: messages of IEEE 802.1AS with the sequence id and the time of sending.
    """

    def __init__(self, vehicle: Vehicle) -> None:
        roles: list[Role] = [pdu.role for pdu in vehicle.pdus]
        self._roles = sorted(set(roles))
        self._role = np.array([self._roles.index(role) for role in roles], np.int64)
        self._constant = np.zeros((len(roles), max(pdu.length for pdu in vehicle.pdus)), np.uint8)
        for index, pdu in enumerate(vehicle.pdus):
            self._constant[index, : pdu.length] = np.frombuffer(_template(vehicle, index), np.uint8)
        self._counts_changes = np.array(
            [pdu.send_type in ("mixed", "event") for pdu in vehicle.pdus], np.bool_
        )
        self._announces = np.array([pdu.announces for pdu in vehicle.pdus], np.bool_)
        # Shape (SIGNALS, PDUs) each.
        no_signals = ((0, 1, 1, 0),) * SIGNALS
        self._byte, self._step_ns, self._amplitude, self._offset = np.array(
            [pdu.signals or no_signals for pdu in vehicle.pdus], np.int64
        ).T
        self._fill: dict[Role, Fill] = {
            "com": self._fill_com,
            "request": _fill_call,
            "reply": _fill_call,
            "nm": _fill_nm,
            "sd": _fill_sd,
            "sync": _fill_sync,
            "follow_up": _fill_follow_up,
        }

    def fill(self, wire: Wire) -> Payload:
        """The payloads of a table, shape (rows, longest PDU), zero beyond a PDU's length."""
        payload = self._constant[wire.pdu]
        role = self._role[wire.pdu]
        for index, name in enumerate(self._roles):
            rows = np.flatnonzero(role == index)
            self._fill[name](payload, rows, wire.take(rows))
        return payload

    def _fill_com(self, payload: Payload, rows: IntArray, wire: Wire) -> None:
        payload[rows, COUNTER_BYTE] |= (wire.counter & 0x0F).astype(np.uint8)
        for signal in range(SIGNALS):
            amplitude = self._amplitude[signal, wire.pdu]
            step = wire.data_ns // self._step_ns[signal, wire.pdu] + self._offset[signal, wire.pdu]
            payload[rows, self._byte[signal, wire.pdu]] = np.abs(step % (2 * amplitude) - amplitude)
        counting = self._counts_changes[wire.pdu]
        payload[rows[counting], CHANGE_BYTE] = wire.changes[counting] & 0xFF
        announcing = self._announces[wire.pdu]
        active = (wire.value[announcing] & MODE_BIT).astype(np.uint8)
        payload[rows[announcing], MODE_BYTE] &= 0xFF ^ MODE_BIT
        payload[rows[announcing], MODE_BYTE] |= active


def _template(vehicle: Vehicle, index: int) -> bytes:
    """The payload of a PDU before what changes from message to message."""
    pdu = vehicle.pdus[index]
    ecu = vehicle.ecus[pdu.ecu]
    content = bytearray(pdu.constant)
    match pdu.role:
        case "com":
            content[COUNTER_BYTE] &= 0xF0
        case "request" | "reply":
            request = index if pdu.replies_to is None else pdu.replies_to
            client = vehicle.ecus[vehicle.pdus[request].ecu].node << 8 | request & 0xFF
            kind = REQUEST if pdu.role == "request" else RESPONSE
            content[:SOMEIP_BYTES] = struct.pack(
                ">HHBBBB", client, 0, SOMEIP_VERSION, SOMEIP_VERSION, kind, E_OK
            )
        case "nm":
            content[NM_NODE_BYTE] = ecu.node
        case "sync":
            content[:] = sync_message(ecu.mac)
        case "follow_up":
            content[:] = follow_up_message(ecu.mac)
        case "sd":
            pass
    return bytes(content)


def _fill_call(payload: Payload, rows: IntArray, wire: Wire) -> None:
    _put(payload, rows, SESSION_BYTE, 2, wire.value % SESSION_IDS + 1)


def _fill_sd(payload: Payload, rows: IntArray, wire: Wire) -> None:
    _put(payload, rows, SESSION_BYTE, 2, wire.counter % SESSION_IDS + 1)
    payload[rows, SD_FLAGS_BYTE] &= 0xFF ^ REBOOT_FLAG
    payload[rows[wire.counter < SESSION_IDS], SD_FLAGS_BYTE] |= REBOOT_FLAG


def _fill_nm(payload: Payload, rows: IntArray, wire: Wire) -> None:
    payload[rows, NM_CONTROL_BYTE] = wire.value


def _fill_sync(payload: Payload, rows: IntArray, wire: Wire) -> None:
    _put(payload, rows, SEQUENCE_BYTE, 2, wire.counter)


def _fill_follow_up(payload: Payload, rows: IntArray, wire: Wire) -> None:
    _put(payload, rows, SEQUENCE_BYTE, 2, wire.counter)
    seconds, nanoseconds = np.divmod(START_NS + wire.data_ns, NS_PER_S)
    _put(payload, rows, TIMESTAMP_BYTE, 6, seconds)
    _put(payload, rows, TIMESTAMP_BYTE + 6, 4, nanoseconds)


def _put(payload: Payload, rows: IntArray, at: int, size: int, value: IntArray) -> None:
    """Write the lowest `size` bytes of each value, big-endian."""
    payload[rows, at : at + size] = value.astype(">i8").view(np.uint8).reshape(-1, 8)[:, 8 - size :]
