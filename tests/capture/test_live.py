"""A live capture: its frames, what it lost, its time, its end."""

import time
from collections.abc import Iterator

import pytest

from ecustream.capture.breaks import Break, Reached
from ecustream.capture.clock_steps import ClockSteps
from ecustream.capture.live import MARGIN_NS, LiveCapture
from ecustream.errors import ConfigError
from ecustream.ledger import Ledger
from tests.capture.live_reader import Reader, own_cable, stalled
from tests.capture.test_afpacket import SENT, send
from tests.namespaces import cable, ip, needs_network, sender, wait_for

pytestmark = needs_network


@pytest.fixture(scope="module", autouse=True)
def network() -> Iterator[str]:
    """A namespace; every test lays a cable of its own."""
    with cable("live") as name:
        ip("link del a0")
        yield name


@pytest.fixture(autouse=True)
def _own_cable() -> Iterator[None]:
    with own_cable():
        yield


def test_until_stop() -> None:
    """All frames come, numbered from 1, also those that came just before the end; the books agree."""
    reader = Reader(source="ETH1")
    send(SENT[:150])
    wait_for(lambda: len(reader.frames) == 150)
    send(SENT[150:])
    reader.stop()
    assert [frame.data for frame in reader.frames] == SENT
    assert [frame.number for frame in reader.frames] == list(range(1, len(SENT) + 1))
    assert {frame.source for frame in reader.frames} == {"ETH1"}
    assert reader.ledger.entered["frames"] == len(SENT)
    assert reader.capture.bytes_read == sum(map(len, SENT))
    assert (reader.breaks, reader.said, list(reader.capture.losses)) == ([], [], [])


def test_time_passes_although_nothing_comes() -> None:
    """What it has reached follows the clock, and never passes a frame that was not handed on."""
    reader = Reader()
    before = reader.capture.reached
    wait_for(lambda: reader.capture.reached.time_ns > before.time_ns + 200_000_000)
    reached: list[int] = []
    reader.before_piece = lambda: reached.append(reader.capture.reached.time_ns)
    with sender("a0") as wire:
        for data in SENT[:60]:
            wire.send(data)
            time.sleep(0.004)
    reader.stop()
    pieces = [piece for piece in reader.pieces if isinstance(piece, list)]
    assert all(at < piece[0].time_ns for at, piece in zip(reached, pieces, strict=True))
    assert reader.capture.reached.time_ns < time.time_ns()


