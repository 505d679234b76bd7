"""What one trace gave, in a form that is kept in a folder until the evaluation is whole."""

from collections.abc import Iterable

import msgspec

from training.metrics import Span

__all__ = ["Drawing", "Other", "Ranked", "Regions", "Row", "Told", "TraceResult", "as_spans", "as_triples"]

Triple = tuple[int, int, int]
Regions = tuple[int, int, int, int]


def as_spans(rows: list[Triple]) -> list[Span]:
    """Episodes as they were before they were kept."""
    return [Span(*row) for row in rows]


def as_triples(spans: Iterable[Span]) -> list[Triple]:
    """Episodes as they are kept."""
    return [(span.start_ns, span.end_ns, span.told_ns) for span in spans]


class Told(msgspec.Struct):
    """Episodes of a trace as (start, end, told) in ns; those of unknown PDUs apart."""

    spans: list[Triple]
    unknown: list[Triple] = []


class Ranked(msgspec.Struct):
    """How scores of lines meet the labels of one judge; None where that cannot be said.

    Attributes:
        average_precision: of lines.
        prevalence: share of labelled lines, the average precision of a random score.
        range_auc_pr: of the peaks of 100 ms, with a buffer of 1 s.
        vus_pr: mean of the same over buffers of 0 to 1 s.
        pate: of the same, with buffers of 0 and 1 s to either side.
    """

    average_precision: float | None = None
    prevalence: float | None = None
    range_auc_pr: float | None = None
    vus_pr: float | None = None
    pate: float | None = None


class Row(msgspec.Struct):
    """One detector on one trace.

    Attributes:
        name: of the detector.
        told: what it told at the budget that was asked for.
        at_budgets: what it told at others, by false alarms an hour.
        lines: by judge, (labelled lines told, labelled lines, lines told).
        regions: by judge, (labelled regions told, labelled regions, told ones that are labelled, told ones).
        ranked: by judge.
        saw: it has learned from this trace.
    """

    name: str
    told: Told
    at_budgets: dict[str, Told] = {}
    lines: dict[str, Triple] = {}
    regions: dict[str, Regions] = {}
    ranked: dict[str, Ranked] = {}
    saw: bool = False


class Drawing(msgspec.Struct):
    """The scores of one detector, thinned out for a picture."""

    row: str
    unit: str
    times_ns: list[int]
    scores: list[float]
    threshold: float | None = None


class Other(msgspec.Struct):
    """What another bundle told of the same trace.

    Attributes:
        told: its episodes.
        only_new: lines that only the first bundle told.
        only_old: lines that only the other one told.
        both: lines that both told.
        lines: by judge, of `only_new`, `only_old` and `both` those that are labelled.
        fitted_on: it has learned from this trace.
    """

    told: Told
    only_new: int
    only_old: int
    both: int
    lines: dict[str, Triple] = {}
    fitted_on: bool = False


class TraceResult(msgspec.Struct, kw_only=True):
    """All detectors on one trace.

    Attributes:
        name: of the trace.
        path: where it was.
        sha256: of its file.
        truth_sha256: of the files beside it.
        lines: scored.
        warming: those of them for which the model had not yet read its receptive field.
        first_ns: time of the earliest line.
        last_ns: time of the latest one.
        set_aside: where the capture was interrupted, (start, end) in ns.
        fitted_on: the bundle has learned from it.
        seconds: what the pass took.
        pass_seconds: what the pass of its lines took of them; the rest is ranking.
        rows: in the order of the table.
        drawing: scores for a picture.
        quiet: for each score of a threshold in hindsight, episodes at each threshold from the highest down
            while they are few; of clean traces only.
        ranked: by score of a threshold in hindsight and by judge.
        other: what another bundle told; None where there is none to compare with.
        notes: sentences about the trace.
    """

    name: str
    path: str
    sha256: str
    truth_sha256: str
    lines: int
    warming: int
    first_ns: int
    last_ns: int
    set_aside: list[tuple[int, int]]
    fitted_on: bool
    seconds: float
    pass_seconds: float
    rows: list[Row]
    drawing: Drawing
    quiet: dict[str, list[list[Triple]]] = {}
    ranked: dict[str, dict[str, Ranked]] = {}
    other: Other | None = None
    notes: list[str] = []

    def row(self, name: str) -> Row | None:
        """The row of a detector; None where it was not run."""
        return next((row for row in self.rows if row.name == name), None)
