"""Lines of labelled traffic under the paper's filter: consecutive lines whose perplexity is high."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecustream.scoring.network import AnyNetwork
from ecustream.scoring.scorer import Scorer
from ecustream.traffic import Line
from training.base import Base
from training.labelled import LabelledTrace
from training.labels import beside, read_labels
from training.measures.lines import confusion
from training.measures.regions import by_region
from training.reproduction.records import Detected, Verdict

__all__ = ["PAPER_THRESHOLD", "PAPER_WIDTH", "Judged", "Lines", "detect", "held", "read_judged", "read_lines"]

PAPER_THRESHOLD, PAPER_WIDTH = 1.5, 3
_QUIET_SHARE = 0.001
_JOIN_NS = 100_000_000

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Lines(NamedTuple):
    """Lines of an uninterrupted piece, without those while the model got warm.

    Attributes:
        time_ns: shape (lines,).
        perplexity: shape (lines,).
        annotated: those that the annotator labelled, shape (lines,).
        faulty: those that are truly part of a fault, shape (lines,).
    """

    time_ns: npt.NDArray[np.int64]
    perplexity: Floats
    annotated: Bools
    faulty: Bools


Judged = Mapping[str, Sequence[Lines]]
"""Pieces of each judged trace."""


def held(perplexity: Floats, width: int) -> Floats:
    """What the filter compares: the highest value that `width` consecutive lines with this one all reach.

    A line is told at a threshold if it is one of at least `width` consecutive lines above it; so with this
    score a threshold on single lines does the same (an opening, in the words of image processing).
    """
    if len(perplexity) < width:
        return np.full(len(perplexity), -np.inf)
    lowest = np.lib.stride_tricks.sliding_window_view(perplexity, width).min(axis=1)
    padded = np.concatenate([np.full(width - 1, -np.inf), lowest, np.full(width - 1, -np.inf)])
    highest: Floats = np.lib.stride_tricks.sliding_window_view(padded, width).max(axis=1)
    return highest


def read_lines(base: Base, network: AnyNetwork, path: Path) -> list[Lines]:
    """Score a trace as it would be served; without label files nothing is labelled.

    Raises:
        InputError: the trace is damaged, or labels do not belong to it.
    """
    labelled = [
        LabelledTrace(read_labels(file), file.name, path.name) if file.is_file() else None
        for file in (beside(path, "annotator"), beside(path, "labels"))
    ]

    def marks(which: int, lines: Sequence[Line]) -> Bools:
        of = labelled[which]
        return np.zeros(len(lines), np.bool_) if of is None else of(lines)

    pieces = []
    for _, batches in base.traces([path]).read_pieces("scoring", base.cycles_ns):
        scorer = Scorer(network, base.tokenizer.fresh)
        stream = scorer.open_stream()
        parts = []
        for lines in batches:
            block = scorer.score([(stream, lines)])[0]
            settled = ~block.warming
            times = np.array([line.time_ns for line in lines], np.int64)
            perplexity, annotated, faulty = block.perplexity(), marks(0, lines), marks(1, lines)
            parts.append(Lines(times[settled], perplexity[settled], annotated[settled], faulty[settled]))
        pieces.append(
            Lines(
                np.concatenate([part.time_ns for part in parts]),
                np.concatenate([part.perplexity for part in parts]),
                np.concatenate([part.annotated for part in parts]),
                np.concatenate([part.faulty for part in parts]),
            )
        )
    return [piece for piece in pieces if len(piece.time_ns)]


def read_judged(base: Base, network: AnyNetwork, traces: Mapping[str, Path]) -> Judged:
    """The same of several traces by name."""
    return {name: read_lines(base, network, path) for name, path in traces.items()}


def detect(clean: Sequence[Lines], judged: Judged) -> list[Detected]:
    """The paper's filter as it is, and with thresholds that clean traffic exceeds in one line of a thousand.

    Args:
        clean: traffic without faults that the model was not trained on; thresholds come from it alone.
        judged: labelled traffic.
    """
    of_width = {
        width: np.concatenate([np.zeros(0), *(held(piece.perplexity, width) for piece in clean)])
        for width in (1, PAPER_WIDTH)
    }
    rules = [(PAPER_THRESHOLD, PAPER_WIDTH), *((_quiet(values), width) for width, values in of_width.items())]
    return [
        _detected(threshold, width, float((of_width[width] > threshold).mean()), judged)
        for threshold, width in rules
    ]


def _quiet(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(np.quantile(finite, 1 - _QUIET_SHARE, method="higher")) if len(finite) else float("inf")


def _detected(threshold: float, width: int, clean_share: float, judged: Judged) -> Detected:
    sums = {
        name: np.zeros(4, np.int64)
        for name in ("annotated_lines", "annotated_regions", "true_lines", "true_regions")
    }
    for piece in (piece for pieces in judged.values() for piece in pieces):
        told = held(piece.perplexity, width) > threshold
        # Lines that overtook each other in the capture: regions need times in order.
        times = np.maximum.accumulate(piece.time_ns)
        for whose, labels in (("annotated", piece.annotated), ("true", piece.faulty)):
            sums[f"{whose}_lines"] += np.array(confusion(told, labels))
            sums[f"{whose}_regions"] += np.array(by_region(times, told, labels, _JOIN_NS))
    verdicts = {
        name: Verdict(found=int(f), labelled=int(n), right=int(r), told=int(t))
        for name, (f, n, r, t) in sums.items()
    }
    rule = f"> {threshold:.3g}, {width} line" + ("" if width == 1 else "s")
    return Detected(rule=rule, threshold=threshold, width=width, clean_share=clean_share, **verdicts)
