"""scapy's live socket as a source of frames, on one end of a cable."""

import builtins
import socket
import time
from collections.abc import Iterator, Mapping, Sequence

import pytest

from ecustream.capture.backends import open_source
from ecustream.capture.live import LiveCapture
from ecustream.capture.scapy_socket import ScapySocket
from ecustream.errors import ConfigError
from ecustream.ledger import Ledger
from ecustream.traffic import Frame
from tests.capture.live_reader import Reader
from tests.capture.test_afpacket import OTHERS, SENT, open_ring, send
from tests.capture.test_afpacket import drain as drain_ring
from tests.namespaces import cable, ip, needs_network, sender, wait_for

pytestmark = needs_network


@pytest.fixture(scope="module", autouse=True)
def network() -> Iterator[str]:
    """A cable with the ends `a0` and `b0`."""
    with cable("scapy") as name:
        yield name


def open_socket(name: str = "b0", **options: bool) -> ScapySocket:
    """A socket that captures."""
    wire = ScapySocket(name, **options)
    wire.start()
    return wire


def drain(wire: ScapySocket) -> list[Frame]:
    """Everything that was sent until now."""
    wire.finish()
    frames: list[Frame] = []
    while not (taken := wire.frames(len(frames) + 1, "b0")).complete:
        frames += taken.frames
    frames += taken.frames
    wire.close()
    assert wire.packets == len(frames)
    return frames


def test_frames_are_those_of_the_ring() -> None:
    """Bytes, tags, numbers and lengths are the same; times are to 0.3 µs; what is not UDP is left out."""
    ring, wire = open_ring(), open_socket()

    def stamped() -> bool:
        send(SENT[:1])
        time.sleep(0.03)
        stamp_ns = ring.frames(1, "b0").frames[-1].time_ns
        return abs(wire.frames(1, "b0").frames[-1].time_ns - stamp_ns) < 300

    # The kernel begins to stamp what scapy reads some ms after it was asked to.
    wait_for(stamped)
    wire.packets = 0
    send([*OTHERS, *SENT[:20], *OTHERS])
    frames, expected = drain(wire), drain_ring(ring)[0]
    assert [frame.data for frame in frames] == [frame.data for frame in expected] == SENT[:20]
    assert [frame.number for frame in frames] == list(range(1, 21))
    assert [frame.wire_length for frame in frames] == [len(data) for data in SENT[:20]]
    # Each socket has the stamp that the kernel gave the frame.
    for frame, other in zip(frames, expected, strict=True):
        assert abs(frame.time_ns - other.time_ns) < 300
    assert {(frame.source, frame.linktype) for frame in frames} == {("b0", 1)}


def test_nothing_before_start_and_after_finish() -> None:
    """What came before is thrown away, what comes after is not taken."""
    wire = ScapySocket("b0")
    send(SENT[:10])
    wire.start()
    send(SENT[10:20])
    wire.finish()
    send(SENT[20:30])
    assert [frame.data for frame in wire.frames(1, "b0").frames] == SENT[10:20]
    assert wire.frames(11, "b0").frames == []
    wire.close()


def test_own_frames_come_as_configured() -> None:
    """Frames that this machine sends there are captured once, or not at all."""
    with_own, without = open_socket(), open_socket(outgoing=False)
    send(SENT[:20], "b0")
    assert [frame.data for frame in drain(with_own)] == SENT[:20]
    assert drain(without) == []


def test_loopback_is_not_doubled() -> None:
    """A datagram to ourselves is one frame."""
    ip("link set lo up")
    wire = open_socket("lo")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for _ in range(7):
            udp.sendto(b"x", ("127.0.0.1", 9))
    assert len(drain(wire)) == 7


def test_waiting_ends_with_frames() -> None:
    """A frame ends the wait long before its time is over."""
    wire = open_socket()
    send(SENT[:1])
    before_s = time.monotonic()
    assert not wire.wait(20_000)
    assert time.monotonic() - before_s < 10
    assert len(drain(wire)) == 1


def test_down_is_told_and_up_needs_nothing() -> None:
    """The interface goes down: told once, and it is still ours."""
    wire = open_socket()
    ip("link set b0 down")
    wire.wait(1000)
    assert wire.frames(1, "b0").frames == []
    assert wire.wait(1000)
    assert not wire.wait(20)
    assert wire.is_bound
    ip("link set b0 up")
    for _ in range(200):
        send(SENT[:1])
        if wire.frames(1, "b0").frames:
            break
        time.sleep(0.01)
    else:
        pytest.fail("nothing came after it was up again")
    wire.close()


def test_a_capture_by_scapy() -> None:
    """It says at once what it cannot do; its books balance, and what it was too slow for is in none."""
    reader = Reader(backend="scapy", source="ETH1")
    assert len(reader.limits) == 1
    assert "cannot tell how many frames were dropped" in reader.limits[0]
    with sender("a0") as wire:
        for data in SENT:
            wire.send(data)
            time.sleep(0.001)
    wait_for(lambda: len(reader.frames) == len(SENT))
    reader.stop()
    assert [frame.data for frame in reader.frames] == SENT
    assert {frame.source for frame in reader.frames} == {"ETH1"}
    assert reader.ledger.entered["frames"] == len(SENT)
    assert (reader.breaks, reader.said, list(reader.capture.losses)) == ([], [], [])


def test_the_ring_says_nothing_of_limits() -> None:
    """There is nothing to warn of."""
    reader = Reader()
    reader.stop()
    assert reader.limits == ()


def test_no_ethernet() -> None:
    """A tunnel is refused."""
    ip("tuntap add tun8 mode tun")
    ip("link set tun8 up")
    with pytest.raises(ConfigError, match="interface tun8 is no Ethernet interface"):
        ScapySocket("tun8")


def test_scapy_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence says what to install."""
    real = builtins.__import__

    def without_scapy(
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> object:
        if name.startswith("scapy"):
            raise ModuleNotFoundError(name)
        return real(name, globals, locals, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", without_scapy)
    with pytest.raises(ConfigError, match=r"interface b0: .*needs scapy: pip install 'ecustream\[train\]'"):
        ScapySocket("b0")


def test_without_af_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a system has none, `auto` takes scapy, and `afpacket` is refused."""
    monkeypatch.delattr(socket, "AF_PACKET")
    with pytest.raises(ConfigError, match=r'capture.backend is "afpacket", which only Linux has'):
        LiveCapture("b0", Ledger(), backend="afpacket")
    monkeypatch.setattr("ecustream.capture.backends.ScapySocket", lambda *args, **options: args)
    source: object = open_source("auto", 2, "b0", 1 << 20, promiscuous=True, outgoing=True)
    assert source == ("b0",)
