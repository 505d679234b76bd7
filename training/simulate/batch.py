"""A slice of a trace as it leaves the simulation: datagrams, what they carry, and what is true of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.draws import IntArray
from training.labels import Context, Label

__all__ = ["SLICE_NS", "START_NS", "Batch"]

START_NS = 1_700_000_000_000_000_000
SLICE_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Batch:
    """The datagrams sent in one second of the trace, in order of sending.

    Attributes:
        until_ns: the batch ends before this time, nanoseconds since 1970, and the next one begins there.
        time_ns: when each datagram is sent, nanoseconds since 1970, shape (datagrams,).
        stamp_ns: the capture's timestamp of it: `time_ns` but where the logger's clock is wrong.
        lost_before: how many frames the capture lost just before this one, shape (datagrams,).
        socket: index of its socket in the simulation's sockets, shape (datagrams,).
        first: index of its first PDU in `pdu`, shape (datagrams + 1,); the last is the number of PDUs.
        pdu: index in `Vehicle.pdus`, in the order on the wire, shape (PDUs,).
        payload: uint8, shape (PDUs, longest PDU); a PDU's bytes are the first `length` ones of its row.
        labels: the faults whose effect ended in this second.
        context: what else ended in this second: activity states, modes, controls.
    """

    until_ns: int
    time_ns: IntArray
    stamp_ns: IntArray
    lost_before: IntArray
    socket: IntArray
    first: IntArray
    pdu: IntArray
    payload: npt.NDArray[np.uint8]
    labels: tuple[Label, ...]
    context: tuple[Context, ...]
