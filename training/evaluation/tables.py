"""The report in a terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table

__all__ = [
    "JUDGE_WORDS",
    "PAPER",
    "against_rows",
    "budget",
    "cell",
    "hours",
    "kind_rows",
    "per_hour",
    "rates",
    "render",
    "render_against",
    "render_kinds",
    "render_totals",
    "show",
    "starred",
    "whole",
]

JUDGE_WORDS = {"labels": "true labels", "annotator": "the annotator's labels"}
PAPER = "the paper has 0.60 / 0.90 by line and 0.81 / 0.81 by region, on its own traffic"
_MOST_COLUMNS = 8
_MARKS = ("", " †", " ‡", " §", " ¶")


def show(console: Console, report: dict[str, Any], kinds: bool = False) -> None:
    """Print everything: totals, traces, kinds of faults if wanted, the comparison, and notes."""
    parts: list[RenderableType] = [render_totals(report, by) for by in report["totals"]]
    parts.append(render(report))
    if kinds:
        parts += kind_tables(report)
    if report["against"]:
        parts.append(render_against(report))
    console.print(Group(*parts))
    for note in report["notes"]:
        console.print(f"note: {note}", markup=False, highlight=False)


def render_totals(report: dict[str, Any], by: str) -> Table:
    """Every detector over all traces, against the labels of one judge; rates alone without faults."""
    rows = report["totals"][by]
    with_faults = any(row["faults"] for row in rows)
    words = JUDGE_WORDS[by] if with_faults or by != "labels" else "no labels: every episode counts as false"
    table = Table(title=f"all traces, against {words}" if with_faults else f"all traces; {words}")
    table.add_column("detector", no_wrap=True)
    heads = ["found", "episode precision", "delay median / 95 %, ms"] if with_faults else []
    heads += ["false alarms/h [95 %]"]
    if with_faults:
        heads += ["line recall / precision", "by region", "AP", "RangeAUC-PR", "PATE"]
    for head in heads:
        table.add_column(head, justify="right")
    alarms, basis = rates(rows)
    for row, rate in zip(rows, alarms, strict=True):
        cells = []
        if with_faults:
            cells += [
                f"{row['found']}/{row['faults']}" if row["faults"] else "-",
                f"{share(row['precision'])} ({row['false']} false)" if row["faults"] else "-",
                f"{whole(row['latency_median_ms'])} / {whole(row['latency_95_ms'])}",
            ]
        cells.append(rate)
        if with_faults:
            cells += [
                f"{share(row['line_recall'])} / {share(row['line_precision'])}",
                f"{share(row['region_recall'])} / {share(row['region_precision'])}",
                *(share(row[what]) for what in ("average_precision", "range_auc_pr", "pate")),
            ]
        table.add_row(row["name"], *cells)
    table.caption = f"{basis}; {PAPER}" if with_faults else basis
    return table


def rates(rows: Sequence[dict[str, Any]]) -> tuple[list[str], str]:
    """False alarms an hour of each row of totals, and a sentence on which traffic they are of.

    Rows that are not of the same traffic as the first one have a mark, which the sentence explains.
    """
    of_row = [(row["false_alarms_on"], round(row["false_alarms"]["hours"], 4)) for row in rows]
    kinds = list(dict.fromkeys(kind for kind in of_row if kind[1]))
    marks = {kind: _MARKS[min(number, len(_MARKS) - 1)] for number, kind in enumerate(kinds)}
    texts = [
        per_hour(row["false_alarms"]) + marks.get(kind, "") for row, kind in zip(rows, of_row, strict=True)
    ]
    basis = "; ".join(f"{marks[kind]} on {hours(kind[1])} of {kind[0]}".strip() for kind in kinds)
    return texts, f"false alarms: {basis or 'on no traffic'}, with the exact 95 % interval"


def hours(value: float) -> str:
    """A time in hours, or in minutes below one."""
    return f"{value:.2f} h" if value >= 1 else f"{60 * value:.1f} min"


def budget(per_hour: float) -> str:
    """A budget in words."""
    return f"{per_hour:g} false alarm{'' if per_hour == 1 else 's'} an hour"


def share(value: float | None) -> str:
    """A share of two digits, or a dash."""
    return "-" if value is None else f"{value:.2f}"


def whole(value: float | None) -> str:
    """A number without decimals, or a dash."""
    return "-" if value is None else f"{value:,.0f}"


def per_hour(rate: dict[str, Any]) -> str:
    """A rate with its interval."""
    if rate["per_hour"] is None:
        return "-"
    return f"{_three(rate['per_hour'])} [{_three(rate['low'])}, {_three(rate['high'])}]"


def _three(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def render(report: dict[str, Any]) -> Table:
    """Every trace: found/labels and false episodes, or episodes of a clean trace."""
    table = Table(title=f"{report['bundle']} at {budget(report['false_alarms_per_hour'])}")
    table.add_column("detector", no_wrap=True)
    for name in report["traces"]:
        facts = report["facts"][name]
        table.add_column(f"{name} *" if facts["fitted_on"] else name, justify="right")
    for row in report["rows"]:
        table.add_row(row["name"], *(cell(report, row, name) for name in report["traces"]))
    if any(facts["fitted_on"] or facts["baselines_saw"] for facts in report["facts"].values()):
        table.caption = "* learned from this trace; in no total"
    return table


def starred(report: dict[str, Any], detector: str, trace: str) -> bool:
    """Whether a baseline has learned from a trace."""
    return detector in report["facts"][trace]["baselines_saw"]


def cell(report: dict[str, Any], row: dict[str, Any], trace: str) -> str:
    """What a detector told of a trace, with a star if it has learned from it."""
    outcome = row.get(trace)
    if outcome is None:
        return "-"
    star = " *" if starred(report, row["name"], trace) else ""
    if "found" not in outcome:
        return f"{outcome['false']} false{star}"
    false = f", {outcome['false']} false" if outcome["false"] else ""
    return f"{outcome['found']}/{outcome['labels']}{false}{star}"


def kind_tables(report: dict[str, Any]) -> list[Table]:
    """`render_kinds` for as many detectors at once as can be read beside each other."""
    rows = [row for row in report["rows"] if not row["name"].endswith("best")]
    return [render_kinds(report, rows[i : i + _MOST_COLUMNS]) for i in range(0, len(rows), _MOST_COLUMNS)]


def render_kinds(report: dict[str, Any], detectors: Sequence[dict[str, Any]] | None = None) -> Table:
    """Found of labelled by kind and severity, and controls that were reported, over what is in the totals.

    Args:
        report: of an evaluation.
        detectors: rows of it; None: all but those of thresholds in hindsight.
    """
    if detectors is None:
        detectors = [row for row in report["rows"] if not row["name"].endswith("best")]
    table = Table(title="found by kind of fault and severity; controls reported")
    table.add_column("kind", no_wrap=True)
    for row in detectors:
        table.add_column(row["name"], justify="right")
    for cells in kind_rows(report, detectors):
        table.add_row(*cells)
    return table


def kind_rows(report: dict[str, Any], detectors: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row for each kind, severity and control: found of all, for each detector.

    Traces that a detector or the bundle has learned from are left out, as in the totals.
    """

    def traces(detector: str) -> list[str]:
        unseen = (name for name in report["traces"] if not report["facts"][name]["fitted_on"])
        return [name for name in unseen if not starred(report, detector, name)]

    out = []
    for part, prefix in (("kinds", ""), ("controls_reported", "control: ")):
        of_trace = [
            (row, [row[t].get(part, {}) for t in traces(row["name"]) if t in row]) for row in detectors
        ]
        for kind in sorted({kind for _, parts in of_trace for shares in parts for kind in shares}):
            cells = [_total([shares[kind] for shares in parts if kind in shares]) for _, parts in of_trace]
            out.append([f"{prefix}{kind}", *cells])
    return out


