"""The queue of deadlines against a plain search over all of them."""

from hypothesis import example, given
from hypothesis import strategies as st

from ecustream.detect.deadlines import Deadlines
from ecustream.detect.debounce import Debounce
from ecustream.detect.watched import NEVER_NS, Watched
from ecustream.traffic import Stream
from tests.detect.scripts import pdu

NAMES = "ABCDE"
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.sampled_from(NAMES), st.integers(1, 40)),
        st.tuples(st.just("forget"), st.sampled_from(NAMES), st.just(0)),
        st.tuples(st.just("look"), st.just("A"), st.just(0)),
        st.tuples(st.just("pop"), st.just("A"), st.just(0)),
    ),
    max_size=60,
)


def watch(name: str) -> Watched:
    stream = Stream(0, name, name, "ETH1", "", 0, "", 0)
    return Watched(pdu(name), stream, Debounce(6, 4), Debounce(8, 4), 0.1)


@given(steps)
@example([("set", "A", 5), ("set", "B", 5), ("set", "A", 5)])
def test_the_soonest_deadline_comes_first(script: list[tuple[str, str, int]]) -> None:
    """However deadlines move or are forgotten: of those at one time the one that was set first."""
    deadlines = Deadlines()
    watched = {name: watch(name) for name in NAMES}
    held: dict[str, tuple[int, int]] = {}
    for turn, (what, name, at_ns) in enumerate(script):
        if what == "set":
            deadlines.set(watched[name], at_ns)
            if held.get(name, (0, 0))[0] != at_ns:
                held[name] = at_ns, turn
        elif what == "forget":
            watched[name].forget()
            held.pop(name, None)
        elif what == "look":
            assert deadlines.soonest_ns() == min((at for at, _ in held.values()), default=NEVER_NS)
        elif held:
            soonest = min(held, key=held.__getitem__)
            assert deadlines.pop() is watched[soonest]
            assert watched[soonest].deadline_ns is None
            del held[soonest]
    while held:
        soonest = min(held, key=held.__getitem__)
        assert deadlines.soonest_ns() == held.pop(soonest)[0]
        assert deadlines.pop() is watched[soonest]
    assert deadlines.soonest_ns() == NEVER_NS


def test_a_deadline_that_moves_for_ever_needs_one_place() -> None:
    """Entries that count no more leave the queue, which a daemon fills for months."""
    deadlines, watched = Deadlines(), watch("A")
    for i in range(100):
        deadlines.set(watched, 1000 + i)
        deadlines.soonest_ns()
        deadlines.set(watched, i)
        assert deadlines.soonest_ns() == i
    deadlines.set(watched, 2000)
    assert deadlines.soonest_ns() == 2000
    assert len(deadlines._queue) == 1
