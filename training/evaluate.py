"""How good a bundle is on labelled traces, beside the interval rule and each kind of evidence alone."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.table import Table

from ecustream.decode.names import NameTable
from ecustream.decode.state import ActivityState
from ecustream.detect.calibration import Calibration
from ecustream.detect.detector import ALL_EVIDENCE, Detector, Thresholds
from ecustream.detect.perplexity import PerplexityFilter
from ecustream.events import Event
from ecustream.knowledge import calibration_of, names_of
from ecustream.ledger import Ledger
from ecustream.progress import WorkProgress
from ecustream.run.gaps import split_at_gaps
from ecustream.run.source import TraceLines
from ecustream.scores import FIELD_DELTA, FIELD_NAME, LineScore, ScoreBlock
from ecustream.scoring.bundle import Bundle
from ecustream.scoring.manifest import read_bundle
from training.baselines import IntervalRule, threshold_spans
from training.labels import Context, Label, beside, read_context, read_labels
from training.metrics import Span, match, met

__all__ = ["Candidate", "evaluate", "render", "render_kinds"]

_CHUNK_LINES = 512
_RULE_MARGINS = (0.05, 0.1, 0.2)
_PAPER_THRESHOLD, _PAPER_LINES = 1.5, 3
_GRID = tuple(1.2**i for i in range(64, -8, -1))
_MOST_CLEAN_EPISODES = 2

_SCORES_ALONE = (
    ("perplexity", 1),
    ("perplexity", _PAPER_LINES),
    ("delta surprisal", 1),
    ("name surprisal", 1),
)
"""Single scores and how many consecutive lines must exceed a threshold."""

Machine = Detector | PerplexityFilter | IntervalRule


class Candidate(NamedTuple):
    """A way to detect: its name, and what makes a fresh machine for a trace."""

    name: str
    make: Callable[[], Machine]


class _Scores:
    """Collects the scores of a trace as arrays, one entry a line."""

    def __init__(self, calibration: Calibration) -> None:
        self._of_key = {pdu.key: pdu for pdu in calibration.pdus}
        self._times: list[npt.NDArray[np.int64]] = []
        self._columns: dict[str, list[npt.NDArray[np.float64]]] = {
            "perplexity": [],
            "delta surprisal": [],
            "name surprisal": [],
        }

    def add(self, block: ScoreBlock) -> None:
        """Take a chunk; surprisal counts in mean excesses above the PDU's own onset."""
        self._times.append(np.array([line.time_ns for line in block.lines]))
        self._columns["perplexity"].append(np.where(block.warming, 0.0, block.perplexity()))
        pdus = [self._of_key.get(line.stream.key) for line in block.lines]
        settled = np.array([pdu is not None for pdu in pdus]) & ~block.warming
        for name, column in (("delta", FIELD_DELTA), ("name", FIELD_NAME)):
            onset = np.array([getattr(pdu, f"{name}_onset_nats", 0.0) for pdu in pdus])
            scale = np.array([getattr(pdu, f"{name}_scale_nats", 1.0) for pdu in pdus])
            excess = np.nan_to_num((block.field_nats[:, column] - onset) / scale)
            self._columns[f"{name} surprisal"].append(np.where(settled, excess, 0.0))

    def arrays(self) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.float64]]]:
        """Times and columns of the whole trace."""
        columns = {name: np.concatenate(parts) for name, parts in self._columns.items()}
        return np.concatenate(self._times), columns


