"""Affiliation precision and recall: how far alarms lie from faults, as chance would have it.

Huet, Navarro, Rossi: Local Evaluation of Time Series Anomaly Detection Algorithms, KDD 2022. Around each
fault lies the zone that is nearer to it than to any other. Precision is the mean over alarmed moments of the
probability that a random moment of the zone is farther from the fault, recall the mean over the fault's
moments of the probability that a random alarm is farther from them than the nearest one.
Chance alone reaches a precision of one half and, with a few per cent of random alarms, a recall of nearly 1:
never quote these without a random row beside them.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from training.measures.intervals import Interval, Intervals, union

__all__ = ["Affiliation", "affiliation"]

Floats = npt.NDArray[np.float64]


class Affiliation(NamedTuple):
    """Precision, the mean over zones with alarms (None where there is none), and recall over all faults."""

    precision: float | None
    recall: float | None


def affiliation(
    episodes: Iterable[Interval], faults: Iterable[Interval], start_ns: int, end_ns: int
) -> Affiliation:
    """Affiliation of episodes with faults.

    Both are taken as their union; each end belongs to them, so that a moment lasts 1 ns. What lies outside
    the trace is cut off.

    Args:
        episodes: what was told.
        faults: what is true; without any, nothing is known.
        start_ns: of the trace.
        end_ns: of the trace, itself included.
    """
    told = _cut(union(episodes), start_ns, end_ns)
    true = _cut(union(faults), start_ns, end_ns)
    if not len(true):
        return Affiliation(None, None)
    edges = np.concatenate([[0.0], (true[:-1, 1] + true[1:, 0]) / 2, [float(end_ns + 1 - start_ns)]])
    precisions, recalls = [], []
    for fault, zone_start, zone_end in zip(true, edges[:-1], edges[1:], strict=True):
        near = told[np.searchsorted(told[:, 1], zone_start) : np.searchsorted(told[:, 0], zone_end)]
        near = np.clip(near, zone_start, zone_end)
        near = near[near[:, 1] > near[:, 0]]
        if len(near):
            precisions.append(_precision(near, fault, zone_start, zone_end))
            recalls.append(_recall(near, fault, zone_start, zone_end))
        else:
            recalls.append(0.0)
    precision = float(np.mean(precisions)) if precisions else None
    return Affiliation(precision, float(np.mean(recalls)))


def _cut(intervals: Intervals, start_ns: int, end_ns: int) -> Floats:
    """Starts and ends in ns since the trace's start, shape (intervals, 2); what lies outside is left out."""
    inside = (intervals.ends_ns >= start_ns) & (intervals.starts_ns <= end_ns)
    ends = np.minimum(intervals.ends_ns[inside], end_ns) + 1 - start_ns
    starts = np.maximum(intervals.starts_ns[inside], start_ns) - start_ns
    return np.stack([starts, ends], axis=1).astype(np.float64)


def _precision(near: Floats, fault: Floats, zone_start: float, zone_end: float) -> float:
    left, right = fault[0] - zone_start, zone_end - fault[1]
    # The probability is linear between these.
    bends = np.array([*fault, fault[0] - right, fault[1] + left])
    moments, lengths = _pieces(near, bends)
    distance = np.maximum(np.maximum(fault[0] - moments, moments - fault[1]), 0.0)
    nearer = (fault[1] - fault[0]) + np.minimum(distance, left) + np.minimum(distance, right)
    farther = np.where(distance > 0, 1 - nearer / (zone_end - zone_start), 1.0)
    return float((farther * lengths).sum() / lengths.sum())


def _recall(near: Floats, fault: Floats, zone_start: float, zone_end: float) -> float:
    ends = near.ravel()
    gaps = (near[1:, 0] + near[:-1, 1]) / 2
    bends = np.concatenate([ends, gaps, (ends + zone_start) / 2, (ends + zone_end) / 2])
    moments, lengths = _pieces(fault[np.newaxis], bends)
    after = np.searchsorted(near[:, 0], moments, side="right")
    since = np.where(after > 0, moments - near[after - 1, 1], np.inf)
    until = np.where(after < len(near), near[np.minimum(after, len(near) - 1), 0] - moments, np.inf)
    distance = np.maximum(np.minimum(since, until), 0.0)
    nearer = np.minimum(distance, moments - zone_start) + np.minimum(distance, zone_end - moments)
    farther = 1 - nearer / (zone_end - zone_start)
    return float((farther * lengths).sum() / lengths.sum())


def _pieces(spans: Floats, bends: Floats) -> tuple[Floats, Floats]:
    """Middle and length of the pieces into which the bends cut the spans, which do not meet."""
    cuts = np.sort(np.concatenate([spans.ravel(), bends]))
    middles, lengths = (cuts[1:] + cuts[:-1]) / 2, np.diff(cuts)
    at = np.searchsorted(spans[:, 0], middles, side="right") - 1
    inside = (at >= 0) & (middles < spans[at, 1]) & (lengths > 0)
    return middles[inside], lengths[inside]
