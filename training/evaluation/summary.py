"""The report of an evaluation: every detector on every trace, and on all of them together."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training.evaluation.annotations import annotator_quality
from training.evaluation.cases import Case
from training.evaluation.results import Ranked, Row, Told, TraceResult, as_spans
from training.labels import Label
from training.measures.events import EventMeasures, measure_events
from training.measures.intervals import Intervals, observed_ns, union
from training.measures.rates import Rate
from training.metrics import Span, match, met

__all__ = ["RANKED", "curve_rows", "curves", "facts", "measured", "outcome", "set_aside", "totals"]

RANKED = ("average_precision", "prevalence", "range_auc_pr", "pate")


def measured(told: Told, labels: Sequence[Label], result: TraceResult) -> EventMeasures:
    """Episodes of one trace; that a PDU is unknown finds a fault, but is never a false alarm."""
    unknown = as_spans(told.unknown)
    right = [span for span, counts in zip(unknown, match(unknown, labels).counts, strict=True) if counts]
    aside = set_aside(result)
    ends = np.array([result.first_ns, result.last_ns], np.int64)
    return measure_events(as_spans(told.spans) + right, labels, observed_ns(ends, aside), aside)


def set_aside(result: TraceResult) -> Intervals:
    """Where the capture of a trace was interrupted."""
    return union(Span(start_ns, end_ns, start_ns) for start_ns, end_ns in result.set_aside)


def outcome(told: Told, case: Case, result: TraceResult) -> dict[str, Any]:
    """What episodes are worth on one trace, against its true labels."""
    spans, unknown = as_spans(told.spans), as_spans(told.unknown)
    more = {"unknown_pdu": len(unknown)} if unknown else {}
    if case.labels is None:
        seconds = (result.last_ns - result.first_ns) / 1e9
        return {"episodes": len(spans), "seconds": round(seconds, 1)} | more
    found = match(spans, case.labels)
    by_unknown = match(unknown, case.labels).found
    hits = [known or new for known, new in zip(found.found, by_unknown, strict=True)]
    kinds: dict[str, list[bool]] = {}
    for label, hit in zip(case.labels, hits, strict=True):
        kinds.setdefault(label.kind, []).append(hit)
        if label.severity is not None:
            kinds.setdefault(f"{label.kind} {label.severity:g}", []).append(hit)
    controls: dict[str, list[bool]] = {}
    for control, reported in zip(case.controls, met(spans, case.controls), strict=True):
        controls.setdefault(control.name, []).append(reported)
    latency = found.latency_ms
    return {
        "found": sum(hits),
        "labels": len(case.labels),
        "kinds": {kind: _share(hits) for kind, hits in sorted(kinds.items())},
        "controls_reported": {kind: _share(hits) for kind, hits in sorted(controls.items())},
        "episodes": len(spans),
        "false": found.false_episodes,
        "median_latency_ms": round(statistics.median(latency), 1) if latency else None,
        "most_after_end_ms": round(max(found.latency_after_end_ms), 1) if latency else None,
    } | more


def _share(hits: Sequence[bool]) -> str:
    return f"{sum(hits)}/{len(hits)}"


def totals(
    by: str,
    rows: Mapping[str, Mapping[str, Row]],
    cases: Mapping[str, Case],
    results: Mapping[str, TraceResult],
) -> list[dict[str, Any]]:
    """Every detector over all traces that neither it nor the bundle has learned from.

    Args:
        by: whose labels count, `labels` or `annotator`.
        rows: by name of the detector and of the trace.
        cases: by name.
        results: by name.

    Returns:
        A dictionary each: shares are 0 to 1 and None where there is nothing to share; false alarms an hour,
        with the exact 95 % interval, are those of the clean traces where there are any, else of all; measures
        of lines are means over traces.
    """
    return [_total(by, name, of_trace, cases, results) for name, of_trace in rows.items()]


def _total(
    by: str,
    name: str,
    of_trace: Mapping[str, Row],
    cases: Mapping[str, Case],
    results: Mapping[str, TraceResult],
) -> dict[str, Any]:
    faulty, clean = EventMeasures(), EventMeasures()
    lines, ranked = [0, 0, 0], []
    for trace, row in of_trace.items():
        labels = cases[trace].labels_by(by)
        if results[trace].fitted_on or row.saw or (labels is None and by != "labels"):
            continue
        total = measured(row.told, labels or [], results[trace])
        if labels:
            faulty += total
        else:
            clean += total
        lines = [a + b for a, b in zip(lines, row.lines.get(by, (0, 0, 0)), strict=True)]
        if by in row.ranked:
            ranked.append(row.ranked[by])
    alarms = clean if clean.observed_ns else faulty
    return {
        "name": name,
        "found": faulty.found,
        "faults": faulty.faults,
        "recall": faulty.recall,
        "episodes": faulty.episodes,
        "false": faulty.false,
        "precision": faulty.precision,
        "latency_median_ms": faulty.latency_quantile_ms(0.5),
        "latency_95_ms": faulty.latency_quantile_ms(0.95),
        "false_alarms": _rate(alarms.false_alarms),
        "false_alarms_on": "clean traces" if clean.observed_ns else "traces with faults",
        "line_recall": lines[0] / lines[1] if lines[1] else None,
        "line_precision": lines[0] / lines[2] if lines[2] else None,
        **{what: _mean(ranked, what) for what in RANKED},
    }


def _rate(rate: Rate) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in rate._asdict().items()
    }


def _mean(ranked: Sequence[Ranked], what: str) -> float | None:
    values = [value for one in ranked if (value := getattr(one, what)) is not None]
    return float(np.mean(values)) if values else None


def curves(
    rows: Mapping[str, Mapping[str, Row]], cases: Mapping[str, Case], results: Mapping[str, TraceResult]
) -> dict[str, dict[str, EventMeasures]]:
    """Every detector that was run at several budgets: what it told at each, against the true labels."""
    out: dict[str, dict[str, EventMeasures]] = {}
    for name, of_trace in rows.items():
        points: dict[str, EventMeasures] = {}
        for trace, row in of_trace.items():
            if not (results[trace].fitted_on or row.saw):
                for budget, told in row.at_budgets.items():
                    more = measured(told, cases[trace].labels or [], results[trace])
                    points[budget] = points.get(budget, EventMeasures()) + more
        if points:
            out[name] = dict(sorted(points.items(), key=lambda point: float(point[0])))
    return out


def curve_rows(found: Mapping[str, Mapping[str, EventMeasures]]) -> list[dict[str, Any]]:
    """Curves as they are written down."""
    return [
        {
            "name": name,
            "budget_per_hour": float(budget),
            "recall": point.recall,
            "precision": point.precision,
            "false_alarms": _rate(point.false_alarms),
        }
        for name, points in found.items()
        for budget, point in points.items()
    ]


def facts(result: TraceResult, case: Case) -> dict[str, Any]:
    """What a trace is, and how long it took."""
    return {
        "lines": result.lines,
        "hours": (result.last_ns - result.first_ns) / 3.6e12,
        "faults": len(case.labels or []),
        "annotations": None if case.annotator is None else len(case.annotator),
        "annotator": None
        if case.annotator is None
        else annotator_quality(case.annotator, case.labels or [])._asdict(),
        "interruptions": len(result.set_aside),
        "fitted_on": result.fitted_on,
        "baselines_saw": sorted(row.name for row in result.rows if row.saw),
        "seconds": round(result.seconds, 2),
        "pass_seconds": round(result.pass_seconds, 2),
        "sha256": result.sha256,
    }
