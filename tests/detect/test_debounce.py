"""Evidence that adds up, opens, drains and closes; threshold 6 nats, drift 4 nats a line."""

from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ecustream.detect.debounce import Debounce

THRESHOLD, DRIFT = 6.0, 4.0


def changes(rarities: Sequence[float], **options: bool | int) -> list[str | None]:
    """What each line's evidence changed."""
    debounce = Debounce(THRESHOLD, DRIFT, **options)  # type: ignore[arg-type]
    return [debounce.step(rarity) for rarity in rarities]


def test_one_strong_line_opens() -> None:
    """A line whose rarity reaches threshold and drift together opens at once; one a little below does not."""
    assert changes([10.0]) == ["opened"]
    assert changes([9.99]) == [None]


def test_weak_lines_in_a_row_add_up() -> None:
    """Three lines that each are too weak open together."""
    assert changes([6.5, 6.5, 6.5]) == [None, None, "opened"]


def test_weak_lines_far_apart_do_not_add_up() -> None:
    """What good lines in between drain is gone."""
    assert changes([6.5, 0.0] * 20) == [None] * 40


def test_lines_at_the_drift_never_open() -> None:
    """Evidence that is no more than the drift adds nothing, however often it comes."""
    assert changes([DRIFT] * 1000) == [None] * 1000


def test_closes_after_two_good_lines() -> None:
    """One good line is not yet the end, two in a row are, whatever evidence is left."""
    assert changes([30.0, 0.0, 30.0, 0.0, 0.0]) == ["opened", None, None, None, "closed"]


def test_hysteresis_keeps_a_finding_open_below_its_threshold() -> None:
    """Once open it takes less than half of the threshold to close."""
    # 10 - 4 = 6 opens; 3 leaves 5, 2 leaves 3, 3.9 leaves 2.9
    assert changes([10.0, 3.0, 2.0, 3.9]) == ["opened", None, None, "closed"]


def test_closed_finding_starts_again_from_nothing() -> None:
    """After a close it takes the whole evidence again to open."""
    assert changes([30.0, 0.0, 0.0, 9.9, 0.0, 10.0]) == ["opened", None, "closed", None, None, "opened"]


def test_a_flood_of_evidence_drains_as_fast_as_one_line() -> None:
    """The evidence is capped: after a hundred strong lines it closes no later than after one."""
    assert changes([100.0] * 100 + [1.0, 1.0, 1.0])[-3:].count("closed") == 1


def test_overlap_counts_one_displaced_line_once() -> None:
    """The intervals that one displaced line breaks count as their strongest, not as their sum."""
    assert changes([9.0, 9.0, 9.0], overlap=2) == [None] * 3
    assert changes([9.0, 9.0, 9.0]) == [None, "opened", None]
    assert changes([7.0, 10.0, 9.0], overlap=2) == [None, "opened", None]
    assert changes([9.0, 9.6, 9.6], overlap=2) == [None] * 3


def test_overlap_ends_after_its_lines() -> None:
    """Evidence beyond the overlap is another piece and adds up with the first."""
    assert changes([9.0, 0.0, 0.0, 9.0], overlap=2) == [None, None, None, "opened"]


def test_strongest_line_of_an_overlap_is_charged_the_drift() -> None:
    """Whether a negligible line came just before does not lower what a line must show to open."""
    assert changes([9.0], overlap=2) == [None]
    assert changes([0.5, 9.0], overlap=2) == [None, None]


def test_adapt_lets_only_what_is_new_add() -> None:
    """Evidence that is the same for a long time stops adding up; a line well beyond it still opens."""
    steady = [5.0] * 60
    assert "opened" in changes(steady)
    assert "opened" not in changes(steady, adapt=True)
    assert changes([*steady, 16.0], adapt=True)[-1] == "opened"


def test_reset_forgets_evidence() -> None:
    """After a reset the evidence from before counts no more, and nothing is open."""
    debounce = Debounce(THRESHOLD, DRIFT)
    debounce.step(9.0)
    debounce.reset()
    assert debounce.step(9.0) is None
    debounce.step(30.0)
    debounce.reset()
    assert not debounce.open
    assert debounce.idle


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.floats(0, 40), max_size=40),
    st.booleans(),
    st.integers(0, 3),
)
def test_opens_and_closes_alternate(rarities: list[float], adapt: bool, overlap: int) -> None:
    """A finding never opens twice nor closes twice in a row, and `open` says which was the last."""
    debounce = Debounce(THRESHOLD, DRIFT, adapt=adapt, overlap=overlap)
    last = "closed"
    for rarity in rarities:
        change = debounce.step(rarity)
        assert change != last
        last = change or last
        assert debounce.open == (last == "opened")
        assert debounce.peak_nats >= debounce.sum_nats >= 0.0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 40), max_size=20), st.booleans(), st.integers(0, 3))
def test_skipping_good_lines_while_idle_changes_nothing(
    rarities: list[float], adapt: bool, overlap: int
) -> None:
    """`idle` promises that a line without evidence may be left out."""
    whole = Debounce(THRESHOLD, DRIFT, adapt=adapt, overlap=overlap)
    sparing = Debounce(THRESHOLD, DRIFT, adapt=adapt, overlap=overlap)
    for rarity in rarities:
        for evidence in (0.0, 0.0, rarity):
            change = whole.step(evidence)
            if evidence > 0.0 or not sparing.idle:
                assert sparing.step(evidence) == change
            else:
                assert change is None


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 70)), max_size=8), st.integers(0, 2))
@example([(3.0, 40), (30.0, 2)], 0)
def test_resting_is_taking_a_line_without_evidence(script: list[tuple[float, int]], overlap: int) -> None:
    """Where nothing is held against the PDU, a rest leaves what a line without evidence leaves."""
    stepping = Debounce(8.0, 4.0, adapt=True, overlap=overlap)
    resting = Debounce(8.0, 4.0, adapt=True, overlap=overlap)
    for rarity, quiet in script:
        assert stepping.step(rarity) == resting.step(rarity)
        for _ in range(quiet):
            if not stepping.idle:
                stepping.step(0.0)
            if resting.open or resting.sum_nats > 0.0:
                resting.step(0.0)
            else:
                resting.rest()
            assert (resting.sum_nats, resting.peak_nats, resting.open, resting.idle) == (
                stepping.sum_nats,
                stepping.peak_nats,
                stepping.open,
                stepping.idle,
            )
