"""How good an annotator's labels are, by the true ones."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from training.evaluation.cases import Case
from training.labels import Label

__all__ = ["AnnotatorQuality", "annotator_quality", "quality_note"]

_REACTION_NS = 100_000_000


class AnnotatorQuality(NamedTuple):
    """Counts: true faults, those that an annotation meets, annotations, and those that meet a true fault."""

    faults: int
    annotated: int
    annotations: int
    right: int


def annotator_quality(annotations: Sequence[Label], faults: Sequence[Label]) -> AnnotatorQuality:
    """Judge an annotator.

    An annotation meets a fault if both concern one PDU (or one of them several), and it begins at most
    100 ms after the fault's end and ends no earlier than its start, as in `training.annotator`.
    """
    return AnnotatorQuality(
        len(faults),
        _met(faults, annotations, before_ns=0, after_ns=_REACTION_NS),
        len(annotations),
        _met(annotations, faults, before_ns=_REACTION_NS, after_ns=0),
    )


def _met(ones: Sequence[Label], others: Sequence[Label], before_ns: int, after_ns: int) -> int:
    """How many have another one of their PDU that overlaps them, widened by so much to either side."""
    of_pdu: dict[str | None, list[Label]] = {}
    for other in others:
        pdus: list[str | None] = [*other.pdus] or [None]
        for pdu in pdus:
            of_pdu.setdefault(pdu, []).append(other)
    spans = {pdu: _Spans(those) for pdu, those in of_pdu.items()}
    every = _Spans(others)

    def meets(one: Label) -> bool:
        candidates = [spans[pdu] for pdu in (None, *one.pdus) if pdu in spans] if one.pdus else [every]
        return any(those.touch(one.start_ns - before_ns, one.end_ns + after_ns) for those in candidates)

    return sum(meets(one) for one in ones)


class _Spans:
    """Intervals, to be asked whether one touches another interval."""

    def __init__(self, labels: Iterable[Label]) -> None:
        spans = sorted((label.start_ns, label.end_ns) for label in labels)
        self._starts = np.array([start_ns for start_ns, _ in spans], np.int64)
        self._latest = list(accumulate((end_ns for _, end_ns in spans), max))

    def touch(self, start_ns: int, end_ns: int) -> bool:
        begun = int(np.searchsorted(self._starts, end_ns, side="right"))
        return begun > 0 and self._latest[begun - 1] >= start_ns


def quality_note(cases: Mapping[str, Case]) -> str | None:
    """A sentence on the annotator of all traces; None without annotations, or where nothing true is known."""
    all_of = [
        annotator_quality(case.annotator, case.labels or [])
        for case in cases.values()
        if case.annotator is not None
    ]
    if not all_of or not any(case.labels for case in cases.values()):
        return None
    total = AnnotatorQuality(*(sum(counts) for counts in zip(*all_of, strict=True)))
    share = f"{total.right / total.annotations:.1%}" if total.annotations else "none"
    return (
        f"the annotator labelled {total.annotated} of {total.faults} true faults, and {share} of its "
        f"{total.annotations:,} labels meet one"
    )
