"""Every baseline on periodic traffic: what it finds and what it cannot; scores are those of a stream."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.errors import InputError
from tests.training.baseline_traffic import (
    at_ns,
    clean,
    in_parts,
    injected,
    judged,
    labelled,
)
from tests.training.clean_traffic import MS
from training.baselines.chart_score import ewma_score
from training.baselines.columns import Columns, Labelled, joined
from training.baselines.drawn import BLOCK_LINES
from training.baselines.every import every_baseline
from training.baselines.protocol import Baseline, Fitted
from training.baselines.random_score import RandomScore
from training.metrics import Span

NAMES = [baseline.name for baseline in every_baseline()]
FAULTS = ("late", "missing", "silent", "burst", "drift")
LEARNED_LATE = {"late", "missing"}
"""What a classifier finds that was trained on late messages: a lost one shows as a long interval as well."""
FOUND = {
    "random": set(),
    "interval rule": {"late", "missing", "silent", "burst"},
    "window counts": {"late", "missing", "burst"},
    "EWMA": {"late", "missing", "burst", "drift"},
    "CUSUM": {"late", "missing", "burst", "drift"},
    "isolation forest": {"burst"},
    "random forest": LEARNED_LATE,
    "logistic regression": LEARNED_LATE,
    "support vector machine": LEARNED_LATE,
    "k nearest neighbours": LEARNED_LATE,
    "gradient boosting": LEARNED_LATE,
}


@pytest.fixture(scope="module")
def training() -> tuple[list[Columns], list[Labelled]]:
    """Two minutes of clean traffic, and one of labelled."""
    return [clean(1, 60), clean(2, 60)], [labelled(3)]


@pytest.fixture(scope="module")
def fitted(training: tuple[list[Columns], list[Labelled]]) -> dict[str, Fitted]:
    """Every baseline, fitted, by name."""
    return {baseline.name: baseline.fit(*training) for baseline in every_baseline()}


@pytest.fixture(scope="module")
def episodes(training: tuple[list[Columns], list[Labelled]]) -> dict[str, list[list[Span]]]:
    """What every baseline tells of traffic with one fault each."""
    held_out = [clean(4, 60), clean(5, 60)]
    traces = [[injected(fault)[0]] for fault in FAULTS]
    return {
        baseline.name: [spans for _, spans in judged(baseline, *training, held_out, traces)[1]]
        for baseline in every_baseline()
    }


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", NAMES)
def test_finds_what_it_should_and_not_what_it_cannot(
    name: str, fault: str, episodes: dict[str, list[list[Span]]]
) -> None:
    """An episode overlaps the fault, or begins within 0.1 s of its end, where the baseline can see it."""
    _, start_ns, end_ns = injected(fault)
    spans = episodes[name][FAULTS.index(fault)]
    found = any(span.start_ns <= end_ns + 100 * MS and span.end_ns >= start_ns for span in spans)
    if name.startswith(("logistic", "support", "k nearest")) and fault == "burst":
        return  # how far a boundary learned of late messages reaches to the other side is chance
    assert found == (fault in FOUND[name])


def test_silence_is_told_at_its_deadline(episodes: dict[str, list[list[Span]]]) -> None:
    """The interval rule tells of a PDU that stays away within two cycles of 20 ms."""
    _, start_ns, _ = injected("silent")
    (span,) = episodes["interval rule"][FAULTS.index("silent")]
    assert 0 <= span.told_ns - start_ns < 20 * MS


def test_same_training_same_scores(
    training: tuple[list[Columns], list[Labelled]], fitted: dict[str, Fitted]
) -> None:
    """Fitting again gives the same scores, bit by bit."""
    lines = injected("late")[0]
    for baseline in every_baseline():
        again = baseline.fit(*training).begin().scores(lines)
        assert np.array_equal(fitted[baseline.name].begin().scores(lines), again), baseline.name


def test_two_traces_do_not_know_of_each_other(fitted: dict[str, Fitted]) -> None:
    """A trace scores the same after another one."""
    lines, other = injected("late")[0], injected("burst")[0]
    for name, baseline in fitted.items():
        alone = baseline.begin().scores(lines)
        baseline.begin().scores(other)
        assert np.array_equal(baseline.begin().scores(lines), alone), name


def test_after_a_gap_nothing_is_late(fitted: dict[str, Fitted]) -> None:
    """What comes 5 s after an interruption scores as what comes at the start of a trace."""
    lines = clean(6, 4)
    moved = lines._replace(time_ns=lines.time_ns + 9_000 * MS)
    for name, baseline in fitted.items():
        if name == "random":
            continue
        scoring = baseline.begin()
        scoring.scores(lines)
        scoring.gap()
        fresh = baseline.begin().scores(moved)
        assert scoring.scores(moved) == pytest.approx(fresh, rel=1e-9, abs=1e-9), name


@st.composite
def traffic(draw: st.DrawFn) -> Columns:
    """Any lines, of PDUs A to E and two that are not known; times go back now and then."""
    count = draw(st.integers(1, 60))
    steps = st.integers(-(2**22), 2**24) | st.sampled_from([0, 10_000_000_000, 3 * 10**17])
    gaps = draw(st.lists(steps, min_size=count, max_size=count))
    pdus = draw(st.lists(st.integers(0, 6), min_size=count, max_size=count))
    states = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    times = at_ns(0) + np.cumsum(np.array(gaps, np.int64))
    return Columns(times, np.array(pdus, np.int32), np.array(states, np.int8))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(lines=traffic(), cuts=st.lists(st.integers(0, 60), max_size=3), at=st.integers(0, 60), more=traffic())
def test_scores_are_those_of_a_stream(
    name: str, fitted: dict[str, Fitted], lines: Columns, cuts: list[int], at: int, more: Columns
) -> None:
    """Finite, the same however lines are cut into batches, and not changed by what comes later."""
    baseline = fitted[name]
    scores = baseline.begin().scores(lines)
    assert scores.shape == lines.time_ns.shape
    assert np.isfinite(scores).all()
    # Products of matrices differ in the last bits.
    assert in_parts(baseline.begin(), lines, cuts) == pytest.approx(scores, rel=1e-9, abs=1e-9)
    other = baseline.begin().scores(joined([lines.part(0, at), more]))
    assert other[: min(at, len(scores))] == pytest.approx(scores[:at], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", ["isolation forest", "logistic regression"])
def test_more_lines_than_a_block(name: str, fitted: dict[str, Fitted]) -> None:
    """What is given at once but turned into features in blocks scores as what is given in parts."""
    lines = clean(9, 300)
    assert len(lines.time_ns) > BLOCK_LINES
    whole = fitted[name].begin().scores(lines)
    parts = in_parts(fitted[name].begin(), lines, [10_000, 40_000])
    assert np.allclose(whole, parts, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["interval rule", "window counts", "EWMA", "CUSUM"])
def test_unknown_pdus_score_nothing(name: str, fitted: dict[str, Fitted]) -> None:
    """What clean traffic had no line of has no rhythm to break."""
    lines = clean(7, 5)
    unknown = lines._replace(pdu=lines.pdu + 100)
    assert not fitted[name].begin().scores(unknown).any()


@pytest.mark.parametrize("baseline", every_baseline()[1:], ids=NAMES[1:])
def test_too_little_clean_traffic(baseline: Baseline) -> None:
    """Traffic in which nothing repeats is refused in a sentence."""
    with pytest.raises(InputError, match="too little clean traffic: no PDU comes more than 20 times"):
        baseline.fit([clean(1, 0.1)], [labelled(3)])


@pytest.mark.parametrize(("value", "which"), [(False, "no line"), (True, "every line")])
def test_labels_of_one_kind(value: bool, which: str) -> None:
    """A classifier cannot learn from labels that are all the same."""
    lines = clean(1, 5)
    labels = np.full(len(lines.time_ns), value)
    for baseline in every_baseline():
        if baseline.needs_labels:
            with pytest.raises(InputError, match=f"{baseline.name} cannot learn: {which} of the labelled"):
                baseline.fit([lines], [Labelled(lines, labels)])


def test_random_scores_are_uniform_and_of_their_seed() -> None:
    """Mean and spread of a uniform distribution; another seed or another trace, other scores."""
    lines, other = clean(1), clean(2)
    scores = RandomScore(0).begin().scores(lines)
    assert abs(float(scores.mean()) - 0.5) < 5 / np.sqrt(12 * len(scores))
    assert abs(float(scores.std()) - 12**-0.5) < 0.01
    for others in (RandomScore(1).begin().scores(lines), RandomScore(0).begin().scores(other)):
        count = min(len(scores), len(others))
        assert abs(float(np.corrcoef(scores[:count], others[:count])[0, 1])) < 5 / np.sqrt(count)


def test_chart_forgets_a_silence() -> None:
    """After a PDU was away for 5 s its chart stands at nothing again with the next good line."""
    lines = clean(8)
    away = (lines.pdu == 2) & (lines.time_ns > at_ns(10)) & (lines.time_ns < at_ns(15))
    lines = Columns(*(column[~away] for column in lines))
    scores = ewma_score().fit([clean(1, 60)], []).begin().scores(lines)
    own = np.flatnonzero((lines.pdu == 2) & (lines.time_ns >= at_ns(15)))
    assert scores[own[0]] > 10
    assert scores[own[1:20]].max() < 1
