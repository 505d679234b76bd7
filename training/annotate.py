"""The command `annotate`: the rule annotator over a trace that was recorded or simulated."""

import statistics
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ecustream.decode.csv_lines import is_csv_trace
from ecustream.decode.names import NameTable
from ecustream.errors import ConfigError, InputError, OutputError
from ecustream.ledger import Ledger
from ecustream.progress import WorkProgress
from ecustream.run.source import TraceLines
from ecustream.traffic import Flow, Line, Stream
from ecustream.units import duration
from training.annotator import AnnotationSummary, CycleTimeCheck, UnreliableAnnotator
from training.cycle_time_check import MessageStatistics
from training.labels import encode, read_labels

__all__ = ["Messages", "annotate_command"]

_LEAST_DISTANCES, _MOST_DISTANCES = 20, 1000
_REGULAR_SHARE, _REGULAR_WITHIN = 0.9, 0.2


@dataclass(slots=True)
class _Message:
    """One message: its PDU, its cycle as the names have it, and its first distances where they have none."""

    number: int
    name: str
    checked: bool
    cycle_ns: int | None
    distances_ns: "array[int]"


class Messages:
    """The messages of a trace (a PDU from one sender to one receiver) and their GenMsgCycleTime.

    Args:
        names: whose cycles count.
        headerless_checked: PDUs without an id are checked, too; otherwise they are not, as they are network
            management as a rule. Those that are named without an id never are.
    """

    def __init__(self, names: NameTable, headerless_checked: bool) -> None:
        self._names = names
        self._headerless_checked = headerless_checked
        self._by_key: dict[str, _Message] = {}

    def number_of(self, stream: Stream) -> int:
        """The number of a stream's message; a new one at first sight."""
        return self._find(stream).number

    def learn(self, lines: Iterable[Line]) -> None:
        """Take the distances of lines."""
        for line in lines:
            message = self._find(line.stream)
            wanted = message.checked and message.cycle_ns is None
            if wanted and line.delta_ns is not None and len(message.distances_ns) < _MOST_DISTANCES:
                message.distances_ns.append(line.delta_ns)

    def names(self) -> list[str]:
        """The PDU of each message, by number."""
        return [message.name for message in self._by_key.values()]

    def cycles_ns(self) -> list[int]:
        """GenMsgCycleTime of each message, by number; 0 where it is not checked.

        That of the names; else the median distance, if it has 20 distances and nine in ten of them (of the
        first 1000) are within 20 % of it.
        """
        return [
            0 if not m.checked else _learned(m.distances_ns) if m.cycle_ns is None else m.cycle_ns
            for m in self._by_key.values()
        ]

    def _find(self, stream: Stream) -> _Message:
        message = self._by_key.get(stream.key)
        if message is None:
            message = self._by_key[stream.key] = self._new(stream)
        return message

    def _new(self, stream: Stream) -> _Message:
        flow = Flow(stream.source, None, stream.src, stream.sport, stream.dst, stream.dport)
        rows = [
            row
            for row in self._names.rows
            # A line does not tell its VLAN, so any will do.
            if row.name == stream.name and row._replace(vlan=None).matches(flow)
        ]
        headerless = any(row.pdu_id is None for row in rows)
        if stream.pdu_id is None and not self._headerless_checked:
            headerless = True
        cycle_ns = next((row.cycle_ns for row in rows if row.cycle_ns is not None), None)
        return _Message(len(self._by_key), stream.name, not headerless, cycle_ns, array("q"))


def _learned(distances_ns: Sequence[int]) -> int:
    if len(distances_ns) < _LEAST_DISTANCES:
        return 0
    median_ns = round(statistics.median(distances_ns))
    regular = sum(abs(distance - median_ns) <= _REGULAR_WITHIN * median_ns for distance in distances_ns)
    return median_ns if regular >= _REGULAR_SHARE * len(distances_ns) else 0


