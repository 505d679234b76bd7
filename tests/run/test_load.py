"""Whether traffic comes faster than it can be scored."""

from hypothesis import given
from hypothesis import strategies as st

from ecustream.run.load import Load

MS = 1_000_000


def states(looks: list[tuple[int, int, int]]) -> list[tuple[int, bool]]:
    """The changes that looks at (time in ms, ms behind, lines skipped) bring about, with their times."""
    load = Load()
    return [
        (at, load.overloaded) for at, behind, skipped in looks if load.step(at * MS, behind * MS, skipped)
    ]


def test_a_stall_is_no_overload() -> None:
    """Half a second behind counts only when it lasts for more than a second."""
    assert (
        states([(0, 0, 0), (100, 900, 0), (1100, 900, 0), (1101, 499, 0), (1200, 900, 0), (2200, 500, 0)])
        == []
    )
    assert states([(0, 500, 0), (1000, 700, 0), (1001, 500, 0)]) == [(1001, True)]


def test_skipping_is_overload_at_once() -> None:
    """Where lines were lost nobody waits for a second."""
    assert states([(0, 0, 0), (10, 0, 1)]) == [(10, True)]


def test_ends_after_a_calm_while() -> None:
    """It ends when nothing was skipped and little waited for two seconds, counted anew after each unrest."""
    calm = [(ms, 199, 0) for ms in range(100, 2101, 100)]
    assert states([(0, 0, 5), *calm]) == [(0, True)]
    assert states([(0, 0, 5), *calm, (2101, 0, 0)]) == [(0, True), (2101, False)]
    assert states([(0, 0, 5), *calm, (2101, 200, 0), (2102, 0, 0), (4102, 0, 0)]) == [(0, True)]
    assert states([(0, 0, 5), *calm, (2101, 0, 1), (2102, 0, 0), (4102, 0, 0)]) == [(0, True)]


def test_adds_up_how_long_it_lasted() -> None:
    """The time between two looks counts as overloaded if the first one found it so."""
    load = Load()
    for at, skipped in ((0, 0), (100, 3), (600, 0), (1600, 0), (2700, 0), (9000, 0), (9100, 1), (9200, 0)):
        load.step(at * MS, 0, skipped)
    assert load.overloaded
    assert load.overloaded_ns == (2700 - 100 + 100) * MS


@given(st.lists(st.tuples(st.integers(1, 1500), st.integers(0, 1000), st.integers(0, 1)), max_size=40))
def test_has_hysteresis(steps: list[tuple[int, int, int]]) -> None:
    """Overload begins only with a reason that lasted or lines that were skipped, and ends only in calm."""
    load, at = Load(), 0
    high_since: int | None = None
    calm_since: int | None = None
    for pause, behind, skipped in steps:
        at += pause
        was = load.overloaded
        high_since = (at if high_since is None else high_since) if behind >= 500 else None
        calm_since = (at if calm_since is None else calm_since) if behind < 200 and not skipped else None
        if load.step(at * MS, behind * MS, skipped):
            if was:
                assert calm_since is not None
                assert at - calm_since > 2000
            else:
                assert skipped or (high_since is not None and at - high_since > 1000)
        assert load.overloaded or not skipped
