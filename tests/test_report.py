"""The summary that a run prints."""

import io

from rich.console import Console

from ecustream.ledger import Ledger
from ecustream.report import print_summary
from ecustream.run.outcome import Outcome
from ecustream.run.summary import PduSummary, RunSummary


def printed(*keys: str) -> str:
    """The summary of a run that saw a line of each key."""
    summary = RunSummary("run", Ledger(), {})
    for key in keys:
        name, source, *_ = key.split("|")
        summary.pdus[key] = PduSummary(name, source, 10_000_000, 0, lines=1)
    out = io.StringIO()
    print_summary(summary, Console(file=out, width=120))
    return out.getvalue()


def test_interrupted_run_says_so() -> None:
    """A summary of a part of the trace is not taken for that of the whole."""
    out = io.StringIO()
    print_summary(RunSummary("run", Ledger(), {}, traffic_s=19.66, interrupted=True), Console(file=out))
    assert "interrupted after 19.7 s of traffic" in out.getvalue()


def test_pdu_with_one_flow_has_its_name_alone() -> None:
    """Where a name says enough, no address is shown."""
    assert "ESC_03      1  10.0 ms" in printed("ESC_03|ETH1|[fd53::1]:1|[ff14::2]:2")


def test_flows_of_one_name_are_told_apart() -> None:
    """Several destinations are named, or several senders where the destination is one."""
    sender, other = "[fd53::1]:1", "[fd53::9]:1"
    text = printed(f"A|ETH1|{sender}|[ff14::2]:2", f"A|ETH1|{sender}|[ff14::3]:2")
    assert "A to [ff14::2]:2" in text
    assert "A to [ff14::3]:2" in text
    assert "A to [ff14::3]:2" in printed(f"A|ETH1|{sender}|[ff14::2]:2", f"A|ETH2|{sender}|[ff14::3]:2")
    text = printed(f"A|ETH1|{sender}|[ff14::2]:2", f"A|ETH1|{other}|[ff14::2]:2")
    assert f"A from {sender}" in text
    assert f"A from {other}" in text


def test_several_traces_are_told_apart() -> None:
    """Each trace has its PDUs and counts under its name, then come the counts of all."""
    parts = {}
    for trace, name in (("a.pcap", "ESC_03"), ("b.pcap", "ACC_06")):
        parts[trace] = RunSummary("run", Ledger(), {}, traffic_s=2.5)
        parts[trace].pdus[name] = PduSummary(name, "ETH1", 10_000_000, 0, lines=7)
        parts[trace].ledger.end("lines", "scored", 7)
    outcome = Outcome("run", Ledger(), {}, seconds=2.0, traces=parts)
    outcome.ledger.end("lines", "scored", 14)
    outcome.gather()
    out = io.StringIO()
    print_summary(outcome, Console(file=out, width=120))
    text = out.getvalue()
    order = ["a.pcap", "ESC_03      7", "in 2.5 s of traffic; 7 lines\n", "b.pcap", "ACC_06      7"]
    order.append("in 5.0 s of traffic; 14 lines in 2.0 s, 7 lines/s")
    at = [text.index(words) for words in order]
    assert at == sorted(at)
    assert text.count("ESC_03") == 1
    assert "overloaded" not in text


def test_overload_is_told() -> None:
    """The summary says for how long the machine could not keep up, and what that cost."""
    outcome = Outcome("run", Ledger(), {}, overloaded_s=7.61)
    outcome.ledger.end("lines", "overwritten", 24646, reason="backlog")
    out = io.StringIO()
    print_summary(outcome, Console(file=out))
    assert "overloaded for 7.6 s, 24,646 lines were skipped" in out.getvalue()