class _Judged(NamedTuple):
    """A trace that was scored: its labels (None: it is clean), controls, times and score columns."""

    name: str
    labels: list[Label] | None
    controls: list[Context]
    times: npt.NDArray[np.int64]
    columns: dict[str, npt.NDArray[np.float64]]

    def spans(self, column: str, threshold: float, width: int, join_ns: int) -> list[Span]:
        """Episodes of one score and a threshold."""
        return threshold_spans(self.times, self.columns[column], threshold, width, join_ns)

    def outcome(self, spans: list[Span], unknown: Sequence[Span] = ()) -> dict[str, Any]:
        """What episodes are worth on this trace; an unknown PDU finds a fault, but is never a false alarm."""
        if self.labels is None:
            seconds = float(self.times[-1] - self.times[0]) / 1e9
            return {"episodes": len(spans), "seconds": round(seconds, 1)}
        found = match(spans, self.labels)
        by_unknown = match(unknown, self.labels).found
        hits = [known or new for known, new in zip(found.found, by_unknown, strict=True)]
        kinds: dict[str, list[bool]] = {}
        for label, hit in zip(self.labels, hits, strict=True):
            kinds.setdefault(label.kind, []).append(hit)
            if label.severity is not None:
                kinds.setdefault(f"{label.kind} {label.severity:g}", []).append(hit)
        controls: dict[str, list[bool]] = {}
        for control, reported in zip(self.controls, met(spans, self.controls), strict=True):
            controls.setdefault(control.name, []).append(reported)
        latency = found.latency_ms
        return {
            "found": sum(hits),
            "labels": len(self.labels),
            "kinds": {kind: _share(hits) for kind, hits in sorted(kinds.items())},
            "controls_reported": {kind: _share(hits) for kind, hits in sorted(controls.items())},
            "episodes": len(spans),
            "false": found.false_episodes,
            "median_latency_ms": round(statistics.median(latency), 1) if latency else None,
            "most_after_end_ms": round(max(found.latency_after_end_ms), 1) if latency else None,
        }


def _share(hits: Sequence[bool]) -> str:
    return f"{sum(hits)}/{len(hits)}"


def candidates(calibration: Calibration, false_alarms_per_hour: float, join_ns: int) -> list[Candidate]:
    """The detector whole, every kind of evidence alone, the paper's filter, and the interval rule."""
    thresholds = Thresholds.for_budget(calibration, false_alarms_per_hour)

    def detector(evidence: Iterable[str]) -> Callable[[], Detector]:
        return lambda: Detector(calibration, thresholds, join_ns, evidence=frozenset(evidence))

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
        Candidate(
            f"paper: perplexity > {_PAPER_THRESHOLD}, {_PAPER_LINES} lines",
            lambda: PerplexityFilter(_PAPER_THRESHOLD, _PAPER_LINES, join_ns),
        )
    )
    return rows


def evaluate(
    bundle_path: Path,
    traces: Sequence[Path],
    *,
    names: Path | None = None,
    source: str | None = None,
    loggers: Mapping[str, str] | None = None,
    false_alarms_per_hour: float = 1.0,
    join_ms: float = 500.0,
) -> dict[str, Any]:
    """Run every candidate over every trace.

    A trace `X.pcapng.gz` with a label file `X.labels.jsonl` beside it is judged by its labels; one
    without, or with an empty one, is taken for clean, and every episode in it is false. Controls in
    `X.context.jsonl` must not be reported. For single scores (perplexity, the
    standardised surprisal of one field) the lowest threshold is kept that gives at most two episodes in
    each clean trace: that is a choice made on the test, in their favour, which the others do not have.

    Returns:
        `{"bundle", "false_alarms_per_hour", "traces": [...], "rows": [{"name", trace: {...}}]}` with, for
        each trace, either `episodes` and `seconds`, or `found`, `labels`, `false` and latencies.

    Raises:
        EcustreamError: the bundle, a trace or a label file cannot be read.
    """
    files = read_bundle(bundle_path)
    bundle, calibration = Bundle(files), calibration_of(files)
    table = NameTable.load(names) if names else names_of(files.info)
    cycles = {pdu.key: pdu.cycle_ns for pdu in files.info.pdus if pdu.cycle_ns}
    join_ns = round(join_ms * 1e6)
    every = candidates(calibration, false_alarms_per_hour, join_ns)
    results: dict[str, dict[str, Any]] = {candidate.name: {} for candidate in every}
    judged: list[_Judged] = []
    for path in traces:
        labels_path, context_path = beside(path, "labels"), beside(path, "context")
        labels = (read_labels(labels_path) if labels_path.exists() else []) or None
        context = read_context(context_path) if context_path.exists() else []
        controls = [row for row in context if row.kind == "control"]
        machines = [candidate.make() for candidate in every]
        events: list[list[Event]] = [[] for _ in every]
        scores = _Scores(calibration)
        scorer = bundle.new_scorer()
        stream = scorer.open_stream()
        state = ActivityState(cycles_ns=cycles)
        lines_of = TraceLines(
            path, Ledger(), names=table, key=files.info.key, source=source, loggers=loggers, state=state
        )
        with (
            closing(lines_of) as trace,
            WorkProgress(path.name, trace.total_bytes) as progress,
        ):
            last_ns = 0
            for lines in trace:
                breaks = trace.breaks_up_to(lines[-1].number) if lines else []
                for part, gap in split_at_gaps(lines, trace.losses, last_ns, breaks=breaks):
                    if gap:
                        stream.reset()
                        last_ns = part[0].time_ns
                    block = scorer.score([(stream, part)])[0]
                    scores.add(block)
                    rows = list(block.rows())
                    for machine, told in zip(machines, events, strict=True):
                        _feed(machine, rows, told, gap)
                    last_ns = max(last_ns, part[-1].time_ns)
                progress.update(trace.bytes_read)
        judged.append(_Judged(_name(path), labels, controls, *scores.arrays()))
        for candidate, machine, told in zip(every, machines, events, strict=True):
            spans, unknown = _spans(machine, told)
            outcome = judged[-1].outcome(spans, unknown)
            results[candidate.name][_name(path)] = outcome | (
                {"unknown_pdu": len(unknown)} if unknown else {}
            )
    for column, width in _SCORES_ALONE:
        threshold = _lowest_quiet(judged, column, width, join_ns)
        if threshold is not None:
            lines_text = "1 line" if width == 1 else f"{width} lines"
            results[f"{column} > {threshold:.3g}, {lines_text}, best"] = {
                trace.name: trace.outcome(trace.spans(column, threshold, width, join_ns)) for trace in judged
            }
    return {
        "bundle": str(bundle_path),
        "false_alarms_per_hour": false_alarms_per_hour,
        "traces": [_name(path) for path in traces],
        "rows": [{"name": name, **row} for name, row in results.items()],
    }


