"""The summary of a run in the terminal: PDUs, episodes, ledger."""

from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ecustream.flows import flows
from ecustream.run.outcome import Outcome
from ecustream.run.summary import PduSummary, RunSummary
from ecustream.units import duration

__all__ = ["print_summary"]

_MOST_ROWS = 40
_MOST_EPISODES = 20


def print_summary(summary: RunSummary, console: Console) -> None:
    """Print PDUs and episodes, of each trace where there are several, then the counts and the ledger.

    The PDUs with episodes come first.
    """
    traces = summary.traces if isinstance(summary, Outcome) else {}
    # The times of a trace count from its beginning; an interface has none, and its episodes bear UTC.
    live = isinstance(summary, Outcome) and bool(summary.interfaces)
    if len(traces) > 1:
        for trace, part in traces.items():
            console.print(trace, style="bold", markup=False, highlight=False)
            _print_seen(part, console, live=live)
            _print_counts(part, "", console)
            console.print()
    else:
        _print_seen(summary, console, live=live)
    if isinstance(summary, Outcome) and summary.interfaces:
        console.print(f"captured on {', '.join(summary.interfaces)}", highlight=False, markup=False)
    if summary.interrupted:
        console.print(f"interrupted after {summary.traffic_s:.1f} s of traffic", highlight=False)
    if isinstance(summary, Outcome) and summary.overloaded_s:
        skipped = summary.ledger.ended("lines", "overwritten")
        console.print(
            f"overloaded for {summary.overloaded_s:.1f} s, {skipped:,} lines were skipped", highlight=False
        )
    scored = summary.ledger.ends["lines"]["scored"]
    rate = scored / summary.seconds if summary.seconds > 0 else 0.0
    _print_counts(summary, f" in {summary.seconds:.1f} s, {rate:,.0f} lines/s", console)
    if isinstance(summary, Outcome) and summary.served:
        console.print(f"model: {summary.served}", highlight=False, markup=False)
    for sentence in summary.ledger.sentences():
        console.print(sentence, highlight=False, markup=False)
    console.print("the ledger balances" if summary.ledger.balanced() else "THE LEDGER DOES NOT BALANCE")


def _print_seen(summary: RunSummary, console: Console, *, live: bool) -> None:
    pdus = sorted(_titled(summary), key=lambda row: (-row[1].episodes, -row[1].worst_nats, row[0]))
    shown = pdus[: max(_MOST_ROWS, sum(pdu.episodes > 0 for _, pdu in pdus))]
    console.print(_table(shown))
    if len(pdus) > len(shown):
        console.print(f"and {len(pdus) - len(shown)} more PDUs without an episode")
    most = _MOST_EPISODES if console.is_terminal else len(summary.ended)
    for episode in sorted(summary.ended)[:most]:
        when = f"{(episode.start_ns - summary.first_ns) / 1e9:10.3f} s"
        if live:
            when = datetime.fromtimestamp(episode.start_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        console.print(f"{when}  {episode.kind}: {episode.reason}", markup=False, highlight=False)
    if summary.episodes.total() > most:
        console.print(f"and more episodes, {summary.episodes.total()} in all; --events FILE has them")


def _print_counts(summary: RunSummary, rate: str, console: Console) -> None:
    counts = ", ".join(f"{n} {kind}" for kind, n in sorted(summary.episodes.items()))
    scored = summary.ledger.ends["lines"]["scored"]
    console.print(
        f"episodes: {counts or 'none'}, in {summary.traffic_s:.1f} s of traffic; {scored:,} lines{rate}",
        highlight=False,
    )


def _titled(summary: RunSummary) -> list[tuple[str, PduSummary]]:
    """The PDUs with what to call them: one with several senders or destinations has a row for each."""
    words = flows({key: pdu.name for key, pdu in summary.pdus.items()})
    return [(f"{pdu.name} {words[key]}".rstrip(), pdu) for key, pdu in summary.pdus.items()]


def _table(pdus: list[tuple[str, PduSummary]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("PDU", overflow="fold", max_width=30)
    for heading, side in (("lines", "right"), ("cycle", "right"), ("episodes", "right")):
        table.add_column(heading, justify=side, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("worst")
    for title, pdu in pdus:
        cycle = duration(pdu.cycle_ns) if pdu.cycle_ns else "-"
        table.add_row(escape(title), f"{pdu.lines:,}", cycle, str(pdu.episodes or "-"), _worst(pdu))
    return table


def _worst(pdu: PduSummary) -> str:
    """What its worst episode was about, in few words; the whole sentence is in the event."""
    what = pdu.worst_reason.split(";", 1)[0]
    if not what or what.startswith(f"{pdu.name} "):
        return what.removeprefix(f"{pdu.name} ")
    if what.startswith("nothing "):
        return f"with all of {pdu.source}"
    return f"with {what.split(' ', 1)[0]}"