def test_a_reader_that_stalls_is_told_what_it_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each drop is in the ledger and has its place."""
    monkeypatch.setattr("ecustream.capture.afpacket._OVERDUE_NS", 10**12)
    reader, free = stalled()
    send([SENT[0][:-4] + i.to_bytes(4, "big") for i in range(5000)])
    free.set()
    wait_for(lambda: len(reader.frames) > 1)
    time.sleep(0.1)
    send([SENT[0][:-4] + (5000).to_bytes(4, "big")])
    reader.stop()
    numbers = [int.from_bytes(frame.data[-4:], "big") for frame in reader.frames]
    dropped = reader.ledger.ended("frames", "kernel_dropped")
    assert dropped > 1000
    assert reader.ledger.entered["frames"] == len(numbers) + dropped == 5002
    at = next(i for i in range(2, len(numbers)) if numbers[i] != numbers[i - 1] + 1)
    assert list(reader.capture.losses) == [(at + 1, dropped)]


def test_a_loss_after_which_nothing_comes() -> None:
    """It is a break of its own, and until that is told no time passes in which frames seem to be missing."""
    reader, free = stalled()
    send(SENT[:1] * 5000)
    free_ns = time.time_ns()
    reached: list[Reached] = []
    free.set()
    wait_for(lambda: reached.append(reader.capture.reached) or reader.breaks)  # type: ignore[func-returns-value]
    assert all(at.time_ns < free_ns for at in reached if at.breaks == 0)
    wait_for(lambda: reader.capture.reached.time_ns > reader.breaks[0].time_ns)
    reader.stop()
    dropped = reader.ledger.ended("frames", "kernel_dropped")
    assert [broken.why for broken in reader.breaks] == [f"the capture lost {dropped:,} frames"]
    assert reader.ledger.entered["frames"] == len(reader.frames) + dropped == 5001
    assert (list(reader.capture.losses), reader.said) == ([], [])


def test_what_was_dropped_at_the_end_is_counted() -> None:
    """The ring is full when it is stopped, and no frame comes any more to tell of it."""
    reader, free = stalled()
    send(SENT[:1] * 5000)
    reader.capture.stop()
    free.set()
    reader.stop()
    dropped = reader.ledger.ended("frames", "kernel_dropped")
    assert dropped > 1000
    assert reader.ledger.entered["frames"] == len(reader.frames) + dropped == 5001
    assert list(reader.capture.losses) == [(len(reader.frames) + 1, dropped)]


def test_what_the_ring_holds_of_an_interface_that_is_gone() -> None:
    """It is still handed on, and what was dropped is counted."""
    reader, free = stalled()
    send(SENT[:1] * 5000)
    ip("link del b0")
    free.set()
    wait_for(lambda: reader.capture.trouble)
    reader.stop()
    dropped = reader.ledger.ended("frames", "kernel_dropped")
    assert dropped > 1000
    assert reader.ledger.entered["frames"] == len(reader.frames) + dropped == 5001


def test_a_frame_is_the_proof_that_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The break comes before the first frame, also where nobody has looked yet."""
    reader = Reader()
    ip("link set b0 down")
    wait_for(lambda: reader.capture.trouble)
    monkeypatch.setattr("ecustream.capture.live.is_up", lambda name: False)
    ip("link set b0 up")
    for _ in range(400):
        send(SENT[:1])
        if reader.frames:
            break
        time.sleep(0.005)
    reader.stop()
    assert [type(piece) for piece in reader.pieces[:2]] == [Break, list]


def test_the_beat() -> None:
    """It comes while nothing does, in an outage, and not while the frames are in somebody's hands."""
    beats: list[int] = []

    def another() -> None:
        count = len(beats)
        wait_for(lambda: len(beats) > count + 3)

    reader, free = stalled(beat=lambda: beats.append(0))
    count = len(beats)
    time.sleep(0.3)
    assert len(beats) == count
    free.set()
    another()
    ip("link set b0 down")
    wait_for(lambda: reader.capture.trouble == "interface b0 is down")
    another()
    ip("link del b0")
    wait_for(lambda: reader.capture.trouble == "interface b0 is gone")
    another()
    reader.stop()


def test_an_hour_forward_in_silence() -> None:
    """The clock is set while nothing comes: one break, after which time goes on by the new clock."""
    hour_ns = [0]
    reader = Reader(clocks=ClockSteps(MARGIN_NS, lambda: time.time_ns() + hour_ns[0]))
    seen: list[tuple[int, int]] = []
    hour_ns[0] = 3600 * 10**9
    wait_for(lambda: seen.append(reader.capture.reached) or reader.capture.reached.breaks == 1)  # type: ignore[func-returns-value]
    wait_for(lambda: reader.capture.reached.time_ns > reader.breaks[0].time_ns)
    reader.stop()
    border_ns = time.time_ns() + hour_ns[0] // 2
    assert all((time_ns > border_ns) <= (breaks == 1) for time_ns, breaks in seen)
    assert [broken.why for broken in reader.breaks] == [
        "the clock of this machine was set forward by 3600.0 s"
    ]
    assert reader.breaks[0].time_ns > border_ns
    assert len(reader.said) == 1


def test_missing_interface() -> None:
    """It is refused with those that are there."""
    with pytest.raises(ConfigError, match=r"interface eth77 does not exist; there are: lo, .*b0"):
        LiveCapture("eth77", Ledger())
