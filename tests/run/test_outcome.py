"""What several traces have seen, together."""

from ecustream.ledger import Ledger
from ecustream.run.outcome import Outcome, sum_of_ledgers
from ecustream.run.summary import EpisodeSummary, PduSummary, RunSummary


def part(first_ns: int, *pdus: PduSummary, **keys: object) -> RunSummary:
    """What one trace has seen."""
    summary = RunSummary("run", Ledger(), {}, first_ns=first_ns, **keys)  # type: ignore[arg-type]
    summary.pdus = {pdu.name: pdu for pdu in pdus}
    return summary


def test_adds_up_what_the_traces_have_seen() -> None:
    """Episodes, PDUs and traffic are those of all traces, and each trace keeps its own."""
    one = part(7, PduSummary("A", "E", 1, 7, 9, 3, 1, 5.0, "one"), PduSummary("B", "E", 1, 8), traffic_s=2.0)
    two = part(5, PduSummary("A", "E", 1, 5, 6, 4, 2, 4.0, "two"), traffic_s=3.0, unknown_lines=2)
    one.episodes.update(["silence"])
    two.episodes.update(["silence", "anomaly"])
    one.ended.append(EpisodeSummary(8, "silence", "why"))
    outcome = Outcome("run", Ledger(), {}, traces={"one": one, "two": two})
    outcome.gather()
    assert outcome.pdus["A"] == PduSummary("A", "E", 1, 5, 9, 7, 3, 5.0, "one")
    assert list(outcome.pdus) == ["A", "B"]
    assert (outcome.first_ns, outcome.traffic_s, outcome.unknown_lines) == (5, 5.0, 2)
    assert outcome.episodes == {"silence": 2, "anomaly": 1}
    assert outcome.ended == one.ended
    assert one.pdus["A"].lines == 3


def test_ledgers_add_up() -> None:
    """The sum balances where its parts do, and has their notes."""
    ledgers = [Ledger(), Ledger()]
    for count, ledger in enumerate(ledgers, 1):
        ledger.enter("lines", 3 * count)
        ledger.end("lines", "scored", count)
        ledger.end("lines", "overwritten", 2 * count, reason="backlog")
        ledger.note("time_backwards", count)
    total = sum_of_ledgers(ledgers)
    assert total.as_dict()["lines"] == {"entered": 9, "scored": 3, "overwritten{backlog}": 6}
    assert total.notes == {"time_backwards": 3}
    assert total.balanced()
