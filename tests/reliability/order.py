"""Packets out of order, twice, and several at one time."""

import random
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ecustream.config import load_config
from ecustream.events import Event
from ecustream.knowledge import DEMO_BUNDLE
from ecustream.ledger import Ledger
from tests.reliability.row import Row, Scale, amount
from tests.reliability.traces import SOURCE, Packet, demo_packets, write_pcap
from tests.running import run_offline

__all__ = ["Seen", "episodes", "measure", "see"]

WITHIN_NS = 50_000_000
SMALL_NS = 500_000
STEP_NS = 1_000_000


class Seen(NamedTuple):
    """What a run made of a trace."""

    ledger: Ledger
    events: list[Event]


def see(folder: Path, name: str, packets: list[Packet], **settings: object) -> Seen:
    """Runs over the packets with the demo's bundle."""
    overrides = {"publish.enabled": False, "input.source": SOURCE, **settings}
    trace = write_pcap(folder / f"{name}.pcap", packets)
    config = load_config(None, overrides)
    summary, events = run_offline(trace, DEMO_BUNDLE, folder / f"{name}.jsonl", config)
    return Seen(summary.ledger, events)


def episodes(events: list[Event]) -> Counter[tuple[str, frozenset[str]]]:
    """The episodes as kind and names of PDUs, which do not hang on frame numbers and times."""
    closes = [event for event in events if event.phase == "close"]
    return Counter((event.kind, frozenset(pdu.name for pdu in event.pdus)) for event in closes)


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`."""
    packets = list(demo_packets())
    if scale == "short":
        packets = packets[: len(packets) // 3]
    seen = see(folder, "sorted", packets)
    wanted = episodes(seen.events)
    found: list[str] = []
    holds = True
    for what, changed, same in (
        ("out of order by up to 0.5 ms", _disordered(packets, SMALL_NS), True),
        ("with equal times within each ms", _stepped(packets), True),
        ("out of order by up to 50 ms", _disordered(packets, WITHIN_NS), False),
        ("each hundredth packet twice", _doubled(packets), False),
    ):
        got = see(folder, what.replace(" ", "-"), changed)
        told = episodes(got.events)
        balanced = got.ledger.balanced() and got.ledger.ends["lines"]["scored"] == got.ledger.entered["lines"]
        # Beyond the smallest disorder there are other episodes: it is told, and not smoothed over.
        holds = holds and balanced and (told == wanted if same else bool(told - wanted))
        missing, new = (wanted - told).total(), (told - wanted).total()
        difference = "the same episodes" if told == wanted else f"{missing} episodes gone, {new} others"
        backwards = got.ledger.notes["time_backwards"]
        found.append(
            f"{what}: {difference}, {amount(backwards)} older than their PDU's last line"
            f"{'' if balanced else ', LEDGER NOT BALANCED'}"
        )
    return Row(
        "packets out of order, twice, or at equal times",
        f"{len(packets):,} packets of the demo trace, {wanted.total()} episodes as recorded; promised: "
        "the same "
        "episodes up to 0.5 ms, beyond that a ledger that balances and episodes that tell of the disorder",
        "; ".join(found),
        holds,
    )


def _disordered(packets: list[Packet], within_ns: int) -> list[Packet]:
    chance = random.Random(5)
    return sorted(packets, key=lambda packet: packet.time_ns + chance.randrange(within_ns))


def _stepped(packets: list[Packet]) -> list[Packet]:
    return [Packet(packet.time_ns // STEP_NS * STEP_NS, packet.data) for packet in packets]


def _doubled(packets: list[Packet]) -> list[Packet]:
    return [packet for i, packet in enumerate(packets) for _ in range(1 + (i % 100 == 0))]
