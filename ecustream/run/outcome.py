"""The outcome of a run over one trace or several: what was seen of each, and all of it together."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ecustream.ledger import BOOKS, Ledger
from ecustream.run.summary import PduSummary, RunSummary

__all__ = ["Outcome", "pdus_of_all", "sum_of_ledgers"]


@dataclass
class Outcome(RunSummary):
    """A `RunSummary` of all traces together; its `traffic_s` is the sum of theirs.

    Attributes:
        traces: that of each trace, by name.
        overloaded_s: wall time during which more came than could be scored.
        served: how the model was served, in words.
        interfaces: those that were captured on; empty for traces.
    """

    traces: dict[str, RunSummary] = field(default_factory=dict)
    overloaded_s: float = 0.0
    served: str = ""
    interfaces: Sequence[str] = ()

    def take_over(self, served: str, cycles_ns: Mapping[str, int]) -> None:
        """Another bundle is in force: how it is served, and the PDUs that it knows with their cycles."""
        self.served, self.cycles_ns = served, cycles_ns
        for part in self.traces.values():
            part.cycles_ns = cycles_ns
            for key, pdu in part.pdus.items():
                pdu.cycle_ns = cycles_ns.get(key, 0)

    def gather(self) -> None:
        """Add up what the traces have seen; call it once, when they have ended."""
        parts = list(self.traces.values())
        self.first_ns = min((part.first_ns for part in parts if part.first_ns), default=0)
        self.traffic_s = sum(part.traffic_s for part in parts)
        self.episodes = sum((part.episodes for part in parts), Counter())
        self.ended = [episode for part in parts for episode in part.ended]
        self.pdus = pdus_of_all(parts)
        self.unknown_lines = sum(part.unknown_lines for part in parts)


def pdus_of_all(parts: Iterable[RunSummary]) -> dict[str, PduSummary]:
    """The PDUs of several summaries; one that is in more than one of them is counted together."""
    pdus: dict[str, PduSummary] = {}
    for part in parts:
        for key, pdu in part.pdus.items():
            before = pdus.get(key)
            if before is None:
                pdus[key] = pdu
                continue
            worst = max(before, pdu, key=lambda seen: seen.worst_nats)
            pdus[key] = replace(
                before,
                first_ns=min(before.first_ns, pdu.first_ns),
                last_ns=max(before.last_ns, pdu.last_ns),
                lines=before.lines + pdu.lines,
                episodes=before.episodes + pdu.episodes,
                worst_nats=worst.worst_nats,
                worst_reason=worst.worst_reason,
            )
    return pdus


def sum_of_ledgers(ledgers: Iterable[Ledger]) -> Ledger:
    """One ledger with the counts of all; each thread has its own, because counting takes no lock."""
    total = Ledger()
    for ledger in ledgers:
        for book in BOOKS:
            total.enter(book, ledger.entered[book])
            _add(total.ends[book], ledger.ends[book])
        _add(total.notes, ledger.notes)
    return total


def _add(counts: Counter[str], more: Mapping[str, int]) -> None:
    # The copy is made at once, as another thread may count a new kind of end meanwhile.
    for key, count in dict(more).items():
        counts[key] += count
