"""Two bundles on the same traces, line by line: what one tells and the other does not."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ecustream.errors import InputError
from training.baselines.columns import PduNumbers, joined
from training.evaluation.candidates import DETECTOR, Running, told_lines
from training.evaluation.cases import Case
from training.evaluation.judging import Judged, Plan, detector_at, told_of
from training.evaluation.results import Other, Told, TraceResult, as_spans
from training.evaluation.scan import Opened, scan
from training.evaluation.summary import counted_hits, set_aside
from training.labels import Label
from training.measures.events import judge_episodes
from training.measures.intervals import Intervals
from training.metrics import Span

__all__ = ["compare_lines", "differences"]


def compare_lines(
    case: Case,
    judged: Judged,
    other: Opened,
    plan: Plan,
    progress: Callable[[int], None] = lambda bytes_read: None,
) -> Other:
    """Score a trace with another bundle, and compare the lines that both detectors tell.

    Args:
        case: the trace.
        judged: what the first bundle told.
        other: the other bundle; it reads the trace with its own names.
        plan: of the evaluation.
        progress: is told how many bytes were read.

    Raises:
        InputError: the bundles read other lines from the trace.
    """
    running = Running(detector_at(other.calibration, plan.budget_per_hour, plan.join_ns))
    numbers = PduNumbers()
    columns = []
    for scored in scan(other, case.path):
        running.feed(scored)
        lines = scored.block.lines
        columns.append(numbers.columns(lines))
        progress(scored.bytes_read)
    read = joined(columns)
    if not np.array_equal(read.time_ns, judged.scores.times_ns):
        raise InputError(
            f"{case.path}: {other.path} reads other lines from it; the bundles cannot be compared"
        )
    episodes = running.finish()
    order = np.argsort(read.time_ns, kind="stable")
    old = np.zeros(len(order), np.bool_)
    old[order] = told_lines(episodes, read.time_ns[order], numbers.names, read.pdu[order])
    new = judged.told
    parts = (new & ~old, old & ~new, new & old)
    only_new, only_old, both = (int(part.sum()) for part in parts)
    of_judge = {
        by: (int((parts[0] & mark).sum()), int((parts[1] & mark).sum()), int((parts[2] & mark).sum()))
        for by, mark in judged.labelled.items()
    }
    learned = case.sha256 in other.fitted_on()
    return Other(told_of(episodes), only_new, only_old, both, of_judge, learned)


def differences(path: str, cases: Mapping[str, Case], results: Mapping[str, TraceResult]) -> dict[str, Any]:
    """What the first bundle finds that the other does not, and the reverse.

    Args:
        path: of the other bundle.
        cases: by name.
        results: by name; those that were not compared are left out, and what one of the bundles has learned
            from.

    Returns:
        Counts of lines, faults found by one alone, and false episodes that the other one has nothing at; the
        names of traces that were left out.
    """
    lines = {"only_new": 0, "only_old": 0, "both": 0}
    labelled = dict(lines)
    found: dict[str, list[dict[str, Any]]] = {"only_new": [], "only_old": []}
    counts = {"both": 0, "neither": 0}
    false = {"only_new": 0, "only_old": 0, "new": 0, "old": 0}
    left_out = []
    for name, result in results.items():
        row, other = result.row(DETECTOR), result.other
        if row is None or other is None:
            continue
        if result.fitted_on or other.fitted_on:
            left_out.append(name)
            continue
        for key in lines:
            lines[key] += getattr(other, key)
        for key, count in zip(labelled, other.lines.get("labels", (0, 0, 0)), strict=True):
            labelled[key] += count
        labels = cases[name].labels or []
        new_hits, old_hits = (counted_hits(told, labels, result) for told in (row.told, other.told))
        for (label, new), (_, old) in zip(new_hits, old_hits, strict=True):
            if new == old:
                counts["both" if new else "neither"] += 1
            else:
                found["only_new" if new else "only_old"].append(_fault(name, label))
        aside = set_aside(result)
        for one, told, another in (("new", row.told, other.told), ("old", other.told, row.told)):
            of_one = _false(told, labels, aside)
            false[one] += len(of_one)
            others = as_spans(another.spans)
            false[f"only_{one}"] += sum(not _meets(span, others) for span in of_one)
    return {
        "bundle": path,
        "lines": lines,
        "labelled_lines": labelled,
        "faults": {**counts, **{key: len(rows) for key, rows in found.items()}},
        "found": found,
        "false": false,
        "left_out": left_out,
    }


def _false(told: Told, labels: Sequence[Label], aside: Intervals) -> list[Span]:
    spans = as_spans(told.spans)
    judged = judge_episodes(spans, labels, aside)
    return [span for span, false in zip(spans, judged.false, strict=True) if false]


def _meets(span: Span, others: Sequence[Span]) -> bool:
    return any(other.start_ns <= span.end_ns and span.start_ns <= other.end_ns for other in others)


def _fault(trace: str, label: Label) -> dict[str, Any]:
    at = datetime.fromtimestamp(label.start_ns // 1_000_000_000, UTC)
    return {
        "trace": trace,
        "kind": label.kind,
        "pdus": label.pdus,
        "severity": label.severity,
        "start_ns": label.start_ns,
        "at": f"{at:%Y-%m-%d %H:%M:%S}.{label.start_ns // 1_000_000 % 1000:03d} UTC",
    }
