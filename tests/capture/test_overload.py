"""When blocks are held back, as a script of losses."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ecustream.capture.overload import PERIOD_NS, Overload


def test_one_loss_is_no_overload() -> None:
    """Neither is one that comes long after another."""
    overload = Overload()
    for now_ns in (5, 5 + PERIOD_NS, 5 + 3 * PERIOD_NS):
        overload.lost(now_ns)
        assert not overload.holding
        assert not overload.is_due(now_ns + 9 * PERIOD_NS)


def test_losses_close_together() -> None:
    """From the second on blocks are held, until the period since the first is over."""
    overload = Overload()
    overload.lost(100)
    overload.lost(300)
    assert overload.holding
    assert not overload.is_due(99 + PERIOD_NS)
    assert overload.is_due(100 + PERIOD_NS)
    overload.release()
    assert not overload.holding


@given(st.lists(st.integers(1, PERIOD_NS // 3), max_size=60))
def test_one_release_in_a_period(steps_ns: list[int]) -> None:
    """However losses come, what is held is given back at most once a period, and not much later."""
    overload, now_ns, released_ns = Overload(), 0, []
    held_ns = None
    for step_ns in steps_ns:
        now_ns += step_ns
        if not overload.holding:
            overload.lost(now_ns)
            held_ns = now_ns if overload.holding else None
        if overload.is_due(now_ns):
            overload.lost(now_ns)
            overload.release()
            released_ns.append(now_ns)
        elif held_ns is not None:
            assert now_ns - held_ns < PERIOD_NS
    assert all(b - a >= PERIOD_NS for a, b in pairwise(released_ns))
