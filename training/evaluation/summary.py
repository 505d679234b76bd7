"""The report of an evaluation: every detector on every trace, and on all of them together."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training.evaluation.annotations import annotator_quality
from training.evaluation.cases import Case
from training.evaluation.results import Ranked, Row, Told, TraceResult, as_spans
from training.labels import Label
from training.measures.events import EventMeasures, judge_episodes, measure_events
from training.measures.intervals import Intervals, observed_ns, union
from training.measures.rates import Rate
from training.metrics import Span, met

__all__ = [
    "CLEAN",
    "RANKED",
    "counted_hits",
    "covered",
    "curve_rows",
    "curves",
    "facts",
    "measured",
    "outcome",
    "set_aside",
    "totals",
]

RANKED = ("average_precision", "prevalence", "range_auc_pr", "vus_pr", "pate")
CLEAN, _FAULTY = "clean traces", "traces with faults, outside of the faults"


def measured(told: Told, labels: Sequence[Label], result: TraceResult) -> EventMeasures:
    """Episodes of one trace; that a PDU is unknown finds a fault, but is never a false alarm.

    Time counts in which an alarm would be false: neither that of interruptions nor that of faults.
    """
    aside, unknown = set_aside(result), as_spans(told.unknown)
    counts = judge_episodes(unknown, labels, aside).matched.counts
    right = [span for span, tells in zip(unknown, counts, strict=True) if tells]
    quiet = union([*_interruptions(result), *labels])
    ends = np.array([result.first_ns, result.last_ns], np.int64)
    return measure_events(as_spans(told.spans) + right, labels, observed_ns(ends, quiet), aside)


def set_aside(result: TraceResult) -> Intervals:
    """Where the capture of a trace was interrupted."""
    return union(_interruptions(result))


def _interruptions(result: TraceResult) -> list[Span]:
    return [Span(start_ns, end_ns, start_ns) for start_ns, end_ns in result.set_aside]


def counted_hits(told: Told, labels: Sequence[Label], result: TraceResult) -> list[tuple[Label, bool]]:
    """Faults that count, and whether an episode tells each, of an unknown PDU or another."""
    aside = set_aside(result)
    known, unknown = (judge_episodes(as_spans(spans), labels, aside) for spans in (told.spans, told.unknown))
    hits = zip(known.matched.found, unknown.matched.found, strict=True)
    return [(label, one or other) for label, (one, other) in zip(known.counted, hits, strict=True)]


def outcome(told: Told, case: Case, result: TraceResult) -> dict[str, Any]:
    """What episodes are worth on one trace, against its true labels."""
    events = measured(told, case.labels or [], result)
    more: dict[str, Any] = {"excused": events.excused} if events.excused else {}
    if told.unknown:
        elsewhere = _unknown_elsewhere(told, case.labels or [], result)
        more |= {"unknown_pdu": len(told.unknown), "unknown_pdu_elsewhere": elsewhere}
    if case.labels is None:
        seconds = round(events.observed_ns / 1e9, 1)
        return {"episodes": events.episodes, "false": events.false, "seconds": seconds} | more
    kinds: dict[str, list[bool]] = {}
    for label, hit in counted_hits(told, case.labels, result):
        kinds.setdefault(label.kind, []).append(hit)
        if label.severity is not None:
            kinds.setdefault(f"{label.kind} {label.severity:g}", []).append(hit)
    controls: dict[str, list[bool]] = {}
    for control, reported in zip(case.controls, met(as_spans(told.spans), case.controls), strict=True):
        controls.setdefault(control.name, []).append(reported)
    latency_ms = events.latency_quantile_ms(0.5)
    return {
        "found": events.found,
        "labels": events.faults,
        "kinds": {kind: {"found": sum(hits), "of": len(hits)} for kind, hits in sorted(kinds.items())},
        "controls_reported": {
            kind: {"reported": sum(hits), "of": len(hits)} for kind, hits in sorted(controls.items())
        },
        "episodes": events.episodes,
        "false": events.false,
        "median_latency_ms": None if latency_ms is None else round(latency_ms, 1),
    } | more


def _unknown_elsewhere(told: Told, labels: Sequence[Label], result: TraceResult) -> int:
    """Reports of unknown PDUs that would be false if they were told as anything else."""
    return sum(judge_episodes(as_spans(told.unknown), labels, set_aside(result)).false)


def covered(by: str, cases: Mapping[str, Case], results: Mapping[str, TraceResult]) -> float | None:
    """Share of the time of the traces that a judge labelled in which something is labelled; None without."""
    judged = [(results[name], labels) for name, case in cases.items() if (labels := case.labels_by(by))]
    observed = sum(measured(Told([]), [], result).observed_ns for result, _ in judged)
    quiet = sum(measured(Told([]), labels, result).observed_ns for result, labels in judged)
    return 1 - quiet / observed if observed else None


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
        A dictionary each: shares are 0 to 1 and None where there is nothing to share, and are those of traces
        with labels; false alarms an hour, with the exact 95 % interval, are those of the clean traces where
        there are any, else of all outside of their faults; lines and regions are counted over all traces,
        measures of rankings are means over traces.
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
    lines, regions, ranked = [0] * 3, [0] * 4, []
    elsewhere = 0
    for trace, row in of_trace.items():
        labels = cases[trace].labels_by(by)
        if results[trace].fitted_on or row.saw or (labels is None and by != "labels"):
            continue
        total = measured(row.told, labels or [], results[trace])
        elsewhere += _unknown_elsewhere(row.told, labels or [], results[trace])
        if not labels:
            clean += total
            continue
        faulty += total
        lines = [a + b for a, b in zip(lines, row.lines.get(by, (0,) * 3), strict=True)]
        regions = [a + b for a, b in zip(regions, row.regions.get(by, (0,) * 4), strict=True)]
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
        "false_alarms_on": CLEAN if clean.observed_ns else _FAULTY,
        "unknown_pdu_elsewhere": elsewhere,
        "lines": dict(zip(("found", "labelled", "told"), lines, strict=True)),
        "line_recall": _share(lines[0], lines[1]),
        "line_precision": _share(lines[0], lines[2]),
        "regions": dict(zip(("found", "labelled", "right", "told"), regions, strict=True)),
        "region_recall": _share(regions[0], regions[1]),
        "region_precision": _share(regions[2], regions[3]),
        **{what: _mean(ranked, what) for what in RANKED},
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _rate(rate: Rate) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in rate._asdict().items()
    }


def _mean(ranked: Sequence[Ranked], what: str) -> float | None:
    # Where no line is labelled a ranking has no average precision; chance is none to compare with, then.
    of = [one for one in ranked if what != "prevalence" or one.average_precision is not None]
    values = [value for one in of if (value := getattr(one, what)) is not None]
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
            "found": point.found,
            "faults": point.faults,
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
        "warming_lines": result.warming,
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
