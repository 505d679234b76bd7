"""The kernel's ring on one end of a cable, with what was sent on the other end as the oracle."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether

from ecustream.capture.afpacket import BLOCK_BYTES, PacketRing
from ecustream.capture.tpacket import frames_of
from ecustream.errors import ConfigError
from ecustream.traffic import Frame
from tests.namespaces import cable, ip, needs_network, sender, wait_for

pytestmark = needs_network

ETHER = Ether(dst="01:00:5e:00:00:01", src="02:00:00:00:00:01")
KINDS = [
    ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2) / bytes(30),
    ETHER / Dot1Q(vlan=5, prio=6) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2) / bytes(30),
    ETHER / Dot1Q(vlan=0) / IPv6(src="fd00::1", dst="fd00::2") / UDP(sport=1, dport=2) / bytes(9),
    ETHER / Dot1AD(vlan=9) / Dot1Q(vlan=7) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / bytes(1400),
    ETHER / IPv6(src="fd00::1", dst="ff14::1") / UDP(sport=1, dport=2) / bytes(30),
]
SENT = [bytes(kind) + i.to_bytes(4, "big") for i in range(40) for kind in KINDS]
OTHERS = [bytes(ETHER / ARP()), bytes(ETHER / Dot1Q(vlan=5) / IP() / TCP())]


@pytest.fixture(scope="module", autouse=True)
def network() -> Iterator[str]:
    """A cable with the ends `a0` and `b0`."""
    with cable("ring") as name:
        yield name


def open_ring(ring_bytes: int = 1 << 20, name: str = "b0", **options: bool) -> PacketRing:
    """A ring that captures."""
    ring = PacketRing(socket.if_nametoindex(name), name, ring_bytes, **options)
    ring.start()
    return ring


def drain(ring: PacketRing) -> tuple[list[Frame], list[tuple[int, int]]]:
    """Everything that was sent until now, and (frame number, count) of what the kernel dropped."""
    ring.finish()
    time.sleep(0.03)
    frames: list[Frame] = []
    losses = []
    for lost, block in ring.take(1 << 20):
        if lost:
            losses.append((len(frames) + 1, lost))
        frames += frames_of(block, len(frames) + 1, "b0", 1)
    if left := ring.left_dropped():
        losses.append((len(frames) + 1, left))
    ring.close()
    return frames, losses


def send(frames: list[bytes], end: str = "a0") -> None:
    """Send them as fast as they go."""
    with sender(end) as wire:
        for frame in frames:
            wire.send(frame)


def test_every_frame_comes_once_and_whole() -> None:
    """The bytes that were sent, tags included, in order; what is not UDP is left out; all are counted."""
    ring = open_ring()
    before_ns = time.time_ns()
    send([*OTHERS, *SENT, *OTHERS])
    after_ns = time.time_ns()
    frames, losses = drain(ring)
    assert [frame.data for frame in frames] == SENT
    assert [frame.wire_length for frame in frames] == [len(data) for data in SENT]
    assert (ring.packets, ring.dropped, losses) == (len(SENT), 0, [])
    times = [frame.time_ns for frame in frames]
    assert times == sorted(times)
    assert before_ns <= times[0] <= times[-1] <= after_ns
    assert len({time_ns % 1000 for time_ns in times}) > 20


def test_nothing_before_start_and_after_finish() -> None:
    """A ring that is not bound yet, and one that is about to end, get nothing."""
    ring = PacketRing(socket.if_nametoindex("b0"), "b0", 1 << 20)
    send(SENT[:50])
    ring.start()
    send(SENT[50:60])
    ring.finish()
    send(SENT[60:])
    frames, losses = drain(ring)
    assert [frame.data for frame in frames] == SENT[50:60]
    assert (ring.packets, losses) == (10, [])


def test_own_frames_come_as_configured() -> None:
    """Frames that this machine sends on the interface are captured once, or not at all."""
    with_own, without = open_ring(), open_ring(outgoing=False)
    send(SENT, "b0")
    assert [frame.data for frame in drain(with_own)[0]] == SENT
    assert drain(without)[0] == []


def test_loopback_is_not_doubled() -> None:
    """A datagram to ourselves is one frame, although it leaves and arrives."""
    ip("link set lo up")
    ring = open_ring(name="lo")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for _ in range(7):
            udp.sendto(b"x", ("127.0.0.1", 9))
    frames, _ = drain(ring)
    assert len([frame for frame in frames if IP in Ether(frame.data) and UDP in Ether(frame.data)[IP]]) == 7


def test_frames_for_others_come_as_configured() -> None:
    """Promiscuous or not is a membership of the interface, which the kernel tells by its flags."""

    def flags() -> str:
        return subprocess.check_output(["ip", "-d", "link", "show", "b0"], text=True)

    ring = open_ring()
    assert "promiscuity 1" in flags()
    drain(ring)
    ring = open_ring(promiscuous=False)
    assert "promiscuity 0" in flags()
    assert "allmulti 1" in flags()
    drain(ring)
    assert "allmulti 0" in flags()


def test_drops_are_counted_where_they_happened() -> None:
    """A ring that overflows twice loses what it says, just before the frames that it says."""
    ring = open_ring(4 * BLOCK_BYTES)
    sent = [SENT[0][:-4] + i.to_bytes(4, "big") for i in range(6000)]
    frames: list[Frame] = []
    losses: list[tuple[int, int]] = []
    with sender("a0") as wire:
        for burst in (sent[:3000], sent[3000:5900], sent[5900:]):
            for data in burst:
                wire.send(data)
            time.sleep(0.03)
            for lost, block in ring.take(1000):
                losses += [(len(frames) + 1, lost)] if lost else []
                frames += frames_of(block, len(frames) + 1, "b0", 1)
    left = ring.left_dropped()
    ring.close()
    assert left == 0
    assert len(losses) == 2
    assert len(frames) + sum(count for _, count in losses) == ring.packets == len(sent)
    assert sum(count for _, count in losses) == ring.dropped
    # From the numbers in the frames: what is missing, and just before which frame.
    numbers = [-1, *(int.from_bytes(frame.data[-4:], "big") for frame in frames)]
    missing = [(i, b - a - 1) for i, (a, b) in enumerate(pairwise(numbers), 1) if b > a + 1]
    assert missing == losses


def test_a_reader_that_is_too_slow_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not each block has a loss before it: what is read in a period, or the whole ring, is without one."""
    now_ns = [0]
    monkeypatch.setattr("ecustream.capture.afpacket.time.monotonic_ns", lambda: now_ns[0])
    ring = open_ring(64 * BLOCK_BYTES)
    numbers: list[int] = []
    losses: list[tuple[int, int]] = []
    sent = 0
    with sender("a0") as wire:
        # Before each read of three blocks comes what fills six, for 4 s.
        while now_ns[0] < 4 * 10**9:
            for _ in range(2400 if sent else 50_000):
                wire.send(SENT[0][:-4] + sent.to_bytes(4, "big"))
                sent += 1
            now_ns[0] += 100_000_000
            for lost, block in ring.take(3):
                losses += [(len(numbers), lost)] if lost else []
                numbers += [int.from_bytes(frame.data[-4:], "big") for frame in frames_of(block, 1, "b0", 1)]
    frames, more = drain(ring)
    losses += [(len(numbers) + number - 1, lost) for number, lost in more]
    numbers += [int.from_bytes(frame.data[-4:], "big") for frame in frames]
    assert 4 <= len(losses) <= 6
    assert len(numbers) + sum(count for _, count in losses) == ring.packets == sent
    numbers = [-1, *numbers, sent]
    missing = [(i, b - a - 1) for i, (a, b) in enumerate(pairwise(numbers)) if b > a + 1]
    # On a busy machine the kernel drops single frames also where a block ends; they are told with the next.
    assert [place for place, count in missing if count > 9] == [place for place, _ in losses]


