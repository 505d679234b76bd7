"""Affiliation against its definition, the published code, and chance."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.measures.definitions import affiliation_by_counting
from training.measures.affiliation import affiliation
from training.metrics import Span

T0 = 1_700_000_000_000_000_000
UNIT = 1000
Pairs = list[tuple[int, int]]


def spans(pairs: Pairs, unit: int = UNIT) -> list[Span]:
    """Half-open intervals as spans, whose last ns belongs to them."""
    return [Span(T0 + start * unit, T0 + end * unit - 1, 0) for start, end in pairs]


@st.composite
def apart(draw: st.DrawFn) -> Pairs:
    """Intervals in 0 to 20 that do not meet."""
    ends = sorted(draw(st.sets(st.integers(0, 20), min_size=2, max_size=6)))
    return list(zip(ends[::2], ends[1::2], strict=False))


@settings(deadline=None, max_examples=50)
@given(apart(), apart())
def test_as_defined(told: Pairs, faults: Pairs) -> None:
    """Probabilities counted on a grid agree with the closed form as far as the grid is fine."""
    precision, recall = affiliation_by_counting(told, faults, 20, grain=10)
    result = affiliation(spans(told), spans(faults), T0, T0 + 20 * UNIT - 1)
    assert result.recall == pytest.approx(recall, abs=0.06)
    if precision is None:
        assert result.precision is None
    else:
        assert result.precision == pytest.approx(precision, abs=0.06)


def test_as_published() -> None:
    """The authors' code (as in vus 0.0.6, PyPI) on one example."""
    told, faults = [(2, 4), (12, 20), (39, 40), (55, 58)], [(10, 15), (30, 42), (50, 51)]
    result = affiliation(spans(told, 1), spans(faults, 1), T0, T0 + 59)
    assert result.precision == pytest.approx(0.6198148148148148)
    assert result.recall == pytest.approx(0.6800068951930655)


def test_perfect_and_nothing() -> None:
    """The faults themselves have 1 and 1; no alarm has no precision; no fault, nothing is known."""
    faults = spans([(3, 5), (9, 12)])
    assert affiliation(faults, faults, T0, T0 + 19_999) == (1.0, 1.0)
    assert affiliation([], faults, T0, T0 + 19_999) == (None, 0.0)
    assert affiliation(faults, [], T0, T0 + 19_999) == (None, None)


def test_an_alarm_up_to_a_zones_edge_is_not_in_the_next() -> None:
    """The second fault's zone begins where the alarm ends: no precision there, and a recall of 0."""
    result = affiliation(spans([(2, 4), (5, 7)]), spans([(2, 4), (10, 12)]), T0, T0 + 19_999)
    alone = affiliation(spans([(2, 4), (5, 7)]), spans([(2, 4)]), T0, T0 + 6_999)
    assert result.precision == alone.precision
    assert result.recall == 0.5


def test_chance_reaches_one_half_and_nearly_one() -> None:
    """Why these numbers need a random row: an alarm of one moment each 2 % of the trace."""
    told = spans([(i, i + 1) for i in range(7, 1000, 20)])
    result = affiliation(told, spans([(480, 520)]), T0, T0 + 1000 * UNIT - 1)
    assert result.precision == pytest.approx(0.5, abs=0.06)
    assert result.recall is not None
    assert result.recall > 0.98


def test_moments_and_what_lies_outside() -> None:
    """An alarm of a single ns counts; what the trace does not hold is cut off."""
    faults = spans([(3, 5)])
    inside = Span(faults[0].start_ns, faults[0].start_ns, 0)
    assert affiliation([inside], faults, T0, T0 + 19_999).precision == 1.0
    beyond = [*faults, Span(T0 - 500, T0 - 1, 0), Span(T0 + 20_000, T0 + 30_000, 0)]
    assert affiliation(faults, beyond, T0, T0 + 19_999) == (1.0, 1.0)
