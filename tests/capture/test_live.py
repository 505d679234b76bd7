"""A live capture through everything that may happen to its interface."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from ecustream.capture.breaks import Break
from ecustream.capture.clock_steps import ClockSteps
from ecustream.capture.live import MARGIN_NS, LiveCapture
from ecustream.errors import ConfigError
from ecustream.ledger import Ledger
from ecustream.traffic import Frame
from tests.capture.test_afpacket import SENT, send
from tests.namespaces import cable, ip, lay_cable, needs_network, sender, wait_for

pytestmark = needs_network


@pytest.fixture(scope="module", autouse=True)
def network() -> Iterator[str]:
    """A namespace; every test lays a cable of its own."""
    with cable("live") as name:
        ip("link del a0")
        yield name


@pytest.fixture(autouse=True)
def _own_cable() -> Iterator[None]:
    lay_cable()
    yield
    for end in ("b0", "c0"):
        # The test may have renamed or deleted it.
        with suppress(subprocess.CalledProcessError):
            ip(f"link del {end}")


class Reader:
    """Iterates a capture in a thread, as a lane does, and keeps what it gives."""

    def __init__(self, **options: object) -> None:
        self.said: list[str] = []
        self.ledger = Ledger()
        self.pieces: list[list[Frame] | Break] = []
        self.capture = LiveCapture("b0", self.ledger, say=self.said.append, **options)  # type: ignore[arg-type]
        self.before_piece: Callable[[], object] = bool
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        wait_for(lambda: self.capture.reached.time_ns)

    def _read(self) -> None:
        for piece in self.capture:
            self.before_piece()
            self.pieces.append(piece)

    @property
    def frames(self) -> list[Frame]:
        """All frames until now."""
        return [frame for piece in self.pieces if isinstance(piece, list) for frame in piece]

    @property
    def breaks(self) -> list[Break]:
        """All breaks until now."""
        return [piece for piece in self.pieces if isinstance(piece, Break)]

    def stop(self) -> None:
        """Stop it and wait for its end."""
        self.capture.stop()
        self._thread.join(5)
        assert not self._thread.is_alive()
        self.capture.close()


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


def stalled(**options: object) -> tuple[Reader, threading.Event]:
    """A reader that has one frame in its hands and goes on when the event is set; its ring is tiny."""
    reader = Reader(ring_bytes=1 << 18, **options)
    busy, free = threading.Event(), threading.Event()

    def stall() -> None:
        busy.set()
        assert free.wait(20)

    reader.before_piece = stall
    send(SENT[:1])
    assert busy.wait(10)
    return reader, free


def test_a_reader_that_stalls_is_told_what_it_lost() -> None:
    """Each drop is in the ledger and has its place."""
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
    monkeypatch.setattr("ecustream.capture.live._is_up", lambda name: False)
    ip("link set b0 up")
    for _ in range(400):
        send(SENT[:1])
        if reader.frames:
            break
        time.sleep(0.005)
    reader.stop()
    assert [type(piece) for piece in reader.pieces[:2]] == [Break, list]


def test_down_and_up() -> None:
    """One sentence when it goes down, one when it is back, and a break between the frames."""
    reader = Reader()
    send(SENT[:10])
    ip("link set b0 down")
    wait_for(lambda: reader.capture.trouble)
    assert reader.capture.trouble == "interface b0 is down"
    reached = reader.capture.reached
    time.sleep(0.4)
    assert reader.capture.reached == reached
    ip("link set b0 up")
    wait_for(lambda: reader.capture.trouble is None)
    send(SENT[10:30])
    reader.stop()
    assert [frame.data for frame in reader.frames] == SENT[:30]
    assert isinstance(reader.pieces[1], Break)
    assert reader.breaks[0].why.startswith("interface b0 was down for ")
    assert reader.breaks[0].source == "b0"
    assert reader.frames[9].time_ns < reader.breaks[0].time_ns <= reader.frames[10].time_ns
    assert reader.said == [
        "interface b0 is down; capture goes on when it is back",
        f"{reader.breaks[0].why}; capture goes on",
    ]
    assert reader.capture.reached.breaks == 1
    assert reader.ledger.notes["capture_outages"] == 1


def test_down_and_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage that is over before anybody could look is one all the same."""
    monkeypatch.setattr("ecustream.capture.live._is_up", lambda name: True)
    reader = Reader()
    ip("link set b0 down")
    ip("link set b0 up")
    wait_for(lambda: reader.breaks)
    send(SENT[:5])
    reader.stop()
    assert [broken.why.split(" for ")[0] for broken in reader.breaks] == ["interface b0 was down"]
    assert reader.capture.trouble is None
    assert [frame.data for frame in reader.frames] == SENT[:5]


def test_deleted_and_made_anew() -> None:
    """The ring of an interface that is gone is dead; the one that has its name next is captured on."""
    reader = Reader()
    send(SENT[:10])
    ip("link del b0")
    wait_for(lambda: reader.capture.trouble == "interface b0 is gone")
    time.sleep(0.3)
    lay_cable()
    wait_for(lambda: reader.capture.trouble is None)
    send(SENT[10:20])
    reader.stop()
    assert [frame.data for frame in reader.frames] == SENT[:20]
    assert [frame.number for frame in reader.frames] == list(range(1, 21))
    assert [broken.why.split(" for ")[0] for broken in reader.breaks] == ["interface b0 was gone"]
    assert len(reader.said) == 2


def test_replaced_within_an_instant() -> None:
    """It is made anew before anybody could look: the index tells."""
    reader = Reader()
    ip("link del b0")
    lay_cable()
    wait_for(lambda: reader.breaks)
    wait_for(lambda: reader.capture.trouble is None)
    send(SENT[:10])
    reader.stop()
    assert [frame.data for frame in reader.frames] == SENT[:10]
    assert len(reader.breaks) == 1


def test_renamed() -> None:
    """By another name it is captured on, and when it has its own again."""
    reader = Reader()
    ip("link set b0 down")
    ip("link set b0 name c0")
    ip("link set c0 up")
    wait_for(lambda: "interface b0 is now called c0; it is captured on" in reader.said)
    wait_for(lambda: reader.capture.trouble is None)
    send(SENT[:10])
    wait_for(lambda: len(reader.frames) == 10)
    ip("link set c0 down")
    ip("link set c0 name b0")
    ip("link set b0 up")
    wait_for(lambda: "interface c0 is now called b0; it is captured on" in reader.said)
    wait_for(lambda: reader.capture.trouble is None)
    send(SENT[10:20])
    reader.stop()
    assert [frame.data for frame in reader.frames] == SENT[:20]
    assert len(reader.breaks) == 2


def test_down_from_the_beginning() -> None:
    """That is no reason to refuse: it is waited for."""
    ip("link set b0 down")
    said: list[str] = []
    capture = LiveCapture("b0", Ledger(), say=said.append)
    pieces: list[list[Frame] | Break] = []
    thread = threading.Thread(target=lambda: pieces.extend(capture), daemon=True)
    thread.start()
    wait_for(lambda: said)
    ip("link set b0 up")
    wait_for(lambda: capture.trouble is None)
    wait_for(lambda: capture.reached.time_ns)
    send(SENT[:5])
    capture.stop()
    thread.join(5)
    capture.close()
    assert [type(piece) for piece in pieces] == [Break, list]
    assert said[0] == "interface b0 is down; capture goes on when it is back"


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
