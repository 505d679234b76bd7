"""Merge the senders of a vehicle and its faults into one stream of datagrams in order of time."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecustream.errors import ConfigError
from training.simulate.faults import Fault, Label, plan_faults
from training.simulate.payload import PayloadWriter
from training.simulate.schedule import EcuSender, IntArray, Sends
from training.simulate.vehicle import Vehicle

__all__ = ["START_NS", "Batch", "simulate"]

START_NS = 1_700_000_000_000_000_000
SLICE_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Batch:
    """The datagrams sent in one second of the trace, in order of time.

    Attributes:
        until_ns: the batch ends before this time, nanoseconds since 1970, and the next one begins there.
        time_ns: when each datagram is sent, nanoseconds since 1970, shape (datagrams,).
        sender: index of its ECU in `Vehicle.ecus`, shape (datagrams,).
        first: index of its first PDU in `pdu`, shape (datagrams + 1,); the last is the number of PDUs.
        pdu: index in `Vehicle.pdus`, in the order on the wire, shape (PDUs,).
        payload: uint8, shape (PDUs, longest PDU); a PDU's bytes are the first `length` ones of its row.
        labels: labels of the faults whose effect ended in this second.
    """

    until_ns: int
    time_ns: IntArray
    sender: IntArray
    first: IntArray
    pdu: IntArray
    payload: npt.NDArray[np.uint8]
    labels: tuple[Label, ...]


def simulate(
    vehicle: Vehicle, seconds: float, seed: int, faults: str = "none", start_ns: int = START_NS
) -> Iterator[Batch]:
    """The traffic of a vehicle, second by second.

    The same arguments give the same traffic; a longer run begins with the traffic of a shorter one. A
    level of faults changes only what the labels name. Memory does not grow with `seconds`.

    Args:
        vehicle: from `draw_vehicle`.
        seconds: length of the trace, more than 0.
        seed: draws jitter, events and faults; 0 or more.
        faults: a key of `FAULT_LEVELS`.
        start_ns: start of the trace, nanoseconds since 1970.

    Raises:
        ConfigError: an argument is out of its range.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(f"--seconds {seconds:g}: a trace must last longer than 0 s")
    if seed < 0:
        raise ConfigError(f"--seed {seed}: a seed is 0 or more")
    return _batches(vehicle, seconds, seed, plan_faults(vehicle, seconds, seed, faults), start_ns)


def _batches(
    vehicle: Vehicle, seconds: float, seed: int, faults: list[Fault], start_ns: int
) -> Iterator[Batch]:
    senders = [EcuSender(vehicle, ecu, seed) for ecu in range(len(vehicle.ecus))]
    payloads = PayloadWriter(vehicle)
    sender_of = np.array([pdu.ecu for pdu in vehicle.pdus], dtype=np.int64)
    end_ns = round(seconds * 1e9)
    datagrams = 0
    # Sent in an activation before the slice's end, but on the wire after it.
    pending: list[tuple[Sends, npt.NDArray[np.uint8]]] = []
    for lower_ns in range(0, end_ns, SLICE_NS):
        upper_ns = lower_ns + SLICE_NS
        tables = []
        for sender in senders:
            table = sender.advance(upper_ns)
            table.datagram += datagrams
            datagrams += len(table)
            tables.append(table)
        sends = Sends.join(tables)
        for fault in faults:
            # One slice early, because a send of this slice may leave in the next.
            if fault.at_ns < upper_ns + SLICE_NS:
                sends = fault.apply(sends)
        pending.append((sends, payloads.fill(sends)))
        ended = [fault for fault in faults if fault.until_ns <= upper_ns]
        faults = [fault for fault in faults if fault.until_ns > upper_ns]

        sends = Sends.join([part for part, _ in pending])
        payload = np.concatenate([part for _, part in pending])
        now = sends.sent & (sends.time_ns < min(upper_ns, end_ns))
        later = sends.sent & (sends.time_ns >= upper_ns)
        pending = [(sends.take(later), payload[later])]
        sends, payload = sends.take(now), payload[now]
        order = np.lexsort((sends.datagram, sends.time_ns))
        sends, payload = sends.take(order), payload[order]
        is_first = np.ones(len(sends), dtype=np.bool_)
        is_first[1:] = np.diff(sends.datagram) != 0
        first = np.flatnonzero(is_first)
        yield Batch(
            until_ns=start_ns + min(upper_ns, end_ns),
            time_ns=start_ns + sends.time_ns[first],
            sender=sender_of[sends.pdu[first]],
            first=np.append(first, len(sends)),
            pdu=sends.pdu,
            payload=payload,
            labels=tuple(fault.label(start_ns) for fault in ended),
        )
