"""What episodes are worth to the person who is told them: faults found, how fast, and false alarms."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from training.labels import Label
from training.measures.intervals import NOWHERE, Intervals
from training.measures.rates import Rate, rate
from training.metrics import Found, Span, match

__all__ = ["EventMeasures", "Judgement", "judge_episodes", "measure_events"]


@dataclass(frozen=True, slots=True)
class EventMeasures:
    """Faults and episodes of a trace, or of several: `a + b` pools them.

    Attributes:
        found: faults that an episode tells, by the rules of `training.metrics.match`.
        faults: true faults, without those that lie in what is set aside.
        episodes: what was told, without what is excused.
        false: episodes that tell no fault.
        excused: episodes that tell no fault, but touch what is set aside.
        observed_ns: time that counts.
        latency_ms: for each found fault, from its start until the first episode that tells it was told; 0
            where that was told already, of an earlier fault or up to 0.5 s too early, and goes on into it.
    """

    found: int = 0
    faults: int = 0
    episodes: int = 0
    false: int = 0
    excused: int = 0
    observed_ns: int = 0
    latency_ms: tuple[float, ...] = field(default=(), repr=False)

    def __add__(self, other: "EventMeasures") -> "EventMeasures":
        return EventMeasures(
            self.found + other.found,
            self.faults + other.faults,
            self.episodes + other.episodes,
            self.false + other.false,
            self.excused + other.excused,
            self.observed_ns + other.observed_ns,
            self.latency_ms + other.latency_ms,
        )

    @property
    def recall(self) -> float | None:
        """Share of the faults that were found; None where there is none."""
        return self.found / self.faults if self.faults else None

    @property
    def precision(self) -> float | None:
        """Share of the episodes that tell a fault; None where nothing was told."""
        return 1 - self.false / self.episodes if self.episodes else None

    @property
    def false_alarms(self) -> Rate:
        """False episodes an hour with their exact 95 % interval."""
        return rate(self.false, self.observed_ns)

    def latency_quantile_ms(self, share: float) -> float | None:
        """Delay that this share of the found faults does not exceed, interpolated; None where none is found.

        0.5 is the median, 0.95 the usual bad case. Faults that were not found have no delay: quote recall
        beside it.
        """
        return float(np.quantile(self.latency_ms, share)) if self.latency_ms else None


def measure_events(
    episodes: Sequence[Span], labels: Sequence[Label], observed_ns: int, set_aside: Intervals = NOWHERE
) -> EventMeasures:
    """Judge the episodes of one trace.

    Args:
        episodes: in any order.
        labels: true faults, sorted by start; none: every episode is false.
        observed_ns: time that counts, see `intervals.observed_ns`.
        set_aside: where nothing counts, such as capture gaps: a fault wholly within is left out, and an
            episode that touches it is never false. It may still tell a fault.
    """
    counted, matched, false = judge_episodes(episodes, labels, set_aside)
    excused = len(episodes) - sum(matched.counts) - sum(false)
    return EventMeasures(
        found=sum(matched.found),
        faults=len(counted),
        episodes=len(episodes) - excused,
        false=sum(false),
        excused=excused,
        observed_ns=observed_ns,
        latency_ms=tuple(
            max(told_ns - label.start_ns, 0) / 1e6
            for told_ns, label in zip(matched.told_ns, counted, strict=True)
            if told_ns is not None
        ),
    )


class Judgement(NamedTuple):
    """Episodes and faults of one trace.

    Attributes:
        counted: faults that count: those not wholly within what is set aside.
        matched: the episodes against these.
        false: for each episode, whether it is false: it tells no fault, and touches nothing set aside.
    """

    counted: list[Label]
    matched: Found
    false: list[bool]


def judge_episodes(episodes: Sequence[Span], labels: Sequence[Label], set_aside: Intervals) -> Judgement:
    """Which faults count, which of them are told, and which episodes are false; see `measure_events`."""
    counted = [label for label in labels if not _within(label.start_ns, label.end_ns, set_aside)]
    matched = match(episodes, counted)
    false = [
        not right and not _touches(episode.start_ns, episode.end_ns, set_aside)
        for episode, right in zip(episodes, matched.counts, strict=True)
    ]
    return Judgement(counted, matched, false)


def _within(start_ns: int, end_ns: int, intervals: Intervals) -> bool:
    at = int(np.searchsorted(intervals.starts_ns, start_ns, side="right")) - 1
    return at >= 0 and end_ns <= int(intervals.ends_ns[at])


def _touches(start_ns: int, end_ns: int, intervals: Intervals) -> bool:
    at = int(np.searchsorted(intervals.starts_ns, end_ns, side="right")) - 1
    return at >= 0 and start_ns <= int(intervals.ends_ns[at])