def annotate_command(
    trace: Annotated[Path, typer.Argument(help="Capture (.pcap, .pcapng) or CSV, also .gz.")],
    out: Annotated[Path, typer.Option(help="File for the annotations, one JSON object a line.")],
    names: Annotated[
        Path | None,
        typer.Option(
            help="PDU names (CSV) with cycle_ms. A PDU without a cycle there is checked against its median "
            "distance, if nine in ten of its first 1000 distances (at least 20) are within 20 % of that."
        ),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="True faults (JSON lines), to judge by.")] = None,
    min_rel: Annotated[float, typer.Option(help="Shortest distance in cycles; 0: any.")] = 0.8,
    max_rel: Annotated[float, typer.Option(help="Longest distance in cycles; 0: any.")] = 1.2,
    recall: Annotated[float | None, typer.Option(help="Annotate at most this share of the faults.")] = None,
    precision: Annotated[float | None, typer.Option(help="Share of annotations that are true.")] = None,
    lateness_ms: Annotated[
        float | None, typer.Option(help="How late they are, in the mean.", max=60_000)
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws what is wrong with them.")] = 0,
) -> None:
    """Annotate a trace by CANoe's relative cycle time check, and as unreliably as asked for.

    Network management (PDUs without an id) is not checked. The trace is read twice.
    """
    if labels is None and not (recall is None and precision is None):
        raise ConfigError("--recall and --precision need the true faults: give --labels")
    if out in (trace, names, labels):
        raise ConfigError(f"--out {out}: is one of the files to be read")
    table = NameTable([]) if names is None else NameTable.load(names)
    truth = None if labels is None else read_labels(labels)
    messages = Messages(table, headerless_checked=is_csv_trace(trace))
    for lines in _read(trace, table, "learning cycles"):
        messages.learn(lines)
    cycles_ns = messages.cycles_ns()
    if not any(cycles_ns):
        raise InputError(f"{trace}: no PDU has a cycle in a name table, and none comes regularly")
    check = CycleTimeCheck(cycles_ns, min_rel, max_rel)
    lateness_ns = None if lateness_ms is None else round(lateness_ms * 1e6)
    annotator = UnreliableAnnotator(check, messages.names(), recall, precision, lateness_ns, seed)
    for lines in _read(trace, table, "annotating"):
        annotator.feed(
            np.array([messages.number_of(line.stream) for line in lines], dtype=np.int64),
            np.array([line.time_ns for line in lines], dtype=np.int64),
        )
    annotations = annotator.finish(truth)
    try:
        out.write_bytes(b"".join(encode(label) for label in annotations))
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror}") from None
    Console(width=None if sys.stdout.isatty() else 160).print(_table(check.statistics(), messages.names()))
    print(f"{out}: {_sentence(annotator.summary, sum(cycle > 0 for cycle in cycles_ns))}")


def _read(trace: Path, names: NameTable, title: str) -> Iterator[list[Line]]:
    """The lines of the trace; sentences on damage go to stderr at the end."""
    with (
        closing(TraceLines(trace, Ledger(), names=names)) as lines_of,
        WorkProgress(title, lines_of.total_bytes) as progress,
    ):
        for lines in lines_of:
            yield lines
            progress.update(lines_of.bytes_read)
        damage = lines_of.damage
    for sentence in damage:
        print(f"{title}: {sentence}", file=sys.stderr)


def _table(rows: Sequence[MessageStatistics], names: Sequence[str]) -> Table:
    """The messages that violated the rule, those with the most events first."""
    table = Table(box=None, pad_edge=False)
    table.add_column("PDU", no_wrap=True)
    for heading in ("GenMsgCycleTime", "min", "max", "avg", "stddev", "NumEvents"):
        table.add_column(heading, justify="right", no_wrap=True)
    violated = [row for row in rows if row.num_events]
    for row in sorted(violated, key=lambda row: (-row.num_events, names[row.message])):
        times_ns = (row.cycle_ns, row.min_ns, row.max_ns, row.avg_ns, row.stddev_ns)
        table.add_row(escape(names[row.message]), *map(duration, times_ns), f"{row.num_events:,}")
    return table


def _sentence(summary: AnnotationSummary, checked: int) -> str:
    text = f"{summary.annotations:,} annotations of {summary.events:,} events, {checked} messages checked"
    if summary.invented:
        text += f", {summary.invented:,} invented"
    if summary.faults is None:
        return text
    shares = [
        f"{name} {'-' if share is None else format(share, '.3f')}"
        for name, share in (("recall", summary.recall), ("precision", summary.precision))
    ]
    return f"{text}; {summary.annotated_faults} of {summary.faults} faults annotated: {', '.join(shares)}"
