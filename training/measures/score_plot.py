"""A picture of one trace: its score over time, its true faults, and what was told."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from training.labels import Label
from training.measures import theme
from training.measures.intervals import NOWHERE, Interval, Intervals, Scores, Times
from training.measures.picture import svg_of
from training.metrics import Span, match

__all__ = ["ScoredTrace", "plot_scores"]

COLUMNS = 1200
"""The score's line has so many steps at most: of each, the highest and the lowest score are drawn."""
MOST_DOTS = 800
NARROWEST = 0.003
"""An interval is drawn no narrower than this share of the trace."""


class ScoredTrace(NamedTuple):
    """One score for each line of a trace.

    Attributes:
        times_ns: sorted, shape (lines,).
        scores: higher for stranger, finite, shape (lines,).
        labels: true faults, sorted by start; none for clean traffic.
        set_aside: where nothing counts, such as capture gaps.
    """

    times_ns: Times
    scores: Scores
    labels: Sequence[Label] = ()
    set_aside: Intervals = NOWHERE


def plot_scores(
    title: str,
    trace: ScoredTrace,
    episodes: Sequence[Span],
    threshold: float | None = None,
    unit: str = "nats",
) -> str:
    """A score over time with true faults and what was told.

    Above is the score, its range in each step of time, with a dot for each line above the threshold; below
    are the true faults, found or missed, and episodes, right or false (rules of `training.metrics.match`).

    Args:
        title: what it is.
        trace: one line at least.
        episodes: what was told of it.
        threshold: drawn as a line.
        unit: of the score.

    Returns:
        An `svg` element without links, the same for the same arguments.

    Raises:
        ConfigError: matplotlib is not installed.
        ValueError: the trace has no line.
    """
    if not len(trace.times_ns):
        raise ValueError("a picture of scores needs a line at least")
    return svg_of(title, 4.3, lambda figure: _paint(figure, trace, episodes, threshold, unit))


def _paint(
    figure: Any, trace: ScoredTrace, episodes: Sequence[Span], threshold: float | None, unit: str
) -> None:
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1.15])
    origin_ns = int(trace.times_ns[0])
    seconds = (trace.times_ns - origin_ns) / 1e9
    end_s = max(float(seconds[-1]), 1e-9)
    matched = match(episodes, trace.labels)

    columns = np.minimum((seconds / end_s * COLUMNS).astype(np.int64), COLUMNS - 1)
    first = np.flatnonzero(np.diff(columns, prepend=-1))
    highest = np.maximum.reduceat(trace.scores, first)
    lowest = np.minimum.reduceat(trace.scores, first)
    # From the lowest of a step up to its highest and on to the next: one line.
    upper.plot(
        np.repeat(seconds[first], 2),
        np.stack([lowest, highest], axis=1).ravel(),
        color=theme.SCORE,
        linewidth=0.7,
        label="score, lowest to highest",
    )
    if threshold is not None:
        above = np.flatnonzero(trace.scores > threshold)
        above = above[np.argsort(-trace.scores[above], kind="stable")[:MOST_DOTS]]
        upper.scatter(
            seconds[above], trace.scores[above], s=7, color=theme.INK, zorder=3, label="line above it"
        )
        upper.axhline(
            threshold, color=theme.INK, linewidth=0.9, linestyle="--", label=f"threshold {threshold:.3g}"
        )
    # Straight around 0, logarithmic far above: scores of clean traffic and of a gross fault are both seen.
    wide = threshold if threshold and threshold > 0 else float(np.median(np.abs(trace.scores))) or 1.0
    upper.set_yscale("asinh", linear_width=wide)
    ticks = _ticks(wide, float(lowest.min()), float(highest.max()))
    upper.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    upper.minorticks_off()
    upper.set_ylabel(unit)
    upper.grid(axis="y", color=theme.GRID, linewidth=0.6)

    def spans(rows: Sequence[Interval]) -> list[tuple[float, float]]:
        starts = [(row.start_ns - origin_ns) / 1e9 for row in rows]
        return [
            (start, max((row.end_ns - row.start_ns) / 1e9, NARROWEST * end_s))
            for start, row in zip(starts, rows, strict=True)
        ]

    for begin, length in spans(trace.labels):
        upper.axvspan(begin, begin + length, color=theme.FAULT, alpha=0.18, linewidth=0)
    found = [label for label, hit in zip(trace.labels, matched.found, strict=True) if hit]
    missed = [label for label, hit in zip(trace.labels, matched.found, strict=True) if not hit]
    right = [episode for episode, counts in zip(episodes, matched.counts, strict=True) if counts]
    false = [episode for episode, counts in zip(episodes, matched.counts, strict=True) if not counts]
    lanes = (
        (1, found, theme.FAULT, theme.FAULT, f"fault, found ({len(found)})"),
        (1, missed, theme.PAPER, theme.FAULT, f"fault, missed ({len(missed)})"),
        (0, right, theme.FOUND, theme.FOUND, f"told, right ({len(right)})"),
        (0, false, theme.FALSE, theme.FALSE, f"told, false ({len(false)})"),
    )
    for lane, rows, face, edge, label in lanes:
        lower.broken_barh(
            spans(rows), (lane - 0.33, 0.66), facecolor=face, edgecolor=edge, linewidth=0.9, label=label
        )
    for begin, length in _stretches(trace.set_aside, origin_ns):
        for axes in (upper, lower):
            axes.axvspan(begin, begin + length, color=theme.CONTEXT, alpha=0.3, linewidth=0)
    lower.set_yticks([1, 0], ["true", "told"])
    lower.set_ylim(-0.5, 1.5)
    lower.set_xlim(0, end_s)
    lower.set_xlabel(
        "seconds of the trace" + (" (grey: set aside)" if len(trace.set_aside.starts_ns) else "")
    )
    upper.tick_params(labelbottom=False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)


def _ticks(wide: float, lowest: float, highest: float) -> list[float]:
    """0 and round numbers, thinned out where the axis is straight or there are many decades."""
    decade = 10.0 ** math.floor(math.log10(wide))
    most = max(abs(lowest), abs(highest))
    up = [decade * step * 10.0**power for power in range(12) for step in (1, 2, 5)]
    up = [tick for tick in up if wide / 2 <= tick <= most]
    up = up[:: max(1, -(-len(up) // 6))]
    return [-tick for tick in reversed(up) if -tick >= lowest] + [0.0] + [t for t in up if t <= highest]


def _stretches(intervals: Intervals, origin_ns: int) -> list[tuple[float, float]]:
    starts, ends = (intervals.starts_ns - origin_ns) / 1e9, (intervals.ends_ns - origin_ns) / 1e9
    return list(zip(starts.tolist(), (ends - starts).tolist(), strict=True))
