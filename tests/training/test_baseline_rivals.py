"""Baselines with thresholds from clean traffic, run over traces."""

import numpy as np

from tests.training.baseline_traffic import NUMBERS, clean, injected, judged
from tests.training.clean_traffic import MS
from training.baselines.interval_score import IntervalScore
from training.baselines.random_score import RandomScore
from training.baselines.rival import Rival, RivalRun


def test_scores_and_episodes_of_each_trace() -> None:
    """Pieces one after the other, the interruption between them no fault."""
    late, start_ns, _ = injected("late")
    pieces = [clean(6, 4), late]
    _, found = judged(IntervalScore(), [clean(1, 60)], [], [clean(4, 60)], [pieces, [clean(5)]])
    (scores, spans), (quiet_scores, quiet_spans) = found
    assert len(scores) == sum(len(piece.time_ns) for piece in pieces)
    assert len(quiet_scores) == len(clean(5).time_ns)
    alone = IntervalScore().fit([clean(1, 60)], []).begin().scores(late)
    assert np.array_equal(scores[-len(alone) :], alone.astype(np.float32))
    (span,) = spans
    assert start_ns <= span.start_ns <= start_ns + 20 * MS
    assert quiet_spans == []


def test_silence_at_the_end_of_clean_traffic_raises_the_threshold() -> None:
    """A PDU that stays away from held-out traffic is no false alarm where it stays away as long."""
    quiet = injected("silent")[0]
    rival, ((_, spans),) = judged(IntervalScore(), [clean(1, 60)], [], [quiet], [[quiet]])
    assert spans == []
    assert rival.thresholds[1.0] > 100


def test_every_budget_has_its_episodes() -> None:
    """A lower threshold tells more; scores of lines that nobody judges are not kept."""
    fitted = RandomScore().fit([clean(1)], [])
    rival = Rival("random", fitted, {1.0: 0.999, 100.0: 0.5}, frozenset())
    for ranked in (True, False):
        run = RivalRun(rival, NUMBERS.sources, 10 * MS, ranked)
        for part in clean(5).parts(700):
            run.add(part)
        scores, spans = run.finish()
        assert len(scores) == (len(clean(5).time_ns) if ranked else 0)
        assert len(spans[1.0]) > 0
        assert sum(s.end_ns - s.start_ns for s in spans[1.0]) < sum(
            s.end_ns - s.start_ns for s in spans[100.0]
        )


def test_an_interruption_ends_an_episode() -> None:
    """However short it was: as in the detector."""
    fitted = RandomScore().fit([clean(1)], [])
    lines = clean(5, 1)
    counts = []
    for interrupted in (False, True):
        run = RivalRun(Rival("random", fitted, {1.0: 0.0}, frozenset()), NUMBERS.sources, 1000 * MS, False)
        run.add(lines.part(0, 50))
        if interrupted:
            run.gap()
        run.add(lines.part(50, 100))
        counts.append(len(run.finish()[1][1.0]))
    assert counts == [1, 2]
