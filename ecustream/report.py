"""The summary of a run in the terminal: PDUs, episodes, ledger."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ecustream.flows import flows
from ecustream.summary import PduSummary, RunSummary
from ecustream.units import duration

__all__ = ["print_summary"]

_MOST_ROWS = 40
_MOST_EPISODES = 20


def print_summary(summary: RunSummary, console: Console) -> None:
    """Print a table of the PDUs, those with episodes first, then the episodes by kind and the ledger."""
    pdus = sorted(_titled(summary), key=lambda row: (-row[1].episodes, -row[1].worst_nats, row[0]))
    shown = pdus[: max(_MOST_ROWS, sum(pdu.episodes > 0 for _, pdu in pdus))]
    console.print(_table(shown))
    if len(pdus) > len(shown):
        console.print(f"and {len(pdus) - len(shown)} more PDUs without an episode")
    most = _MOST_EPISODES if console.is_terminal else len(summary.ended)
    for episode in sorted(summary.ended)[:most]:
        after_s = (episode.start_ns - summary.first_ns) / 1e9
        console.print(f"{after_s:10.3f} s  {episode.kind}: {episode.reason}", markup=False, highlight=False)
    if summary.episodes.total() > most:
        console.print(f"and more episodes, {summary.episodes.total()} in all; --events FILE has them")
    if summary.interrupted:
        console.print(f"interrupted after {summary.traffic_s:.1f} s of traffic", highlight=False)
    counts = ", ".join(f"{n} {kind}" for kind, n in sorted(summary.episodes.items()))
    scored = summary.ledger.ends["lines"]["scored"]
    rate = scored / summary.seconds if summary.seconds > 0 else 0.0
    console.print(
        f"episodes: {counts or 'none'}, in {summary.traffic_s:.1f} s "
        f"of traffic; {scored:,} lines in {summary.seconds:.1f} s, {rate:,.0f} lines/s",
        highlight=False,
    )
    for sentence in summary.ledger.sentences():
        console.print(sentence, highlight=False, markup=False)
    console.print("the ledger balances" if summary.ledger.balanced() else "THE LEDGER DOES NOT BALANCE")


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
    return f"with {what.split(' ', 1)[0]}"
