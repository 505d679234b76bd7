"""The ring between capture and scoring."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.ledger import Ledger
from ecustream.ring import Policy, Ring, RingCancelled
from ecustream.traffic import STATE_NORMAL, Line, Stream

STREAM = Stream(0, "P", "P", "eth1", "a", 1, "b", 2)
TIMEOUT_S = 10.0


def lines(start: int, count: int) -> list[Line]:
    """Lines with the numbers from `start` on."""
    return [Line(n, n, n, STREAM, STATE_NORMAL, None) for n in range(start, start + count)]


def make_ring(capacity: int, policy: Policy = "block") -> tuple[Ring, Ledger]:
    """A ring and its ledger."""
    ledger = Ledger()
    return Ring(capacity, policy, ledger), ledger


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
def test_block_loses_and_reorders_nothing(
    sizes: list[int], capacity: int, data: st.DataObject, whole: bool
) -> None:
    """In block mode every line comes out once and in order, and whole chunks do not depend on timing."""
    chunk = data.draw(st.integers(1, capacity))
    ring, ledger = make_ring(capacity)
    producer = in_thread(lambda: put_sizes(ring, sizes))
    taken: list[int] = []
    chunks: list[int] = []
    while not ring.closed_and_empty:
        got, gap = ring.take(chunk, whole=whole, timeout_s=TIMEOUT_S)
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
def test_overwrite_in_threads_reports_every_gap(sizes: list[int], capacity: int, data: st.DataObject) -> None:
    """Taken and overwritten lines are all lines, and each gap stands exactly where numbers are missing."""
    chunk = data.draw(st.integers(1, capacity))
    ring, ledger = make_ring(capacity, "overwrite")
    producer = in_thread(lambda: put_sizes(ring, sizes))
    expected, overwritten, taken = 0, 0, 0
    while not ring.closed_and_empty:
        got, gap = ring.take(chunk, whole=False, timeout_s=TIMEOUT_S)
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
def test_overwrite_keeps_the_newest(steps: list[tuple[str, int]], capacity: int) -> None:
    """In overwrite mode the ring holds the newest lines; a plain list is the model."""
    ring, ledger = make_ring(capacity, "overwrite")
    model: list[int] = []
    number, gap = 0, 0
    for step, size in steps:
        if step == "put":
            ring.put(lines(number, size))
            model += range(number, number + size)
            number += size
            gap += max(0, len(model) - capacity)
            model = model[-capacity:]
        elif model:
            want = min(max(size, 1), capacity)
            got, reported = ring.take(want, whole=False)
            assert ([line.number for line in got], reported) == (model[:want], gap)
            model, gap = model[want:], 0
        assert len(ring) == len(model)
    assert ledger.ended("lines", "overwritten") + len(model) <= number


def test_overwritten_lines_end_as_backlog() -> None:
    """The ledger names the reason; a batch larger than the ring keeps its newest lines."""
    ring, ledger = make_ring(3, "overwrite")
    ring.put(lines(0, 2))
    ring.put(lines(2, 5))
    assert ledger.ends["lines"] == {"overwritten{backlog}": 4}
    got, gap = ring.take(3)
    assert ([line.number for line in got], gap) == ([4, 5, 6], 4)
    ring.put(lines(7, 1))
    assert ring.take(1) == (lines(7, 1), 0)


def test_take_without_whole_returns_what_is_there() -> None:
    """A live consumer gets what is there at once, and nothing after its time."""
    ring, _ = make_ring(10)
    ring.put(lines(0, 2))
    assert ring.take(5, whole=False) == (lines(0, 2), 0)
    began = time.monotonic()
    assert ring.take(5, whole=False, timeout_s=0.02) == ([], 0)
    assert time.monotonic() - began >= 0.02


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
    assert ring.take(2, timeout_s=TIMEOUT_S) == (lines(0, 2), 0)
    ledger.end("lines", "scored", 2)
    ring.cancel()
    assert stopped.wait(TIMEOUT_S)
    producer.join(TIMEOUT_S)
    assert ledger.ends["lines"] == {"scored": 2, "unscored{cancelled}": 8}
    assert ledger.balanced()
    assert ring.take(2) == ([], 0)
    with pytest.raises(RingCancelled):
        ring.put([])


@pytest.mark.parametrize("max_lines", [0, 5])
def test_a_chunk_must_fit_into_the_ring(max_lines: int) -> None:
    """Waiting for more lines than the ring can hold would last for ever, and is refused."""
    ring, _ = make_ring(4)
    with pytest.raises(ValueError, match="from 1 to 4"):
        ring.take(max_lines)
    with pytest.raises(ValueError, match="at least one"):
        make_ring(0)


def test_a_waiting_consumer_is_woken_by_close() -> None:
    """A consumer that waits for a whole chunk gets the rest as soon as the producer is done."""
    ring, _ = make_ring(10)
    got: list[tuple[list[Line], int]] = []
    consumer = in_thread(lambda: got.append(ring.take(10)))
    ring.put(lines(0, 3))
    ring.close()
    consumer.join(TIMEOUT_S)
    assert got == [(lines(0, 3), 0)]
