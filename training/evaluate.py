"""How good a bundle is on labelled traces, beside the interval rule and each kind of evidence alone."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich.table import Table

from ecustream.decode.names import NameRow, NameTable
from ecustream.decode.state import ActivityState
from ecustream.detect.calibration import Calibration
from ecustream.detect.detector import ALL_EVIDENCE, Detector, Thresholds
from ecustream.detect.perplexity import PerplexityFilter
from ecustream.events import Event
from ecustream.ledger import Ledger
from ecustream.progress import WorkProgress
from ecustream.scores import LineScore
from ecustream.scoring.bundle import Bundle
from ecustream.scoring.manifest import read_bundle
from ecustream.scoring.scorer import Scorer
from ecustream.service import calibration_of
from ecustream.source import TraceLines
from training.baselines import IntervalRule
from training.labels import Label, read_labels
from training.metrics import Span, match

__all__ = ["Candidate", "evaluate", "render"]

_CHUNK_LINES = 512
_RULE_MARGINS = (0.05, 0.1, 0.2)
_PAPER_THRESHOLD, _PAPER_LINES = 1.5, 3
_PERPLEXITY_GRID = tuple(1.5 * 1.15**i for i in range(48))

Machine = Detector | PerplexityFilter | IntervalRule


class Candidate(NamedTuple):
    """A way to detect: its name, and what makes a fresh machine for a trace."""

    name: str
    make: Callable[[], Machine]


def candidates(calibration: Calibration, false_alarms_per_hour: float, join_ns: int) -> list[Candidate]:
    """The detector whole, every kind of evidence alone, the paper's filter, and the interval rule."""
    thresholds = Thresholds.for_budget(calibration, false_alarms_per_hour)

    def detector(evidence: Iterable[str]) -> Callable[[], Detector]:
        return lambda: Detector(calibration, thresholds, join_ns, evidence=frozenset(evidence))

    def paper(threshold: float, lines: int) -> Callable[[], PerplexityFilter]:
        return lambda: PerplexityFilter(threshold, lines, join_ns)

    def rule(margin: float) -> Callable[[], IntervalRule]:
        return lambda: IntervalRule(calibration, margin)

    rows = [Candidate("ecustream", detector(ALL_EVIDENCE))]
    rows += [
        Candidate(f"only {kind}", detector({kind})) for kind in ("interval", "deadline", "delta", "name")
    ]
    rows.append(Candidate("only model (delta, name)", detector({"delta", "name"})))
    rows.append(Candidate("without model", detector({"interval", "deadline"})))
    rows += [Candidate(f"interval rule, margin {margin:g}", rule(margin)) for margin in _RULE_MARGINS]
    rows.append(
        Candidate(f"paper: perplexity > {_PAPER_THRESHOLD}, {_PAPER_LINES} lines", paper(1.5, _PAPER_LINES))
    )
    for lines in (1, _PAPER_LINES):
        rows += [
            Candidate(f"perplexity > {threshold:.2f}, {lines} lines", paper(threshold, lines))
            for threshold in _PERPLEXITY_GRID
        ]
    return rows


def evaluate(
    bundle_path: Path,
    traces: Sequence[Path],
    *,
    names: Path | None = None,
    source: str | None = None,
    false_alarms_per_hour: float = 1.0,
    join_ms: float = 500.0,
) -> dict[str, Any]:
    """Run every candidate over every trace.

    A trace `X.pcapng.gz` with a label file `X.labels.jsonl` beside it is judged by its labels; one
    without is taken for clean, and every episode in it is false. Of the perplexity thresholds, for each
    width the lowest is kept that gives at most two episodes in the clean traces; that is a choice in
    favour of perplexity, which the others do not have.

    Returns:
        `{"bundle", "false_alarms_per_hour", "traces": [...], "rows": [{"name", trace: {...}}]}` with, for
        each trace, either `episodes` and `seconds`, or `found`, `labels`, `false` and latencies.

    Raises:
        EcustreamError: the bundle, a trace or a label file cannot be read.
    """
    files = read_bundle(bundle_path)
    bundle, calibration = Bundle(files), calibration_of(files)
    table = NameTable.load(names) if names else NameTable(msgspec.convert(files.info.names, list[NameRow]))
    cycles = {pdu.key: pdu.cycle_ns for pdu in files.info.pdus if pdu.cycle_ns}
    every = candidates(calibration, false_alarms_per_hour, round(join_ms * 1e6))
    results: dict[str, dict[str, Any]] = {candidate.name: {} for candidate in every}
    for path in traces:
        labels_path = _labels_beside(path)
        labels = read_labels(labels_path) if labels_path.exists() else None
        machines = [candidate.make() for candidate in every]
        events: list[list[Event]] = [[] for _ in every]
        scorer = Scorer(bundle.model, bundle.new_tokenizer(), _CHUNK_LINES)
        state = ActivityState(cycles_ns=cycles)
        first_ns = last_ns = 0
        with (
            TraceLines(path, Ledger(), names=table, key=files.info.key, source=source, state=state) as trace,
            WorkProgress(path.name, trace.total_bytes) as progress,
        ):
            for lines in trace:
                block = scorer.score(lines)
                first_ns, last_ns = first_ns or lines[0].time_ns, lines[-1].time_ns
                rows = list(block.rows())
                for machine, told in zip(machines, events, strict=True):
                    _feed(machine, rows, told)
                progress.update(trace.bytes_read)
        for candidate, machine, told in zip(every, machines, events, strict=True):
            spans, unknown = _spans(machine, told)
            outcome = _judge(spans, labels, (last_ns - first_ns) / 1e9)
            results[candidate.name][_name(path)] = outcome | ({"unknown_pdu": unknown} if unknown else {})
    kept = _keep_best_perplexity(results)
    return {
        "bundle": str(bundle_path),
        "false_alarms_per_hour": false_alarms_per_hour,
        "traces": [_name(path) for path in traces],
        "rows": [{"name": name, **results[name]} for name in kept],
    }


