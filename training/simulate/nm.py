"""Start sequences: how network management and service discovery begin, and the control bit vector."""

from dataclasses import replace

from training.simulate.clock import Clock
from training.simulate.segments import FOREVER, Segment, overlay
from training.simulate.vehicle import PduModel

__all__ = [
    "ACTIVE_WAKEUP",
    "COORDINATOR_SLEEP_READY",
    "REPEAT_MESSAGE",
    "nm_shutdown",
    "nm_start",
    "sd_start",
]

MS = 1_000_000
REPEAT_MESSAGE = 1 << 0
COORDINATOR_SLEEP_READY = 1 << 3
ACTIVE_WAKEUP = 1 << 4

REPEAT_MESSAGE_NS = 1_000 * MS
BURST_MESSAGES = 5
BURST_CYCLE_NS = 20 * MS
SD_REPETITION_NS = 30 * MS
SD_REPETITIONS = 3
LAST_MESSAGES = 3


def nm_start(pdu: PduModel, clock: Clock, start_ns: int, waker: bool) -> list[Segment]:
    """An NM message from a node's start for ever: burst, Repeat Message, Normal Operation.

    Args:
        pdu: the NM message.
        clock: its clock.
        start_ns: when the node starts.
        waker: it wakes the others.
    """
    cycle_ns = pdu.cycle_ns or 0
    step = clock.activations(BURST_CYCLE_NS)
    first = clock.first_from(start_ns)
    last = first + (BURST_MESSAGES - 1) * step
    value = REPEAT_MESSAGE | (ACTIVE_WAKEUP if waker else 0)
    burst_end_ns = clock.time_ns(last) + 1
    # The cycle counts from the burst's last message.
    shift = _shift_to(pdu, clock, last, cycle_ns)
    normal_ns = max(burst_end_ns, start_ns + REPEAT_MESSAGE_NS)
    burst_ns = step * clock.raster_ns
    return [
        Segment(start_ns, burst_end_ns, burst_ns, _shift_to(pdu, clock, first, burst_ns), value=value),
        Segment(burst_end_ns, normal_ns, cycle_ns, shift, value=value),
        Segment(normal_ns, FOREVER, cycle_ns, shift),
    ]


def nm_shutdown(segments: list[Segment], off_ns: int, stop_ns: int) -> list[Segment]:
    """A coordinator's NM segments: its last messages before `stop_ns` say that it is ready to sleep."""
    from_ns = max(off_ns, stop_ns - LAST_MESSAGES * segments[-1].cycle_ns)
    return overlay(
        segments,
        from_ns,
        stop_ns,
        lambda segment: replace(segment, value=segment.value | COORDINATOR_SLEEP_READY),
    )


def sd_start(pdu: PduModel, clock: Clock, start_ns: int) -> list[Segment]:
    """Service offers from their first for ever: repetitions at growing distance, then the cycle."""
    cycle_ns = pdu.cycle_ns or 0
    at = clock.first_from(start_ns)
    segments = []
    step = clock.activations(SD_REPETITION_NS)
    for repetition in range(SD_REPETITIONS):
        end_ns = clock.time_ns(at) + 1
        segments.append(Segment(start_ns, end_ns, cycle_ns, _shift_to(pdu, clock, at, cycle_ns)))
        start_ns = end_ns
        at += step << repetition
    segments.append(Segment(start_ns, FOREVER, cycle_ns, _shift_to(pdu, clock, at, cycle_ns)))
    return segments


def _shift_to(pdu: PduModel, clock: Clock, activation: int, cycle_ns: int) -> int:
    return (activation - pdu.phase) % clock.activations(cycle_ns)
