"""The parts that a scenario is made of: phases of the vehicle, and segments of a PDU's schedule."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["FOREVER", "Phase", "PhaseKind", "ScheduleEdit", "Segment", "clip", "overlay"]

PhaseKind = Literal["asleep", "startup", "drive", "shutdown"]

FOREVER = 1 << 61
"""Later than any trace; its negative is earlier."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the day, from the start of the trace; phases follow each other without gap."""

    kind: PhaseKind
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Segment:
    """How a PDU is sent for a while.

    In cycles: in the activations k with nominal time in [start_ns, end_ns) in which (k - phase - shift) is a
    multiple of the cycle in activations.

    Attributes:
        start_ns: from the start of the trace, on the trace's clock.
        end_ns: the end, excluded.
        cycle_ns: 0: not in cycles. (Events are sent on top where `events` says so.)
        shift: activations by which its phase is moved.
        events: sends on change, bursts, requests and mode announcements go out.
        value: control bit vector of an NM message; else 0.
    """

    start_ns: int
    end_ns: int
    cycle_ns: int
    shift: int = 0
    events: bool = True
    value: int = 0


@dataclass(frozen=True, slots=True)
class ScheduleEdit:
    """A fault's change of a PDU's schedule while the PDU is sent, in [start_ns, end_ns).

    Attributes:
        pdu: index in `Vehicle.pdus`.
        start_ns: from the start of the trace.
        end_ns: the end, excluded.
        cycle_ns: the cycle in place of the usual one, a multiple of the raster; None: the usual.
        shift: activations by which the phase is moved.
        mode_active: the PDU behaves as if its mode were active (True) or idle (False); None: as it is.
        keeps_on: it is sent although the vehicle's state would have it silent.
    """

    pdu: int
    start_ns: int
    end_ns: int
    cycle_ns: int | None = None
    shift: int = 0
    mode_active: bool | None = None
    keeps_on: bool = False


def overlay(
    segments: Iterable[Segment], start_ns: int, end_ns: int, change: Callable[[Segment], Segment]
) -> list[Segment]:
    """The segments with their parts in [start_ns, end_ns) changed."""
    result = []
    for segment in segments:
        low_ns, high_ns = max(segment.start_ns, start_ns), min(segment.end_ns, end_ns)
        if low_ns >= high_ns:
            result.append(segment)
            continue
        if segment.start_ns < low_ns:
            result.append(replace(segment, end_ns=low_ns))
        result.append(change(replace(segment, start_ns=low_ns, end_ns=high_ns)))
        if high_ns < segment.end_ns:
            result.append(replace(segment, start_ns=high_ns))
    return result


def clip(segments: Iterable[Segment], start_ns: int, end_ns: int) -> list[Segment]:
    """The parts of the segments in [start_ns, end_ns)."""
    return [
        replace(segment, start_ns=max(segment.start_ns, start_ns), end_ns=min(segment.end_ns, end_ns))
        for segment in segments
        if max(segment.start_ns, start_ns) < min(segment.end_ns, end_ns)
    ]
