"""The report in a terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table

__all__ = [
    "JUDGE_WORDS",
    "against_rows",
    "kind_rows",
    "per_hour",
    "render",
    "render_against",
    "render_kinds",
    "render_totals",
    "show",
    "whole",
]

JUDGE_WORDS = {"labels": "true labels", "annotator": "the annotator's labels"}


def show(console: Console, report: dict[str, Any], kinds: bool = False) -> None:
    """Print everything: totals, traces, kinds of faults if wanted, the comparison, and notes."""
    parts: list[RenderableType] = [render_totals(report, by) for by in report["totals"]]
    parts.append(render(report))
    if kinds:
        parts.append(render_kinds(report))
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
    heads += ["line recall / precision", "AP", "RangeAUC-PR", "PATE"] if with_faults else []
    for head in heads:
        table.add_column(head, justify="right")
    for row in rows:
        cells = []
        if with_faults:
            cells += [
                f"{row['found']}/{row['faults']}",
                f"{share(row['precision'])} ({row['false']} false)",
                f"{whole(row['latency_median_ms'])} / {whole(row['latency_95_ms'])}",
            ]
        cells.append(per_hour(row["false_alarms"]))
        if with_faults:
            cells += [
                f"{share(row['line_recall'])} / {share(row['line_precision'])}",
                *(share(row[what]) for what in ("average_precision", "range_auc_pr", "pate")),
            ]
        table.add_row(row["name"], *cells)
    hours = max((row["false_alarms"]["hours"] for row in rows), default=0.0)
    on = rows[0]["false_alarms_on"] if rows else "clean traces"
    table.caption = f"false alarms: on {hours:.2f} h of {on}, with the exact 95 % interval"
    return table


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
    table = Table(title=f"{report['bundle']} at {report['false_alarms_per_hour']:g} false alarms an hour")
    table.add_column("detector", no_wrap=True)
    for name in report["traces"]:
        facts = report["facts"][name]
        table.add_column(f"{name} *" if facts["fitted_on"] else name, justify="right")
    for row in report["rows"]:
        saw = {name for name in report["traces"] if row["name"] in report["facts"][name]["baselines_saw"]}
        table.add_row(
            row["name"],
            *(_cell(row.get(name)) + (" *" if name in saw else "") for name in report["traces"]),
        )
    if any(facts["fitted_on"] or facts["baselines_saw"] for facts in report["facts"].values()):
        table.caption = "* learned from this trace; in no total"
    return table


def _cell(outcome: dict[str, Any] | None) -> str:
    if outcome is None:
        return "-"
    if "found" not in outcome:
        return f"{outcome['episodes']} false"
    false = f", {outcome['false']} false" if outcome["false"] else ""
    return f"{outcome['found']}/{outcome['labels']}{false}"


def render_kinds(report: dict[str, Any]) -> Table:
    """Found of labelled by kind and severity, and controls that were reported, over all labelled traces."""
    detectors = [row for row in report["rows"] if not row["name"].endswith("best")]
    table = Table(title="found by kind of fault and severity; controls reported")
    table.add_column("kind", no_wrap=True)
    for row in detectors:
        table.add_column(row["name"], justify="right")
    for cells in kind_rows(report, detectors):
        table.add_row(*cells)
    return table


def kind_rows(report: dict[str, Any], detectors: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row for each kind, severity and control: found of all, for each detector."""
    out = []
    for part, prefix in (("kinds", ""), ("controls_reported", "control: ")):
        of_trace = [(row, [row[t].get(part, {}) for t in report["traces"] if t in row]) for row in detectors]
        for kind in sorted({kind for _, parts in of_trace for shares in parts for kind in shares}):
            cells = [_total([shares[kind] for shares in parts if kind in shares]) for _, parts in of_trace]
            out.append([f"{prefix}{kind}", *cells])
    return out


def _total(shares: Sequence[str]) -> str:
    pairs = [share.split("/") for share in shares]
    return (
        f"{sum(int(found) for found, _ in pairs)}/{sum(int(count) for _, count in pairs)}" if pairs else "-"
    )


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
