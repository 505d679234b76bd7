"""How much a vehicle sends while it drives."""

from collections import defaultdict

import numpy as np

from training.draws import IntArray, below, make_key
from training.simulate.vehicle import ModeModel, PduModel, Vehicle

__all__ = ["expected_datagram_rate", "expected_pdu_rate", "send_rate"]

US = 1_000
MS = 1_000_000
S = 1_000_000_000

ESTIMATE_NS = 2 * S


def expected_pdu_rate(vehicle: Vehicle) -> float:
    """PDUs on the wire per second while it drives, each copy counted; modes are active for their share."""
    return sum(send_rate(vehicle, pdu) * len(pdu.sockets) for pdu in vehicle.pdus)


def expected_datagram_rate(vehicle: Vehicle) -> float:
    """Datagrams and gPTP frames per second while it drives, from the due times of what is cyclic.

    Gaps and jitter of the tasks are left out, and so is what datagrams hold at most. What goes out on change
    of a cyclic PDU is taken to share datagrams that leave anyway.
    """
    times: dict[int, list[IntArray]] = defaultdict(list)
    triggers: dict[int, list[IntArray]] = defaultdict(list)
    alone = 0.0
    for index, pdu in enumerate(vehicle.pdus):
        if pdu.cycle_ns is None:
            alone += send_rate(vehicle, pdu) * len(pdu.sockets)
            continue
        for socket in pdu.sockets:
            time_ns = _due_ns(vehicle, index, socket)
            times[socket].append(time_ns)
            leaves_at_once = pdu.trigger or vehicle.sockets[socket].collect_ns == 0
            triggers[socket].append(np.full(len(time_ns), leaves_at_once, dtype=np.int64))
    datagrams = 0
    for socket, parts in times.items():
        time_ns, trigger = np.concatenate(parts), np.concatenate(triggers[socket])
        order = np.argsort(time_ns, kind="stable")
        datagrams += _count_datagrams(
            time_ns[order].tolist(), trigger[order].tolist(), vehicle.sockets[socket].collect_ns
        )
    return alone + datagrams * S / ESTIMATE_NS


def send_rate(vehicle: Vehicle, pdu: PduModel) -> float:
    """Sends per second on each of its sockets."""
    if pdu.role == "reply" and pdu.replies_to is not None:
        return send_rate(vehicle, vehicle.pdus[pdu.replies_to])
    rate = 0.0
    if pdu.cycle_ns is not None:
        rate = S / pdu.cycle_ns
    if pdu.mode is not None:
        mode = vehicle.modes[pdu.mode]
        if pdu.fast_cycle_ns is not None:
            rate += _active_share(mode) * (S / pdu.fast_cycle_ns - rate)
        elif pdu.announces:
            rate += 2 * S / (mode.active_ns + mode.idle_ns) * (1 + pdu.repetitions)
    if pdu.event_interval_ns:
        burst_ns = pdu.repetitions * pdu.repetition_activations * vehicle.ecus[pdu.ecu].raster_ns
        rate += S / (pdu.event_interval_ns + burst_ns) * (1 + pdu.repetitions)
    return rate


def _active_share(mode: ModeModel) -> float:
    return mode.active_ns / (mode.active_ns + mode.idle_ns)


def _due_ns(vehicle: Vehicle, index: int, socket: int) -> IntArray:
    """When a cyclic PDU reaches a socket within `ESTIMATE_NS`; its mode is active at first."""
    pdu = vehicle.pdus[index]
    ecu = vehicle.ecus[pdu.ecu]
    assert pdu.cycle_ns is not None
    first_ns = ecu.anchor_ns + pdu.phase * ecu.raster_ns
    # A place in the task's order is worth a microsecond, which keeps the order.
    first_ns += index % 1000 * US
    if pdu.forwarded:
        first_ns = int(below(make_key("estimate", index), np.array([0]), pdu.cycle_ns)[0])
    time_ns = np.arange(first_ns, ESTIMATE_NS, pdu.cycle_ns)
    if pdu.fast_cycle_ns is not None and pdu.mode is not None:
        until_ns = int(_active_share(vehicle.modes[pdu.mode]) * ESTIMATE_NS)
        fast_ns = np.arange(first_ns % pdu.fast_cycle_ns, until_ns, pdu.fast_cycle_ns)
        time_ns = np.concatenate([fast_ns, time_ns[time_ns >= until_ns]])
    if pdu.forwarded or vehicle.sockets[socket].ecu != pdu.ecu:
        time_ns = time_ns + below(make_key("estimate", index, socket), np.arange(len(time_ns)), 2 * MS)
    return time_ns


def _count_datagrams(time_ns: list[int], trigger: list[int], collect_ns: int) -> int:
    count = 0
    leaves_ns = -1
    for now_ns, at_once in zip(time_ns, trigger, strict=True):
        if now_ns > leaves_ns:
            count += 1
            leaves_ns = now_ns + collect_ns
        if at_once:
            leaves_ns = -1
    return count
