"""The ring between capture and scoring."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.ledger import Ledger
from ecustream.run.ring import Policy, Ring, RingCancelled
from ecustream.traffic import STATE_NORMAL, Line, Stream

STREAM = Stream(0, "P", "P", "eth1", "a", 1, "b", 2)
TIMEOUT_S = 10.0


def lines(start: int, count: int) -> list[Line]:
    """Lines with the numbers from `start` on."""
    return [Line(n, n, n, STREAM, STATE_NORMAL, None) for n in range(start, start + count)]


def make_ring(capacity: int, policy: Policy = "wait") -> tuple[Ring, Ledger]:
    """A ring and its ledger."""
    ledger = Ledger()
    return Ring(capacity, policy, ledger), ledger


def take(ring: Ring, chunk: int, *, whole: bool) -> tuple[list[Line], int]:
    """The next lines: a whole chunk if `whole`, else what is there as soon as there is any."""
    waited_s = 0.0
    while True:
        held = ring.waiting()
        if held.ended or held.lines >= (chunk if whole else 1):
            return ring.take(chunk)
        time.sleep(1e-4)
        waited_s += 1e-4
        assert waited_s < TIMEOUT_S


def in_thread(work: object) -> threading.Thread:
    """Runs `work` in a thread that does not outlive a failed test."""
    thread = threading.Thread(target=work, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


def put_sizes(ring: Ring, sizes: list[int]) -> None:
    """Puts consecutively numbered lines in batches of these sizes, and closes."""
    number = 0
    for size in sizes:
        ring.put(lines(number, size))
        number += size
    ring.close()


SIZES = st.lists(st.integers(0, 25), max_size=30)


@given(sizes=SIZES, capacity=st.integers(1, 20), data=st.data(), whole=st.booleans())
@settings(deadline=None, max_examples=60)
def test_waiting_loses_and_reorders_nothing(
    sizes: list[int], capacity: int, data: st.DataObject, whole: bool
) -> None:
    """Where capture waits each line comes out once and in order, and whole chunks do not depend on timing."""
    chunk = data.draw(st.integers(1, capacity))
    ring, ledger = make_ring(capacity)
    producer = in_thread(lambda: put_sizes(ring, sizes))
    taken: list[int] = []
    chunks: list[int] = []
    while not ring.closed_and_empty:
        got, gap = take(ring, chunk, whole=whole)
        assert gap == 0
        assert len(ring) <= capacity
        taken += [line.number for line in got]
        chunks.append(len(got))
    producer.join(TIMEOUT_S)
    assert taken == list(range(sum(sizes)))
    if whole:
        full, rest = divmod(sum(sizes), chunk)
        assert [size for size in chunks if size] == [chunk] * full + [rest] * (rest > 0)
    assert ledger.ends["lines"] == {}


@given(sizes=SIZES, capacity=st.integers(1, 20), data=st.data())
@settings(deadline=None, max_examples=60)
def test_skipping_in_threads_reports_every_gap(sizes: list[int], capacity: int, data: st.DataObject) -> None:
    """Taken and overwritten lines are all lines, and each gap stands exactly where numbers are missing."""
    chunk = data.draw(st.integers(1, capacity))
    ring, ledger = make_ring(capacity, "skip")
    producer = in_thread(lambda: put_sizes(ring, sizes))
    expected, overwritten, taken = 0, 0, 0
    while not ring.closed_and_empty:
        got, gap = take(ring, chunk, whole=False)
        overwritten += gap
        taken += len(got)
        assert [line.number for line in got] == list(range(expected + gap, expected + gap + len(got)))
        expected += gap + len(got)
    producer.join(TIMEOUT_S)
    assert taken + overwritten == sum(sizes)
    assert ledger.ended("lines", "overwritten") == overwritten
    assert len(ledger.ends["lines"]) <= 1


@given(
    st.lists(st.tuples(st.sampled_from(["put", "take"]), st.integers(0, 14)), max_size=40), st.integers(1, 10)
)
@settings(deadline=None, max_examples=200)
def test_skipping_keeps_the_newest_half(steps: list[tuple[str, int]], capacity: int) -> None:
    """A ring that overflows keeps the newest lines, half of what it holds; a plain list is the model."""
    ring, ledger = make_ring(capacity, "skip")
    model: list[int] = []
    number, gap = 0, 0
    for step, size in steps:
        if step == "put":
            ring.put(lines(number, size))
            model += range(number, number + size)
            number += size
            if len(model) > capacity:
                keep = max(1, capacity // 2)
                gap += len(model) - keep
                model = model[-keep:]
        elif model:
            want = min(max(size, 1), capacity)
            got, reported = ring.take(want)
            assert ([line.number for line in got], reported) == (model[:want], gap)
            model, gap = model[want:], 0
        assert len(ring) == len(model)
    assert ledger.ended("lines", "overwritten") + len(model) <= number


def test_overwritten_lines_end_as_backlog() -> None:
    """The ledger names the reason; a batch larger than the ring keeps half a ring of newest lines."""
    ring, ledger = make_ring(4, "skip")
    ring.put(lines(0, 2))
    ring.put(lines(2, 5))
    assert ledger.ends["lines"] == {"overwritten{backlog}": 5}
    assert ring.take(3) == (lines(5, 2), 5)
    ring.put(lines(7, 1))
    assert ring.take(1) == (lines(7, 1), 0)


def test_a_full_ring_loses_nothing_until_it_overflows() -> None:
    """Exactly as many lines as fit are all kept, in both kinds of ring."""
    for policy in ("wait", "skip"):
        ring, _ = make_ring(5, policy)
        ring.put(lines(0, 3))
        ring.put(lines(3, 2))
        assert ring.take(5) == (lines(0, 5), 0)


def test_tells_how_long_the_oldest_line_waits() -> None:
    """The arrival is that of the first line left, also where a part of its batch was taken."""
    now = [100]
    ring = Ring(10, "skip", Ledger(), now_ns=lambda: now[0])
    assert ring.waiting() == (0, 0, False)
    ring.put(lines(0, 3))
    now[0] = 200
    ring.put(lines(3, 3))
    assert ring.waiting() == (6, 100, False)
    ring.take(2)
    assert ring.waiting() == (4, 100, False)
    ring.take(1)
    ring.close()
    assert ring.waiting() == (3, 200, True)


def test_take_does_not_wait() -> None:
    """The consumer gets what is there, even nothing."""
    ring, _ = make_ring(10)
    ring.put(lines(0, 2))
    assert ring.take(5) == (lines(0, 2), 0)
    assert ring.take(5) == ([], 0)


def test_close_lets_the_consumer_drain() -> None:
    """After close the rest comes out, then nothing, without waiting; and nothing can be put."""
    ring, _ = make_ring(10)
    ring.put(lines(0, 3))
    ring.close()
    assert not ring.closed_and_empty
    assert ring.take(2) == (lines(0, 2), 0)
    assert ring.take(2) == (lines(2, 1), 0)
    assert ring.closed_and_empty
    assert ring.take(2) == ([], 0)
    with pytest.raises(ValueError, match="closed"):
        ring.put(lines(3, 1))


def test_the_producers_error_reaches_the_consumer_after_its_lines() -> None:
    """Lines before the error are scored first, then the consumer gets the error itself."""
    ring, _ = make_ring(10)
    ring.put(lines(0, 3))
    error = OSError("the cable is out")
    ring.fail(error)
    assert ring.take(10) == (lines(0, 3), 0)
    with pytest.raises(OSError, match="cable") as caught:
        ring.take(10)
    assert caught.value is error


def test_cancel_stops_a_waiting_producer() -> None:
    """A producer waiting for room is woken and told, and every line it had ends in the ledger."""
    ring, ledger = make_ring(4)
    stopped = threading.Event()

    def produce() -> None:
        try:
            ledger.enter("lines", 10)
            ring.put(lines(0, 10))
        except RingCancelled:
            stopped.set()

    producer = in_thread(produce)
    assert take(ring, 2, whole=True) == (lines(0, 2), 0)
    ledger.end("lines", "scored", 2)
    ring.cancel()
    assert stopped.wait(TIMEOUT_S)
    producer.join(TIMEOUT_S)
    assert ledger.ends["lines"] == {"scored": 2, "unscored{cancelled}": 8}
    assert ledger.balanced()
    assert ring.take(2) == ([], 0)
    assert ring.waiting().ended
    with pytest.raises(RingCancelled):
        ring.put([])


def test_a_ring_holds_something() -> None:
    """A ring without room is refused."""
    with pytest.raises(ValueError, match="at least one"):
        make_ring(0)


@pytest.mark.parametrize("wanted", [1, 4])
def test_wakes_the_consumer_when_it_wants(wanted: int) -> None:
    """The consumer is notified once the lines are there that it waits for, and when there will be no more."""
    changed = threading.Condition()
    ring = Ring(10, "wait", Ledger(), changed)
    ring.wake_at(wanted)
    for closes in (False, True):
        seen: list[int] = []
        started = threading.Event()

        def consume(seen: list[int] = seen, started: threading.Event = started) -> None:
            with changed:
                started.set()
                assert changed.wait(TIMEOUT_S)
                seen.append(len(ring))

        consumer = in_thread(consume)
        started.wait(TIMEOUT_S)
        if closes:
            ring.close()
        else:
            for number in range(wanted):
                assert not seen
                ring.put(lines(number, 1))
        consumer.join(TIMEOUT_S)
        assert seen == [wanted]