def _total(shares: Sequence[dict[str, int]]) -> str:
    if not shares:
        return "-"
    hits = sum(share.get("found", share.get("reported", 0)) for share in shares)
    return f"{hits}/{sum(share['of'] for share in shares)}"


def render_against(report: dict[str, Any]) -> Table:
    """What this bundle tells that the other one does not, and the reverse."""
    other = report["against"]
    table = Table(title=f"new: {report['bundle']}; old: {other['bundle']}")
    for head in ("", "only new", "only old", "both", "neither"):
        table.add_column(head, justify="right" if head else "left")
    for cells in against_rows(other):
        table.add_row(*("" if cell is None else str(cell) for cell in cells))
    return table


def against_rows(other: dict[str, Any]) -> list[list[str | int | None]]:
    """Faults, lines and false episodes of one bundle, the other, or both; and each fault of one alone."""
    faults, lines, labelled, false = (other[key] for key in ("faults", "lines", "labelled_lines", "false"))
    rows: list[list[str | int | None]] = [
        ["faults found", faults["only_new"], faults["only_old"], faults["both"], faults["neither"]],
        ["lines told", lines["only_new"], lines["only_old"], lines["both"], None],
        ["of them labelled", labelled["only_new"], labelled["only_old"], labelled["both"], None],
        ["false episodes", false["only_new"], false["only_old"], None, None],
    ]
    for side, place in (("only_new", 1), ("only_old", 2)):
        for fault in other["found"][side]:
            pdus = ", ".join(fault["pdus"]) or "several PDUs"
            cells: list[str | int | None] = [
                f"{fault['kind']} of {pdus}, {fault['trace']}",
                None,
                None,
                None,
                None,
            ]
            cells[place] = fault["at"]
            rows.append(cells)
    return rows
