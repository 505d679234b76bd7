"""The report as one HTML page with pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.evaluation.results import TraceResult, as_spans
from training.evaluation.study import Study
from training.evaluation.summary import RANKED, set_aside
from training.evaluation.tables import JUDGE_WORDS, PAPER, against_rows, budget, cell, hours, kind_rows, rates
from training.measures.page import Cell, Picture, Section, Table, page
from training.measures.recall_plot import RecallCurve, plot_recall
from training.measures.score_plot import ScoredTrace, plot_scores

__all__ = ["document"]

_MOST_PICTURES = 12
_TOLD = ("line_recall", "line_precision", "region_recall", "region_precision")


def document(study: Study) -> str:
    """The page; it loads nothing.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    report = study.report
    sections = [
        Section(f"Against {JUDGE_WORDS[by]}", _JUDGE_TEXT[by], _totals(rows))
        for by, rows in report["totals"].items()
    ]
    if any(case.labels for case in study.cases.values()):
        curves = [RecallCurve(name, list(points.values())) for name, points in study.curves.items()]
        picture = plot_recall("Faults found over false alarms an hour", curves)
        sections.insert(
            1,
            Section(
                "Recall against false alarms",
                "Each detector at budgets of 1 to 1,000 false alarms an hour. Both axes are measured: "
                "where a budget is not kept, a point lies to the right of it.",
                [
                    Picture(
                        picture,
                        "True faults that were found, over false episodes an hour outside of faults.",
                    )
                ],
            ),
        )
    if report["against"]:
        sections.append(_against(report))
    sections.append(Section("Every trace", "", [_facts(report), _traces(report)]))
    kinds = _kinds(report)
    if kinds.rows:
        sections.append(Section("Kinds of faults", "", [kinds]))
    shown = sorted(study.results.values(), key=lambda result: study.cases[result.name].labels is None)
    pictures = [_picture(study, result) for result in shown[:_MOST_PICTURES]]
    text = (
        "The score is the rarity of each line by its interval, delta time and name, before evidence of "
        "several lines adds up. What does not come has no line: it is told by its deadline, which is not "
        "seen here."
    )
    sections.append(Section("Scores over time", text, pictures))
    if report["notes"]:
        sections.append(Section("Notes", "\n\n".join(report["notes"])))
    length = hours(sum(facts["hours"] for facts in report["facts"].values()))
    count = len(report["traces"])
    lead = (
        f"Bundle {report['bundle']}, {count} trace{'' if count == 1 else 's'}, {length}, at a budget of "
        f"{budget(report['false_alarms_per_hour'])}. Traces that a detector has learned "
        "from are in none of its totals."
    )
    return page("How good this detector is", lead, sections)


_JUDGE_TEXT = {
    "labels": (
        "Found are faults that an episode tells which stays close to them; a long alarm finds nothing. False "
        "alarms are those of traces without faults where there are any, with the exact 95 % interval."
    ),
    "annotator": (
        "The same against labels that a rule made, as if they were faults. They are unreliable: the notes "
        "below say how much so."
    ),
}


def _totals(rows: Sequence[dict[str, Any]]) -> list[Table]:
    """A table of episodes, and where there are faults one of lines."""
    alarms, basis = rates(rows)
    basis = basis[0].upper() + basis[1:]
    if not any(row["faults"] for row in rows):
        alone: list[list[Cell]] = [[row["name"], rate] for row, rate in zip(rows, alarms, strict=True)]
        caption = f"Episodes an hour; without labels each counts as false. {basis}."
        return [Table(caption, ["detector", "an hour"], alone)]
    episodes: list[list[Cell]] = [
        [
            row["name"],
            f"{row['found']:,}/{row['faults']:,}" if row["faults"] else "–",
            row["recall"],
            row["precision"],
            row["false"] if row["faults"] else None,
            _whole(row["latency_median_ms"]),
            _whole(row["latency_95_ms"]),
            rate,
        ]
        for row, rate in zip(rows, alarms, strict=True)
    ]
    told, ranked = _shares(rows, _TOLD), _shares(rows, RANKED)
    return [
        Table(
            f"Faults found by episodes. {basis}.",
            ["detector", "found", "event recall", "episode precision", "false episodes", "median delay, ms",
             "95 % delay, ms", "false alarms/h [95 %]"],
            episodes,
        ),
        Table(
            "Lines told at the budget, of all traces with labels; lines at most 100 ms apart are a region. "
            "The detector and its parts tell the lines of an episode's PDUs, a baseline those above its "
            f"threshold. For comparison, {PAPER}.",
            ["detector", "line recall", "line precision", "region recall", "region precision"],
            told,
        ),
        Table(
            "Lines ranked by their score, without a threshold. Average precision (AP) beside that of a "
            "random score; RangeAUC-PR (buffer 1 s), VUS-PR (0 to 1 s) and PATE (0 and 1 s) of the peaks of "
            "100 ms; means over traces with labels.",
            ["detector", "AP", "AP by chance", "RangeAUC-PR", "VUS-PR", "PATE"],
            ranked,
        ),
    ]  # fmt: skip


def _shares(rows: Sequence[dict[str, Any]], keys: Sequence[str]) -> list[list[Cell]]:
    """Detectors of which one of these is known; of three digits, or a tiny one would be written 4.9e-05."""
    cells = [[None if row[key] is None else round(row[key], 3) for key in keys] for row in rows]
    known = (any(cell is not None for cell in row) for row in cells)
    return [[row["name"], *own] for row, own, there in zip(rows, cells, known, strict=True) if there]


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _facts(report: dict[str, Any]) -> Table:
    rows: list[list[Cell]] = [
        [
            name, facts["lines"], facts["hours"], facts["faults"], facts["annotations"],
            facts["interruptions"], "yes" if facts["fitted_on"] else "no",
            facts["seconds"], facts["pass_seconds"],
        ]
        for name, facts in report["facts"].items()
    ]  # fmt: skip
    columns = [
        "trace", "lines", "hours", "faults", "annotations", "interruptions", "bundle fitted to it",
        "s in all", "s of the pass",
    ]  # fmt: skip
    return Table("The traces.", columns, rows)


def _traces(report: dict[str, Any]) -> Table:
    rows: list[list[Cell]] = [
        [row["name"], *(cell(report, row, name) for name in report["traces"])] for row in report["rows"]
    ]
    heads = [f"{name} *" if report["facts"][name]["fitted_on"] else name for name in report["traces"]]
    caption = "Found of all faults, and false episodes; * learned from this trace, and in no total."
    return Table(caption, ["detector", *heads], rows)


def _kinds(report: dict[str, Any]) -> Table:
    rows = kind_rows(report, report["rows"])
    return Table(
        "Found of all, by kind and severity.", ["kind", *(row["name"] for row in report["rows"])], rows
    )


def _against(report: dict[str, Any]) -> Section:
    other = report["against"]
    table = Table("New is this bundle.", ["", "only new", "only old", "both", "neither"], against_rows(other))
    return Section(f"Compared with {other['bundle']}", "Line by line, at the same budget.", [table])


def _picture(study: Study, result: TraceResult) -> Picture:
    drawing = result.drawing
    row = result.row(drawing.row)
    told = as_spans(row.told.spans) if row else []
    trace = ScoredTrace(
        np.array(drawing.times_ns, np.int64),
        np.array(drawing.scores),
        study.cases[result.name].labels or (),
        set_aside(result),
    )
    svg = plot_scores(result.name, trace, told, drawing.threshold, drawing.unit)
    return Picture(svg, f"{result.name}: evidence of the detector, true faults, and what was told.")
