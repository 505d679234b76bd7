"""What a run counts of the lines it scored."""

from ecustream.ledger import Ledger
from ecustream.run.summary import PduSummary, RunSummary
from ecustream.traffic import STATE_NORMAL, Line, Stream


def test_lines_are_counted_by_pdu_over_all_chunks() -> None:
    """Of each PDU: how many lines, the first and the last of them, its cycle; those not known are counted."""
    a, b, again = (
        Stream(i, key, key, "ETH1", "10.0.0.1", 1, "10.0.0.2", 2) for i, key in enumerate(("A", "B", "A"))
    )
    lines = [Line(n, n + 1, 10 * n, (b, a, b, again, b)[n], STATE_NORMAL, None) for n in range(5)]
    summary = RunSummary("R", Ledger(), {"A": 7})
    summary.count(lines[:3])
    summary.count(lines[3:])
    assert summary.pdus == {
        "B": PduSummary("B", "ETH1", 0, first_ns=0, last_ns=40, lines=3),
        "A": PduSummary("A", "ETH1", 7, first_ns=10, last_ns=30, lines=2),
    }
    assert list(summary.pdus) == ["B", "A"]
    assert summary.unknown_lines == 3
