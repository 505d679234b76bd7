"""A live capture through everything that may happen to its interface."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import pytest

from ecustream.capture.backends import Backend
from ecustream.capture.breaks import Break
from ecustream.capture.live import LiveCapture
from ecustream.ledger import Ledger
from ecustream.traffic import Frame
from tests.capture.live_reader import Reader, backends, own_cable, stalled
from tests.capture.test_afpacket import SENT, send
from tests.namespaces import cable, ip, lay_cable, needs_network, sender, wait_for, wait_for_link

pytestmark = needs_network


@pytest.fixture(scope="module", autouse=True)
def network() -> Iterator[str]:
    """A namespace; every test lays a cable of its own."""
    with cable("outages") as name:
        ip("link del a0")
        yield name


@pytest.fixture(autouse=True)
def _own_cable() -> Iterator[None]:
    with own_cable():
        yield


@backends
def test_down_and_up(backend: Backend) -> None:
    """One sentence when it goes down, one when it is back, and a break between the frames."""
    reader = Reader(backend=backend)
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
    at = reader.pieces.index(reader.breaks[0])
    assert sum(len(piece) for piece in reader.pieces[:at]) == 10
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
    monkeypatch.setattr("ecustream.capture.live.is_up", lambda name: True)
    reader = Reader()
    ip("link set b0 down")
    ip("link set b0 up")
    wait_for(lambda: reader.breaks)
    send(SENT[:5])
    reader.stop()
    assert [broken.why.split(" for ")[0] for broken in reader.breaks] == ["interface b0 was down"]
    assert reader.capture.trouble is None
    assert [frame.data for frame in reader.frames] == SENT[:5]


@backends
def test_deleted_and_made_anew(backend: Backend) -> None:
    """The ring of an interface that is gone is dead; the one that has its name next is captured on."""
    reader = Reader(backend=backend)
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


def in_one_go(*commands: str) -> None:
    """Have the command ip do all of this within some ms."""
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)


ANEW = ("link del b0", "link add a0 type veth peer name b0", "link set a0 up", "link set b0 up")


@backends
@pytest.mark.parametrize("same_index", [False, True])
def test_replaced_within_an_instant(backend: Backend, same_index: bool) -> None:
    """It is made anew before anybody could look: the index tells, or that the ring belongs to none."""
    reader, free = stalled(backend=backend)
    index = f"link add a0 type veth peer name b0 index {socket.if_nametoindex('b0')}"
    in_one_go(ANEW[0], index if same_index else ANEW[1], *ANEW[2:])
    free.set()
    wait_for(lambda: reader.breaks)
    wait_for(lambda: reader.capture.trouble is None)
    wait_for_link("a0", "b0")
    send(SENT[:10])
    reader.stop()
    assert [frame.data for frame in reader.frames if frame.data in SENT] == [SENT[0], *SENT[:10]]
    assert len(reader.breaks) == 1
    assert len(reader.said) == 2


def test_replaced_again_and_again_under_load() -> None:
    """Each time it is captured on, and every frame that was captured is handed on once."""
    reader = Reader()
    enough = threading.Event()

    def load() -> None:
        number = 0
        while not enough.is_set():
            with suppress(OSError), sender("a0") as wire:
                while not enough.is_set():
                    wire.send(SENT[0][:-4] + number.to_bytes(4, "big"))
                    number += 1

    thread = threading.Thread(target=load)
    thread.start()
    for times in range(1, 6):
        in_one_go(*ANEW)
        wait_for(lambda times=times: len(reader.breaks) == times)
        known = len(reader.frames)
        wait_for(lambda known=known: len(reader.frames) > known)
    enough.set()
    thread.join()
    reader.stop()
    numbers = [
        int.from_bytes(frame.data[-4:], "big") for frame in reader.frames if frame.data[:60] == SENT[0][:60]
    ]
    assert all(a < b for a, b in pairwise(numbers))
    assert len(reader.said) == 10
    dropped = reader.ledger.ended("frames", "kernel_dropped")
    assert reader.ledger.entered["frames"] == len(reader.frames) + dropped
    assert [frame.number for frame in reader.frames] == list(range(1, len(reader.frames) + 1))


def test_larger_frames() -> None:
    """The interface takes longer frames from now on: they come whole, and nothing is interrupted."""
    reader = Reader()
    send(SENT[:10])
    for end in ("a0", "b0"):
        ip(f"link set {end} mtu 9000")
    large = SENT[0][:-4] + bytes(8900)
    send([*SENT[10:20], large])
    for end in ("a0", "b0"):
        ip(f"link set {end} mtu 1500")
    send(SENT[20:30])
    reader.stop()
    assert [frame.data for frame in reader.frames] == [*SENT[:20], large, *SENT[20:30]]
    assert (reader.breaks, reader.said) == ([], [])


@backends
@pytest.mark.parametrize("away_s", [0.0, 1.5])
def test_moved_to_another_namespace(network: str, backend: Backend, away_s: float) -> None:
    """There it is gone; back, with the index that it had, it is captured on."""
    other = f"{network}-other"
    ip(f"netns add {other}")
    try:
        # Whoever has the first frame in his hands does not look before it is back.
        reader, free = stalled(backend=backend)
        if away_s:
            free.set()
        index = socket.if_nametoindex("b0")
        ip(f"link set b0 netns {other}")
        time.sleep(away_s)
        ip(f"-n {other} link set b0 netns {network}")
        ip("link set b0 up")
        assert socket.if_nametoindex("b0") == index
    finally:
        ip(f"netns del {other}")
    free.set()
    wait_for(lambda: reader.breaks)
    wait_for(lambda: reader.capture.trouble is None)
    wait_for_link("a0", "b0")
    send(SENT[1:20])
    reader.stop()
    assert [frame.data for frame in reader.frames if frame.data in SENT] == SENT[:20]
    assert [broken.why.split(" for ")[0] for broken in reader.breaks] == ["interface b0 was gone"]
    assert len(reader.said) == 2


def test_replaced_by_what_cannot_be_captured_on() -> None:
    """Why is told once; when an Ethernet interface has the name again, it goes on."""
    reader = Reader()
    ip("link del b0")
    try:
        ip("tuntap add b0 mode tun")
    except subprocess.CalledProcessError:
        reader.stop()
        pytest.skip("this kernel has no tun interfaces")
    refused = "interface b0 is no Ethernet interface (hardware type 65534); it is tried again"
    wait_for(lambda: refused in reader.said)
    time.sleep(0.5)
    ip("tuntap del b0 mode tun")
    lay_cable()
    wait_for(lambda: reader.capture.trouble is None)
    send(SENT[:10])
    reader.stop()
    assert [frame.data for frame in reader.frames if frame.data in SENT] == SENT[:10]
    assert reader.said.count(refused) == 1
    assert len(reader.said) == 3


@backends
def test_renamed(backend: Backend) -> None:
    """By another name it is captured on, and when it has its own again."""
    reader = Reader(backend=backend)
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


@backends
def test_down_from_the_beginning(backend: Backend) -> None:
    """That is no reason to refuse: it is waited for."""
    ip("link set b0 down")
    said: list[str] = []
    capture = LiveCapture("b0", Ledger(), say=said.append, backend=backend)
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
    assert [type(piece) for piece in pieces][:2] == [Break, list]
    assert sum(len(piece) for piece in pieces[1:]) == 5
    assert said[-2] == "interface b0 is down; capture goes on when it is back"


def test_down_at_the_end() -> None:
    """An outage that is not over is told and counted as well."""
    reader = Reader()
    send(SENT[:10])
    wait_for(lambda: len(reader.frames) == 10)
    ip("link set b0 down")
    wait_for(lambda: reader.capture.trouble)
    reader.stop()
    assert [broken.why.split(",")[0] for broken in reader.breaks] == ["interface b0 was down at the end"]
    assert reader.ledger.notes["capture_outages"] == 1
