"""Sentences on what a reader must know of a trace before its figures are believed."""

from collections.abc import Mapping, Sequence

import numpy as np

from training.evaluation.cases import Case, overlap_note
from training.evaluation.line_scores import TraceScores
from training.labels import beside
from training.measures.intervals import Bools

__all__ = ["harm", "remarks", "unjudged"]

_MUCH_WARMING = 0.1


def harm(case: Case, damage: Sequence[str]) -> str | None:
    """What could not be read of a trace; None where all could."""
    if not damage:
        return None
    return f"{case.path.name} is damaged, and read only so far: {'; '.join(damage)}"


def unjudged(case: Case, scores: TraceScores, receptive_field_tokens: int, harmed: str | None) -> str | None:
    """Why a trace cannot be judged; None where it can."""
    if not scores.warming.all():
        return None
    count = len(scores.times_ns)
    why = (
        f"all its {count:,} lines lie within the receptive field of the bundle "
        f"({receptive_field_tokens:,} tokens): the model cannot judge it"
        if count
        else "there is no PDU in it"
    )
    return f"{case.path.name} is left out: {why}" + (f"; {harmed}" if harmed else "")


def remarks(
    case: Case, scores: TraceScores, labelled: Mapping[str, Bools], foreign: str | None, harmed: str | None
) -> list[str]:
    """All that is odd about a trace that was judged.

    Args:
        case: the trace.
        scores: of its lines, one at least.
        labelled: lines that are labelled, by judge, shape (lines,) each.
        foreign: see `LineScores.foreign_note`.
        harmed: see `harm`.
    """
    first_ns, last_ns = int(scores.times_ns.min()), int(scores.times_ns.max())
    notes = [harmed, overlap_note(case), _outside(case, first_ns, last_ns)]
    notes += [
        _unmatched(case, by)
        for by, lines in labelled.items()
        if not lines.any() and any(label.pdus for label in case.labels_by(by) or [])
    ]
    return [note for note in (*notes, _warming(case, scores), foreign) if note]


def _outside(case: Case, first_ns: int, last_ns: int) -> str | None:
    """Of true labels that no line of the trace is near enough to be told by, though they are not far away."""
    outside = [
        number
        for number, label in enumerate(case.labels or [], 1)
        if label.end_ns < first_ns or label.start_ns > last_ns
    ]
    if not outside:
        return None
    count = "1 label lies" if len(outside) == 1 else f"{len(outside)} labels lie"
    return (
        f"{beside(case.path, 'labels').name}: {count} wholly before the first or after the last line of the "
        f"trace (label {outside[0]}); what was not captured cannot be found, and counts as missed"
    )


def _unmatched(case: Case, by: str) -> str:
    return (
        f"{beside(case.path, by).name}: no line of the trace is of a PDU and time that a label names; "
        "is --names the table that the labels were made with?"
    )


def _warming(case: Case, scores: TraceScores) -> str | None:
    share = float(np.mean(scores.warming))
    if share < _MUCH_WARMING:
        return None
    return (
        f"{case.path.name}: {share:.0%} of its lines lie within the receptive field, at its start or after "
        "an interruption: there intervals and deadlines are judged, but the model is not heard"
    )