def _feed(
    machine: Detector | PerplexityFilter | IntervalRule, rows: list[LineScore], told: list[Event]
) -> None:
    if isinstance(machine, IntervalRule):
        machine.add(row.line for row in rows)
    else:
        told += machine.step(rows)


def _spans(machine: Detector | PerplexityFilter | IntervalRule, told: list[Event]) -> tuple[list[Span], int]:
    if isinstance(machine, IntervalRule):
        return machine.spans(), 0
    told += machine.finish()
    opened = {event.id: event.decided_ns for event in told if event.phase == "open"}
    closed = [event for event in told if event.phase == "close"]
    spans = [
        Span(event.start_ns, event.end_ns or event.decided_ns, opened[event.id])
        for event in closed
        if event.kind in ("anomaly", "silence")
    ]
    return sorted(spans), sum(event.kind == "unknown_pdu" for event in closed)


def _judge(spans: list[Span], labels: list[Label] | None, seconds: float) -> dict[str, Any]:
    if labels is None:
        return {"episodes": len(spans), "seconds": round(seconds, 1)}
    found = match(spans, labels)
    kinds: dict[str, list[bool]] = {}
    for label, hit in zip(labels, found.found, strict=True):
        kinds.setdefault(label.kind, []).append(hit)
    return {
        "found": sum(found.found),
        "labels": len(labels),
        "kinds": {kind: f"{sum(hits)}/{len(hits)}" for kind, hits in sorted(kinds.items())},
        "episodes": len(spans),
        "false": found.false_episodes,
        "median_latency_ms": round(statistics.median(found.latency_ms), 1) if found.latency_ms else None,
        "most_after_end_ms": round(max(found.latency_after_end_ms), 1) if found.latency_ms else None,
    }


def _keep_best_perplexity(results: dict[str, dict[str, Any]]) -> list[str]:
    kept: list[str] = []
    for name in results:
        if not name.startswith("perplexity"):
            kept.append(name)
            continue
        width = name.rsplit(", ", 1)[1]
        if any(k.startswith("perplexity") and k.endswith(width) for k in kept):
            continue
        clean = [row for row in results[name].values() if "found" not in row]
        if clean and all(row["episodes"] <= 2 for row in clean):
            kept.append(name)
    return kept


def _labels_beside(path: Path) -> Path:
    return path.with_name(f"{_name(path)}.labels.jsonl")


def _name(path: Path) -> str:
    return path.name.split(".", 1)[0]


def render(report: dict[str, Any]) -> Table:
    """The report as a terminal table: found/labels and false episodes, or episodes of a clean trace."""
    table = Table(title=f"{report['bundle']} at {report['false_alarms_per_hour']:g} false alarms an hour")
    table.add_column("detector", no_wrap=True)
    for name in report["traces"]:
        table.add_column(name, justify="right")
    for row in report["rows"]:
        table.add_row(row["name"], *(_cell(row[name]) for name in report["traces"]))
    return table


def _cell(outcome: dict[str, Any]) -> str:
    if "found" not in outcome:
        return f"{outcome['episodes']} false"
    false = f", {outcome['false']} false" if outcome["false"] else ""
    return f"{outcome['found']}/{outcome['labels']}{false}"
