"""Traces whose clock is set by an hour in the middle."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ecustream.events import Event
from tests.reliability.order import see
from tests.reliability.row import Row, Scale, times
from tests.reliability.traces import Packet, demo_packets

__all__ = ["measure", "stepped"]

HOUR_NS = 3_600_000_000_000
CLEAN_NS = 5_500_000_000
"""The demo trace begins with so much traffic without a fault."""
PLACES: dict[Scale, Sequence[float]] = {"short": (0.4,), "long": tuple(i / 20 for i in range(4, 16))}
MOST_MESSAGES = 20
"""Of one silence of everything, with its updates; a storm would have hundreds."""


def stepped(packets: Sequence[Packet], begin: float, end: float, step_ns: int) -> list[Packet]:
    """The packets with another time for a share of them, such as 0.5 to 1 for the second half."""
    first, last = round(begin * len(packets)), round(end * len(packets))
    return [
        Packet(packet.time_ns + step_ns * (first <= i < last), packet.data)
        for i, packet in enumerate(packets)
    ]


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`."""
    packets = [packet for packet in demo_packets() if packet.time_ns - demo_packets()[0].time_ns < CLEAN_NS]
    gap, silence = Counter(capture_gap=1), Counter(silence=1)
    # A trace has no other clock: an hour without a packet may as well be an hour in which none came.
    cases = {
        "back": (1.0, -HOUR_NS, gap),
        "forward": (1.0, HOUR_NS, silence),
        "forward and back again": (0.75, HOUR_NS, gap + silence),
    }
    found: list[str] = []
    holds = not see(folder, "clean", packets).events
    for what, (end, step_ns, wanted) in cases.items():
        seen = [
            see(folder, f"{what}-{place}".replace(" ", "-"), stepped(packets, place, end, step_ns))
            for place in PLACES[scale]
            if place < end
        ]
        fine = [
            each.ledger.balanced() and _episodes(each.events) == wanted and len(each.events) <= MOST_MESSAGES
            for each in seen
        ]
        holds = holds and all(fine)
        told = sum((_episodes(each.events) for each in seen), Counter[str]())
        most = max(len(each.events) for each in seen)
        episodes = ", ".join(f"{count} {kind}" for kind, count in sorted(told.items()))
        found.append(f"{what}, {times(len(seen))}: {episodes or 'nothing'}, in {most} messages at most")
    return Row(
        "the clock of a recorded trace is set by an hour",
        f"the first {CLEAN_NS / 1e9:g} s of the demo trace, which have no fault; promised: one "
        "capture_gap for a "
        "step back, one silence for a step forward, which in a trace looks like an hour without traffic",
        "; ".join(found),
        holds,
    )


def _episodes(events: list[Event]) -> Counter[str]:
    return Counter(event.kind for event in events if event.phase == "open")
