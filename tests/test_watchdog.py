"""A hang is told from idleness, at given times; nothing here waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecustream.watchdog import Stall, Watchdog

S = 1_000_000_000
BOUNDS = {"capture": 2 * S, "scoring": 10 * S}


def test_healthy_while_all_beat() -> None:
    """Stages that beat within their bounds are healthy, whether they had anything to do or not."""
    watchdog = Watchdog(BOUNDS, 0)
    for now_ns in range(0, 60 * S, 2 * S):
        watchdog.beat("capture", now_ns)
        if now_ns % (10 * S) == 0:
            watchdog.beat("scoring", now_ns)
        assert watchdog.look(now_ns).healthy


def test_the_bound_itself_is_still_healthy() -> None:
    """A stage stands still from beyond its bound on, counted from the start where it never beat."""
    watchdog = Watchdog(BOUNDS, 5 * S)
    assert watchdog.look(7 * S).healthy
    assert not watchdog.look(7 * S + 1).healthy


def test_one_that_stands_still_is_named() -> None:
    """The others going on does not hide it; it is told since when, and in words."""
    watchdog = Watchdog(BOUNDS, 0)
    watchdog.beat("scoring", 3 * S)
    watchdog.beat("capture", 14 * S)
    verdict = watchdog.look(15 * S)
    assert verdict.stalls == (Stall("scoring", 3 * S, 12 * S, 10 * S),)
    assert verdict.sentence == "scoring has stood still for 12.0 s, more than 10 s"


def test_the_longest_comes_first() -> None:
    """It is most likely the cause of the others."""
    watchdog = Watchdog(BOUNDS, 0)
    watchdog.beat("capture", 4 * S)
    assert [stall.stage for stall in watchdog.look(20 * S).stalls] == ["scoring", "capture"]


def test_goes_on_again() -> None:
    """A beat heals; the sentence is empty then."""
    watchdog = Watchdog(BOUNDS, 0)
    watchdog.beat("scoring", 5 * S)
    assert not watchdog.look(5 * S).healthy
    watchdog.beat("capture", 6 * S)
    verdict = watchdog.look(6 * S)
    assert (verdict.healthy, verdict.sentence) == (True, "")


def test_a_change_is_told_once() -> None:
    """`changed` is true at the first look at another set of stages, so that a hang is one line of the log."""
    watchdog = Watchdog(BOUNDS, 0)
    changes = []
    for now_s, beats in ((1, []), (3, []), (4, []), (11, []), (12, ["capture"]), (13, ["scoring"]), (14, [])):
        for stage in beats:
            watchdog.beat(stage, now_s * S)
        changes.append(watchdog.look(now_s * S).changed)
    assert changes == [False, True, False, True, True, True, False]


def test_a_stage_that_has_ended() -> None:
    """The capture of a trace comes to its end, which is no hang."""
    watchdog = Watchdog(BOUNDS, 0)
    watchdog.end("capture")
    assert watchdog.look(10 * S).healthy
    assert [stall.stage for stall in watchdog.look(11 * S).stalls] == ["scoring"]


@pytest.mark.parametrize("name", ["beat", "end"])
def test_unknown_stages_are_refused(name: str) -> None:
    """A misspelt stage would never be watched."""
    watchdog = Watchdog(BOUNDS, 0)
    with pytest.raises(KeyError, match="scorign"):
        getattr(watchdog, name)(*["scorign", 0][: 2 if name == "beat" else 1])


@pytest.mark.parametrize("bounds", [{}, {"capture": 0}, {"capture": 5, "scoring": -1}])
def test_impossible_bounds_are_refused(bounds: dict[str, int]) -> None:
    """Nothing to watch, or nothing that could be healthy."""
    with pytest.raises(ValueError, match=r"watchdog needs|bound of"):
        Watchdog(bounds, 0)


@given(
    st.lists(st.tuples(st.sampled_from(["capture", "scoring", "look"]), st.integers(0, 5 * S)), max_size=60)
)
def test_as_defined(script: list[tuple[str, int]]) -> None:
    """At any look exactly those stages stand still whose last beat is further back than their bound."""
    watchdog, now_ns, last = Watchdog(BOUNDS, 0), 0, dict.fromkeys(BOUNDS, 0)
    for what, step_ns in script:
        now_ns += step_ns
        if what != "look":
            watchdog.beat(what, now_ns)
            last[what] = now_ns
            continue
        still = {stage for stage, bound_ns in BOUNDS.items() if now_ns - last[stage] > bound_ns}
        verdict = watchdog.look(now_ns)
        assert {stall.stage for stall in verdict.stalls} == still
        assert verdict.healthy == (not still)