def test_a_loss_that_no_frame_tells_of() -> None:
    """It is told after a while, once; until then the ring owes it."""
    ring = open_ring(2 * BLOCK_BYTES)
    send(SENT[:1] * 3000)
    frames: list[Frame] = []
    while not (taken := ring.frames(len(frames) + 1, "b0")).complete or not taken.owing:
        frames += taken.frames
    frames += taken.frames
    assert ring.overdue_loss() == 0
    wait_for(lambda: time.sleep(0.2) or ring.overdue_loss() == 3000 - len(frames))  # type: ignore[func-returns-value]
    assert ring.overdue_loss() == 0
    assert not ring.frames(1, "b0").owing
    assert drain(ring) == ([], [])


def test_drops_at_the_end_are_counted() -> None:
    """What was dropped after the last frame is told at the end."""
    ring = open_ring(2 * BLOCK_BYTES)
    send(SENT * 10)
    frames, losses = drain(ring)
    assert losses == [(len(frames) + 1, len(SENT) * 10 - len(frames))]
    assert ring.packets == len(SENT) * 10


def test_down_is_told_and_up_needs_nothing() -> None:
    """The interface goes down: told once; it comes up: frames come again by themselves."""
    ring = open_ring()
    ip("link set b0 down")
    assert ring.wait(1000)
    assert not ring.wait(20)
    ip("link set b0 up")
    for _ in range(100):
        send(SENT[:1])
        if ring.wait(20) or ring.take(1):
            break
    else:
        pytest.fail("nothing came after it was up again")
    ring.close()


def test_waiting_ends_with_frames() -> None:
    """A frame ends the wait long before its time is over."""
    ring = open_ring()
    send(SENT[:1])
    before_s = time.monotonic()
    assert not ring.wait(20_000)
    assert time.monotonic() - before_s < 10
    assert len(drain(ring)[0]) == 1


def test_an_interface_that_is_no_ethernet_is_refused() -> None:
    """A tunnel has no Ethernet header."""
    try:
        ip("tuntap add tun9 mode tun")
    except subprocess.CalledProcessError:
        pytest.skip("this kernel has no tun interfaces")
    with pytest.raises(ConfigError, match="interface tun9 is no Ethernet interface"):
        open_ring(name="tun9")


def test_without_the_right_a_sentence_says_how_to_get_it(tmp_path: Path) -> None:
    """One who is not root and has no capability is told what to do; with CAP_NET_RAW alone it works."""
    program = (
        "import socket, sys; from ecustream.capture.afpacket import PacketRing\n"
        "from ecustream.errors import ConfigError\n"
        "try: PacketRing(socket.if_nametoindex('b0'), 'b0', 64 << 20).start(); print('captures')\n"
        "except ConfigError as error: print(error)\n"
    )

    def run(*rights: str) -> str:
        command = ["setpriv", "--reuid", "12345", "--clear-groups", *rights, sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
        return done.stdout + done.stderr

    if "Permission denied" in run():
        pytest.skip("the package cannot be read by another user here")
    assert "needs the capability CAP_NET_RAW" in run("--bounding-set", "-all")
    assert "setcap cap_net_raw=ep" in run()
    assert run("--inh-caps", "+net_raw", "--ambient-caps", "+net_raw") == "captures\n"
