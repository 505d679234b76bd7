"""Recall at a budget of false alarms: thresholds come from clean traffic, measured is other traffic."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from training.labels import Label
from training.measures.events import EventMeasures, measure_events
from training.measures.intervals import NOWHERE, Bools, Intervals, Scores, Times, observed_ns, runs
from training.measures.rates import HOUR_NS
from training.metrics import Span

__all__ = ["BudgetPoint", "ScoredTrace", "budget_curve", "spans_above", "thresholds_for"]

_FIRST_LINES = 1024


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


class BudgetPoint(NamedTuple):
    """What a detector finds at a budget.

    Attributes:
        budget_per_hour: false alarms an hour that were asked for.
        threshold: lines that score above it are told.
        supported: the calibration traffic was long enough for one false alarm; otherwise the threshold is
            just its highest score, and the rate on other traffic will be higher than asked for.
        measured: on other traffic; its own rate of false alarms is there, and may differ from the budget.
    """

    budget_per_hour: float
    threshold: float
    supported: bool
    measured: EventMeasures


def budget_curve(
    calibration: Sequence[ScoredTrace],
    measured: Sequence[ScoredTrace],
    budgets_per_hour: Sequence[float],
    join_ns: int,
) -> list[BudgetPoint]:
    """Event recall over budgets of false alarms, each with the threshold that clean traffic gives.

    Args:
        calibration: clean traffic, all of whose episodes are false.
        measured: other traffic, with its true faults.
        budgets_per_hour: of false alarms.
        join_ns: told lines at most so far apart are one episode.

    Raises:
        ValueError: calibration traffic has labels, is what is measured too, or has no line.
    """
    if any(trace.labels for trace in calibration):
        raise ValueError("thresholds are chosen on clean traffic, but a calibration trace has labels")
    if any(np.may_share_memory(one.scores, other.scores) for one in calibration for other in measured):
        raise ValueError("thresholds are chosen on other traffic than what is measured")
    hours = sum(observed_ns(trace.times_ns, trace.set_aside) for trace in calibration) / HOUR_NS
    points = []
    for budget, threshold in zip(
        budgets_per_hour, thresholds_for(calibration, budgets_per_hour, join_ns), strict=True
    ):
        total = sum((_measure(trace, threshold, join_ns) for trace in measured), EventMeasures())
        points.append(BudgetPoint(budget, threshold, budget * hours >= 1, total))
    return points


def thresholds_for(
    clean: Sequence[ScoredTrace], budgets_per_hour: Sequence[float], join_ns: int
) -> list[float]:
    """For each budget the lowest threshold that keeps it on clean traffic, as does every higher one.

    Exact: every distinct score is tried, from the highest down, until there are more episodes than the budget
    allows. (Further down there may be fewer again, when they grow together; that does not count.)

    Args:
        clean: traffic without faults; lines in what is set aside do not count.
        budgets_per_hour: of episodes.
        join_ns: told lines at most so far apart are one episode.

    Returns:
        Scores; lines above are told. Minus infinity where even all lines are few enough episodes.

    Raises:
        ValueError: there is no line.
    """
    hours = sum(observed_ns(trace.times_ns, trace.set_aside) for trace in clean) / HOUR_NS
    kept = [~trace.set_aside.hold(trace.times_ns) for trace in clean]
    scores = np.concatenate([trace.scores[keep] for trace, keep in zip(clean, kept, strict=True)])
    if not len(scores):
        raise ValueError("a threshold needs clean traffic to be chosen on")
    times, begin_ns = [], 0
    for trace, keep in zip(clean, kept, strict=True):
        # Behind one another, too far apart for an episode to reach from one trace into the next.
        own = trace.times_ns[keep]
        if len(own):
            times.append(own - own[0] + begin_ns)
            begin_ns = int(times[-1][-1]) + join_ns + 1
    time_ns = np.concatenate(times)
    order = np.argsort(-scores, kind="stable")
    # Floating-point: 0.1 an hour in ten hours is one, though the product may be a little less.
    allowed = [int(budget * hours + 1e-9) for budget in budgets_per_hour]
    lines = _FIRST_LINES
    while True:
        # One line more than is judged shows where the last score ends.
        head = order[:lines]
        counts = _episode_counts(time_ns[head], join_ns)
        ranked = scores[head]
        complete = np.append(np.diff(ranked) != 0, len(head) == len(order))
        if (counts[complete] > max(allowed, default=0)).any() or len(head) == len(order):
            break
        lines *= 4
    thresholds = []
    for most in allowed:
        over = np.flatnonzero(complete & (counts > most))
        thresholds.append(float(ranked[over[0]]) if len(over) else -np.inf)
    return thresholds


def _episode_counts(time_ns: Times, join_ns: int) -> Times:
    """Episodes of the first line, of the first two, and so on, shape (lines,); lines come by falling score.

    Counted backwards: all lines stand in a chain in the order of time, and one after the other is taken out.
    """
    nobody = len(time_ns)
    chain = np.argsort(time_ns, kind="stable").tolist()
    # `nobody` stands before the first line and after the last.
    following, previous = [nobody] * (nobody + 1), [nobody] * (nobody + 1)
    for one, other in pairwise([nobody, *chain, nobody]):
        following[one], previous[other] = other, one
    times = time_ns.tolist()

    def apart(one: int, other: int) -> bool:
        return nobody not in (one, other) and times[other] - times[one] > join_ns

    breaks = sum(apart(one, following[one]) for one in chain)
    counts = np.empty(nobody, np.int64)
    for line in range(nobody - 1, -1, -1):
        counts[line] = breaks + 1
        before, after = previous[line], following[line]
        following[before], previous[after] = after, before
        breaks += apart(before, after) - apart(before, line) - apart(line, after)
    return counts


def _measure(trace: ScoredTrace, threshold: float, join_ns: int) -> EventMeasures:
    told = (trace.scores > threshold) & ~trace.set_aside.hold(trace.times_ns)
    return measure_events(
        spans_above(trace.times_ns, told, join_ns),
        trace.labels,
        observed_ns(trace.times_ns, trace.set_aside),
        trace.set_aside,
    )


def spans_above(times_ns: Times, told: Bools, join_ns: int) -> list[Span]:
    """Episodes of told lines: those at most `join_ns` apart are one, told with its first line.

    Args:
        times_ns: sorted, shape (lines,).
        told: shape (lines,).
        join_ns: the longest time between two lines of one episode.
    """
    regions = runs(times_ns, told, join_ns)
    starts, ends = regions.starts_ns.tolist(), regions.ends_ns.tolist()
    return [Span(start, end, start) for start, end in zip(starts, ends, strict=True)]
