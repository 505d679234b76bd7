"""A lane: a source read by a thread of its own."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from ecustream.ledger import Ledger
from ecustream.run.lanes import Lane
from ecustream.run.replay import Pacer
from ecustream.run.ring import Policy, Ring
from ecustream.traffic import Line
from tests.run.test_ring import TIMEOUT_S, lines


class Source:
    """Batches of ten lines, a nanosecond or more apart; counts them in the ledger as a trace does."""

    def __init__(
        self, ledger: Ledger, batches: int, error: Exception | None = None, step_ns: int = 1
    ) -> None:
        self.losses: deque[tuple[int, int]] = deque()
        self.damage: list[str] = []
        self.total_bytes: int | None = None
        self.before_batch: Callable[[], object] = bool
        self._step_ns = step_ns
        self.bytes_read = 0
        self.closed = False
        self._ledger = ledger
        self._batches = batches
        self._error = error

    def __iter__(self) -> Iterator[list[Line]]:
        for number in range(self._batches):
            self.bytes_read += 1
            self._ledger.enter("lines", 10)
            self.before_batch()
            yield [replace(line, time_ns=line.time_ns * self._step_ns) for line in lines(10 * number, 10)]
        if self._error is not None:
            raise self._error

    def breaks_up_to(self, number: int) -> list[tuple[int, str]]:
        """There are none."""
        return []

    def close(self) -> None:
        """Remember it."""
        self.closed = True


def make(
    batches: int,
    *,
    policy: Policy = "wait",
    pacer: Pacer | None = None,
    error: Exception | None = None,
    step_ns: int = 1,
) -> tuple[Lane, Source, Ledger]:
    """A lane with room for twenty lines."""
    ledger = Ledger()
    source = Source(ledger, batches, error, step_ns)
    return Lane("bench.pcapng", source, Ring(20, policy, ledger), pacer, ledger), source, ledger


def until(condition: Callable[[], bool]) -> None:
    """Waits for something that another thread does."""
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(1e-3)


def drain(lane: Lane) -> list[int]:
    """The numbers of all lines, taken until the end; books them as scored."""
    numbers: list[int] = []
    while not lane.ring.closed_and_empty:
        got, _ = lane.ring.take(7)
        lane.ledger.end("lines", "scored", len(got))
        numbers += [line.number for line in got]
    return numbers


@pytest.mark.parametrize("speed", [None, 1e6])
def test_reads_one_batch_before_it_goes(speed: float | None) -> None:
    """While nobody takes lines only the first batch is read; then all lines come, in order."""
    lane, source, ledger = make(6, pacer=None if speed is None else Pacer(speed))
    lane.start()
    until(lambda: source.bytes_read == 1)
    time.sleep(0.05)
    assert source.bytes_read == 1
    lane.go()
    assert drain(lane) == list(range(60))
    lane.close()
    assert source.closed
    assert ledger.balanced()


def test_stop_keeps_what_was_read() -> None:
    """A stopped lane reads no further, and what it has read can still be taken."""
    lane, source, ledger = make(1000)
    lane.start()
    lane.go()
    until(lambda: len(lane.ring) == 20)
    lane.stop()
    numbers = drain(lane)
    lane.close()
    assert numbers == list(range(10 * source.bytes_read))
    assert source.bytes_read <= 4
    assert ledger.balanced()


@pytest.mark.parametrize("goes", [True, False])
def test_cancel_drops_what_was_read(goes: bool) -> None:
    """A cancelled lane ends, whether its reader waits for room or to go, and books every line."""
    lane, _, ledger = make(1000)
    lane.start()
    if goes:
        lane.go()
    until(lambda: len(lane.ring) == (20 if goes else 10))
    lane.cancel()
    lane.close()
    assert lane.ring.closed_and_empty
    assert ledger.ended("lines", "unscored") == ledger.entered["lines"] >= 10


def test_an_error_comes_after_the_lines_before_it() -> None:
    """What the source raises is raised where the lines are taken."""
    lane, _, _ = make(1, error=OSError("the cable is out"))
    lane.start()
    lane.go()
    until(lambda: lane.ring.waiting().ended)
    assert len(lane.ring.take(20)[0]) == 10
    with pytest.raises(OSError, match="cable"):
        lane.ring.take(20)
    lane.close()


def test_pieces_tell_what_was_skipped() -> None:
    """After skipped lines, and after time went back, the lines are said not to follow those before."""
    lane, _, _ = make(0)
    assert lane.pieces(lines(0, 5), 0) == [(lines(0, 5), "")]
    (part, why), *rest = lane.pieces(lines(2_000_000_000, 5), 30)
    assert (part, rest) == (lines(2_000_000_000, 5), [])
    assert why.startswith("30 lines were skipped")
    assert [why for _, why in lane.pieces(lines(9, 5), 0)] == ["the capture clock went back by 2.0 s"]
    assert lane.pieces(lines(14, 5), 0) == [(lines(14, 5), "")]


def test_tells_how_far_it_is_behind_its_pace() -> None:
    """A paced lane whose lines nobody takes is late, in wall time and in the time of the trace."""
    pacer = Pacer(1e6)
    lane, _, _ = make(9, pacer=pacer)
    lane.start()
    lane.go()
    until(lambda: len(lane.ring) == 20)
    time.sleep(0.05)
    lane.ring.take(20)
    until(lambda: len(lane.ring) == 20)
    lane.ring.take(20)
    until(lambda: len(lane.ring) == 20)
    assert lane.late_ns >= 40_000_000
    assert lane.late_capture_ns >= lane.late_ns * 1_000
    assert lane.passed_ns >= 0
    assert threading.active_count() > 1
    lane.cancel()
    lane.close()
    assert lane.late_ns == 0


def test_cancel_books_what_the_pacer_holds() -> None:
    """Of a batch that is handed on slice by slice the rest ends as cancelled."""
    lane, _, ledger = make(3, pacer=Pacer(1.0), step_ns=20_000_000)
    lane.start()
    lane.go()
    until(lambda: len(lane.ring) == 3)
    lane.cancel()
    lane.close()
    assert ledger.ended("lines", "unscored") == ledger.entered["lines"] == 10


def test_stop_skips_nothing_of_what_was_read() -> None:
    """The rest of a batch comes at once, and waits for room also where the ring skips otherwise."""
    ledger = Ledger()
    source = Source(ledger, 3, step_ns=100_000_000)
    lane = Lane("bench.pcapng", source, Ring(3, "skip", ledger), Pacer(1.0), ledger)
    lane.start()
    lane.go()
    until(lambda: len(lane.ring) == 1)
    lane.stop()
    until(lambda: len(lane.ring) == 3)
    assert drain(lane) == list(range(10))
    lane.close()
    assert ledger.ended("lines", "overwritten") == 0
    assert ledger.balanced()


def test_cancel_leaves_a_reader_behind_that_waits_for_its_source() -> None:
    """A lane whose source is silent ends all the same, and books what comes after that."""
    lane, source, ledger = make(2)
    silence, asked = threading.Event(), threading.Event()

    def wait() -> None:
        asked.set()
        silence.wait()

    source.before_batch = wait
    lane.start()
    asked.wait()
    lane.cancel()
    assert lane.ring.closed_and_empty
    lane.close()
    assert not source.closed
    silence.set()
    until(ledger.balanced)


@pytest.mark.parametrize("total_bytes", [None, 1000])
def test_only_a_pipe_is_waited_for(total_bytes: int | None) -> None:
    """A batch that a writer is late with is not late; one that could not be read in time is."""
    pacer = Pacer(1.0)
    lane, source, _ = make(2, pacer=pacer)
    source.total_bytes = total_bytes
    source.before_batch = lambda: time.sleep(0.3)
    lane.start()
    lane.go()
    until(lambda: len(lane.ring) == 20)
    # The second batch was due at once after the first; a busy machine adds to what it is late by.
    assert (pacer.late_ns >= 250_000_000) == (total_bytes is not None)
    lane.cancel()
    lane.close()
