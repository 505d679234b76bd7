"""Frames that come nearly in the order of their times."""

from hypothesis import given
from hypothesis import strategies as st

from ecustream.capture.reorder import LATE, MAX_HELD, WINDOW_NS, Reorder
from ecustream.ledger import Ledger
from ecustream.traffic import Frame
from tests.capture.logger_frames import MS


def frames(*times_ns: int) -> list[Frame]:
    """Frames with these times."""
    return [Frame(1, time_ns, "eth1", 1, b"", 0) for time_ns in times_ns]


def times(handed_on: list[Frame]) -> list[int]:
    """Their times."""
    return [frame.time_ns for frame in handed_on]


@given(st.lists(st.lists(st.integers(0, WINDOW_NS - 1), max_size=20), max_size=30))
def test_disorder_within_the_window_is_none_after_it(batches: list[list[int]]) -> None:
    """Everything comes once, in order, and nothing is called late."""
    ledger = Ledger()
    order = Reorder(ledger)
    given_ns, handed_on = [], []
    for i, jitter in enumerate(batches):
        batch = frames(*(10**18 + i * MS + back for back in jitter))
        given_ns += times(batch)
        handed_on += order.put(batch)
        assert all(frame.time_ns > order.reached_ns for frame in order._held)
        assert order.held == len(given_ns) - len(handed_on)
    late = ledger.notes[LATE]
    handed_on += order.flush()
    assert sorted(given_ns) == sorted(times(handed_on))
    if max((back for jitter in batches for back in jitter), default=0) + len(batches) * MS < WINDOW_NS:
        assert late == 0
        assert times(handed_on) == sorted(given_ns)


def test_frames_of_one_time_stay_in_their_order() -> None:
    """As PDUs of one datagram do."""
    order = Reorder(Ledger())
    first, second = Frame(1, 5, "a", 1, b"", 0), Frame(2, 5, "b", 1, b"", 0)
    assert order.put([first]) + order.put([second]) + order.flush() == [first, second]


def test_late_frames_are_handed_on_at_once() -> None:
    """And noted; the others do not wait for less because of them."""
    ledger = Ledger()
    order = Reorder(ledger)
    assert times(order.put(frames(10**9, 10**9 + WINDOW_NS))) == [10**9]
    assert times(order.put(frames(10**9 - 2, 10**9 - 5, 10**9 + 7))) == [10**9 - 5, 10**9 - 2]
    assert ledger.notes == {LATE: 2}
    assert times(order.flush()) == [10**9 + 7, 10**9 + WINDOW_NS]


def test_time_passes_without_frames() -> None:
    """What is told to have passed is handed on, and what comes within that is not late unless it is."""
    ledger = Ledger()
    order = Reorder(ledger)
    assert order.put(frames(1000, 2000)) == []
    assert times(order.release(1500)) == [1000]
    assert order.reached_ns == 1500
    assert times(order.put(frames(1200))) == [1200]
    assert ledger.notes == {}
    assert order.release(1400) == []
    assert order.reached_ns == 1500


def test_a_clock_that_stands_still() -> None:
    """Its frames do not fill the memory."""
    order = Reorder(Ledger())
    handed_on = sum(len(order.put(frames(*[5] * 10_000))) for _ in range(10))
    assert handed_on == 100_000 - MAX_HELD


def test_another_clock_after_a_flush() -> None:
    """Nothing of the old one counts."""
    ledger = Ledger()
    order = Reorder(ledger)
    order.put(frames(10**18))
    assert times(order.flush()) == [10**18]
    assert order.reached_ns == 0
    assert order.put(frames(5)) == []
    assert ledger.notes == {}