def _feed(machine: Machine, rows: list[LineScore], told: list[Event], gap: str) -> None:
    if isinstance(machine, IntervalRule):
        machine.add(row.line for row in rows)
        return
    if gap:
        told += machine.gap(rows[0].line.time_ns, rows[0].line.stream.source, gap)
    told += machine.step(rows)


def _spans(machine: Machine, told: list[Event]) -> tuple[list[Span], list[Span]]:
    """Episodes of known PDUs, and of unknown ones."""
    if isinstance(machine, IntervalRule):
        return machine.spans(), []
    told += machine.finish()
    opened = {event.id: event.decided_ns for event in told if event.phase == "open"}
    spans: dict[str, list[Span]] = {}
    for event in told:
        if event.phase == "close":
            span = Span(event.start_ns, event.end_ns or event.decided_ns, opened[event.id])
            spans.setdefault(event.kind, []).append(span)
    known = spans.get("anomaly", []) + spans.get("silence", [])
    return sorted(known), sorted(spans.get("unknown_pdu", []))


def _lowest_quiet(judged: Sequence[_Judged], column: str, width: int, join_ns: int) -> float | None:
    """Going down from the highest threshold, the last before a clean trace has too many episodes."""
    clean = [trace for trace in judged if trace.labels is None]
    best = None
    for threshold in _GRID if clean else ():
        if any(len(t.spans(column, threshold, width, join_ns)) > _MOST_CLEAN_EPISODES for t in clean):
            break
        best = threshold
    return best


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


def render_kinds(report: dict[str, Any]) -> Table:
    """Found of labelled by kind and severity, and controls that were reported, over all labelled traces."""
    detectors = [row for row in report["rows"] if not row["name"].endswith("best")]
    table = Table(title="found by kind of fault and severity; controls reported")
    table.add_column("kind", no_wrap=True)
    for row in detectors:
        table.add_column(row["name"], justify="right")
    for part in ("kinds", "controls_reported"):
        kinds = sorted({kind for row in detectors for t in report["traces"] for kind in row[t].get(part, {})})
        for kind in kinds:
            shares = [
                [row[t][part][kind] for t in report["traces"] if kind in row[t].get(part, {})]
                for row in detectors
            ]
            table.add_row(
                kind if part == "kinds" else f"control: {kind}", *(_total(cells) for cells in shares)
            )
        table.add_section()
    return table


def _total(shares: Sequence[str]) -> str:
    pairs = [share.split("/") for share in shares]
    return f"{sum(int(found) for found, _ in pairs)}/{sum(int(count) for _, count in pairs)}"


def _cell(outcome: dict[str, Any]) -> str:
    if "found" not in outcome:
        return f"{outcome['episodes']} false"
    false = f", {outcome['false']} false" if outcome["false"] else ""
    return f"{outcome['found']}/{outcome['labels']}{false}"
