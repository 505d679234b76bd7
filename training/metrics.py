"""How well episodes meet true labels, in a way that a long episode cannot profit from."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from training.labels import Context, Label

__all__ = ["Found", "Span", "match", "met"]

_EARLY_NS = 500_000_000
_LATE_END_NS = 1_000_000_000
_REACTION_NS = 100_000_000


class Span(NamedTuple):
    """An episode: when it began and ended, and when it was first told, in capture time."""

    start_ns: int
    end_ns: int
    told_ns: int


class Found(NamedTuple):
    """Result of `match`: which labels were found, how many episodes met none, delays of the others.

    `latency_ms` holds, for each good episode, when it was told after the start of its first label;
    `told_ns`, for each label, when the first episode was told that found it; `counts`, for each episode,
    whether it does.
    """

    found: list[bool]
    false_episodes: int
    latency_ms: list[float]
    latency_after_end_ms: list[float]
    told_ns: list[int | None]
    counts: list[bool]


def match(episodes: Sequence[Span], labels: Sequence[Label]) -> Found:
    """Match episodes with labels.

    An episode overlaps a label if it begins at most 100 ms after the label's end (some faults show only
    in the next message) and ends no earlier than the label's start. It counts, for all labels that it
    overlaps, only if it starts at most 0.5 s before the first of them, ends at most 1 s after the last,
    and has no stretch between two of them that is longer than both together. An episode that does not
    count is false.

    Args:
        episodes: in any order.
        labels: sorted by start.
    """
    told: list[int | None] = [None] * len(labels)
    counts = []
    latency, after_end = [], []
    starts = [label.start_ns for label in labels]
    latest_ends = list(accumulate((label.end_ns for label in labels), max))
    for episode in episodes:
        met = [
            i
            for i in range(
                bisect_left(latest_ends, episode.start_ns - _REACTION_NS),
                bisect_right(starts, episode.end_ns),
            )
            if episode.start_ns <= labels[i].end_ns + _REACTION_NS
        ]
        counts.append(bool(met) and _fits(episode, [labels[i] for i in met]))
        if not counts[-1]:
            continue
        for i in met:
            before = told[i]
            told[i] = episode.told_ns if before is None else min(before, episode.told_ns)
        latency.append((episode.told_ns - labels[met[0]].start_ns) / 1e6)
        after_end.append((episode.told_ns - labels[met[0]].end_ns) / 1e6)
    found = [moment is not None for moment in told]
    return Found(found, counts.count(False), latency, after_end, told, counts)


def _fits(episode: Span, labels: Sequence[Label]) -> bool:
    """Whether an episode stays close to the labels that it overlaps; `labels` are sorted by start."""
    if episode.start_ns < labels[0].start_ns - _EARLY_NS:
        return False
    covered_ns = labels[0].end_ns
    for label in labels[1:]:
        if label.start_ns - covered_ns > _EARLY_NS + _LATE_END_NS:
            return False
        covered_ns = max(covered_ns, label.end_ns)
    return episode.end_ns <= covered_ns + _LATE_END_NS


def met(episodes: Sequence[Span], intervals: Sequence[Context]) -> list[bool]:
    """For each interval, whether an episode overlaps it or begins at most 100 ms after its end."""
    return [
        any(e.start_ns <= interval.end_ns + _REACTION_NS and e.end_ns >= interval.start_ns for e in episodes)
        for interval in intervals
    ]
