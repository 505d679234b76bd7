"""How well episodes meet true labels, in a way that a long episode cannot profit from."""

from collections.abc import Sequence
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

    `latency_ms` holds, for each good episode, when it was told after the start of its first label.
    """

    found: list[bool]
    false_episodes: int
    latency_ms: list[float]
    latency_after_end_ms: list[float]


def match(episodes: Sequence[Span], labels: Sequence[Label]) -> Found:
    """Match episodes with labels.

    An episode overlaps a label if it begins at most 100 ms after the label's end (some faults show only
    in the next message) and ends no earlier than the label's start. It counts, for all labels that it
    overlaps, only if it starts at most 0.5 s before the first of them, ends at most 1 s after the last,
    and has no stretch between two of them that is longer than both together. An episode that does not
    count is false.
    """
    found = [False] * len(labels)
    false = 0
    latency, after_end = [], []
    for episode in episodes:
        met = [
            i
            for i, label in enumerate(labels)
            if episode.start_ns <= label.end_ns + _REACTION_NS and episode.end_ns >= label.start_ns
        ]
        if not met:
            false += 1
            continue
        first = labels[met[0]]
        if not _fits(episode, [labels[i] for i in met]):
            false += 1
            continue
        for i in met:
            found[i] = True
        latency.append((episode.told_ns - first.start_ns) / 1e6)
        after_end.append((episode.told_ns - first.end_ns) / 1e6)
    return Found(found, false, latency, after_end)


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
