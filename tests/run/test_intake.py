"""The scorer's side of several rings."""

import random
import threading
import time
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.ledger import Ledger
from ecustream.run.batching import Batcher
from ecustream.run.intake import Intake
from ecustream.run.ring import Ring
from ecustream.traffic import Line
from tests.run.test_ring import TIMEOUT_S, in_thread, lines

MS = 1_000_000


def make(count: int, chunk: int, max_wait_ms: float | None, capacity: int = 100) -> tuple[Intake, list[Ring]]:
    """An intake of some rings."""
    changed = threading.Condition()
    rings = [Ring(capacity, "wait", Ledger(), changed) for _ in range(count)]
    max_wait_ns = None if max_wait_ms is None else round(max_wait_ms * MS)
    return Intake(rings, Batcher(chunk, max_wait_ns), changed), rings


def put_later(ring: Ring, *batches: list[Line]) -> None:
    """Puts each batch after 10 ms."""
    for batch in batches:
        time.sleep(0.01)
        ring.put(batch)


@given(
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=4), chunk=st.integers(1, 16), seed=st.integers()
)
@settings(deadline=None, max_examples=40)
def test_passes_at_full_speed_do_not_depend_on_timing(counts: list[int], chunk: int, seed: int) -> None:
    """However the producers are delayed, each pass has a whole chunk of every lane, or the rest of it."""
    intake, rings = make(len(counts), chunk, None, capacity=20)

    def produce(ring: Ring, count: int, delays: random.Random) -> None:
        at = 0
        while at < count:
            size = min(delays.randint(1, 25), count - at)
            if delays.random() < 0.2:
                time.sleep(delays.random() * 2e-3)
            ring.put(lines(at, size))
            at += size
        ring.close()

    for i, (ring, count) in enumerate(zip(rings, counts, strict=True)):
        in_thread(partial(produce, ring, count, random.Random(seed + i)))
    at = [0] * len(counts)
    while not intake.done:
        for i, (got, skipped, empty, _) in enumerate(intake.take()):
            assert empty == (not got)
            assert (got, skipped) == (lines(at[i], min(chunk, counts[i] - at[i])), 0)
            at[i] += len(got)
    assert at == counts


def test_takes_what_there_is_after_the_longest_wait() -> None:
    """Lines that make no chunk are taken together once the oldest has waited, and not before."""
    intake, (ring, other) = make(2, 50, 30.0)
    began = time.monotonic()
    ring.put(lines(0, 2))
    in_thread(partial(put_later, other, lines(0, 3)))
    assert intake.take(round(TIMEOUT_S * 1e9)) == [
        (lines(0, 2), 0, False, False),
        (lines(0, 3), 0, False, False),
    ]
    assert time.monotonic() - began >= 0.03
    assert intake.behind_ns >= 30 * MS


def test_a_whole_chunk_does_not_wait() -> None:
    """As soon as one lane has a chunk all are taken."""
    intake, (ring, other) = make(2, 5, 1e6)
    ring.put(lines(0, 1))
    in_thread(partial(put_later, other, lines(0, 4), lines(4, 3)))
    assert intake.take(round(TIMEOUT_S * 1e9)) == [
        (lines(0, 1), 0, False, False),
        (lines(0, 5), 0, False, False),
    ]
    other.close()
    ring.close()
    assert intake.take() == [([], 0, True, True), (lines(5, 2), 0, False, False)]
    assert intake.done


def test_gives_up_at_the_timeout() -> None:
    """The caller gets its turn though nothing comes, or nothing that is due."""
    intake, (ring,) = make(1, 5, 1e6)
    began = time.monotonic()
    assert intake.take(10 * MS) == [([], 0, True, False)]
    ring.put(lines(0, 1))
    assert intake.take(10 * MS) == [([], 0, False, False)]
    assert time.monotonic() - began >= 0.02
    assert intake.behind_ns == 0
    assert not intake.done


def test_a_failure_takes_no_line_of_the_others() -> None:
    """The error of one producer is raised before another ring gives up lines, due or not."""
    intake, (ring, failed) = make(2, 5, 1e6)
    ring.put(lines(0, 9))
    failed.put(lines(0, 1))
    failed.fail(OSError("the cable is out"))
    assert [part.lines for part in intake.take()] == [lines(0, 5), lines(0, 1)]
    assert not intake.done
    with pytest.raises(OSError, match="cable"):
        intake.take(10 * MS)
    assert len(ring) == 4


def test_an_error_after_the_last_line_is_not_the_end() -> None:
    """Only once the error was raised, or the ring is cancelled, there is no more to come."""
    intake, (ring,) = make(1, 5, None)
    ring.fail(OSError("the cable is out"))
    assert not intake.done
    with pytest.raises(OSError, match="cable"):
        intake.take()
    ring.cancel()
    assert intake.done
