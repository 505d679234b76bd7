"""What a run saw: its PDUs, episodes, ledger and problems."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ecustream.events import Event
from ecustream.ledger import Ledger
from ecustream.traffic import Line

__all__ = ["EpisodeSummary", "PduSummary", "RunSummary"]

_MOST_EPISODES = 1000


class EpisodeSummary(NamedTuple):
    """An episode that ended: when it began in capture time, its kind, and its reason."""

    start_ns: int
    kind: str
    reason: str


@dataclass
class PduSummary:
    """What a run saw of one PDU; `worst_nats` is the strongest evidence of an episode it took part in.

    `first_ns` and `last_ns` are the capture times of its first and its last line.
    """

    name: str
    source: str
    cycle_ns: int
    first_ns: int
    last_ns: int = 0
    lines: int = 0
    episodes: int = 0
    worst_nats: float = 0.0
    worst_reason: str = ""


@dataclass
class RunSummary:
    """The outcome of a run.

    Attributes:
        run: its id.
        ledger: where every frame, PDU, line and event ended.
        cycles_ns: PDU keys that the bundle knows, with their learned cycles.
        seconds: wall time it took.
        first_score_s: wall time until the first line was scored.
        traffic_s: capture time from its first to its last line.
        episodes: how many of each kind were opened.
        ended: the first thousand episodes, in the order in which they ended.
        first_ns: capture time of the first line.
        pdus: by key, in order of first sight.
        unknown_lines: lines of PDUs that the bundle does not know.
        problems: one sentence for each thing that went wrong and did not end the run.
        interrupted: whether it was stopped before the end of the trace.
    """

    run: str
    ledger: Ledger
    cycles_ns: Mapping[str, int]
    seconds: float = 0.0
    first_score_s: float = 0.0
    traffic_s: float = 0.0
    episodes: Counter[str] = field(default_factory=Counter)
    ended: list[EpisodeSummary] = field(default_factory=list)
    first_ns: int = 0
    pdus: dict[str, PduSummary] = field(default_factory=dict)
    unknown_lines: int = 0
    problems: list[str] = field(default_factory=list)
    interrupted: bool = False

    def count(self, lines: Sequence[Line]) -> None:
        """Take lines that were scored."""
        keys = [line.stream.key for line in lines]
        last = dict(zip(keys, lines, strict=True))
        for key, count in Counter(keys).items():
            pdu = self.pdus.get(key)
            if pdu is None:
                first = lines[keys.index(key)]
                pdu = self.pdus[key] = PduSummary(
                    first.stream.name, first.stream.source, self.cycles_ns.get(key, 0), first.time_ns
                )
            pdu.lines += count
            pdu.last_ns = last[key].time_ns
            if key not in self.cycles_ns:
                self.unknown_lines += count

    def take(self, event: Event) -> None:
        """Take an event that was emitted."""
        if event.phase == "open":
            self.episodes[event.kind] += 1
        elif event.phase == "close":
            if len(self.ended) < _MOST_EPISODES:
                self.ended.append(EpisodeSummary(event.start_ns, event.kind, event.reason))
            names = {pdu.name for pdu in event.pdus}
            for pdu in self.pdus.values():
                if pdu.name in names and pdu.source == event.source:
                    pdu.episodes += 1
                    if event.score.evidence > pdu.worst_nats:
                        pdu.worst_nats, pdu.worst_reason = event.score.evidence, event.reason
