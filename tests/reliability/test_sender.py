"""The sender that the rows rely on: the kernel's ring on the other end is the oracle."""

import signal
from collections.abc import Iterator

import pytest
from scapy.contrib.automotive.autosar.pdu import PDU
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from tests.capture.test_afpacket import drain, open_ring
from tests.namespaces import cable, needs_network, wait_for
from tests.reliability.sender import MIN_FRAME_BYTES, frame_of, send_paced, sent_by, start_paced


@pytest.fixture(scope="module")
def network() -> Iterator[str]:
    """A cable with the ends `a0` and `b0`."""
    with cable("sender") as name:
        yield name


@needs_network
@pytest.mark.parametrize(("rate", "seconds", "frame_bytes"), [(300, 0.1, 58), (20_000, 0.25, 90)])
def test_each_frame_is_sent_once(network: str, rate: float, seconds: float, frame_bytes: int) -> None:
    """As many as were asked for, each with its number, in order, and no sooner than the rate allows."""
    ring = open_ring(8 << 20)
    sent = send_paced("a0", rate, seconds, frame_bytes)
    frames, losses = drain(ring)
    assert sent.frames == round(rate * seconds)
    assert [frame.data for frame in frames] == [frame_of(frame_bytes, n) for n in range(sent.frames)]
    assert losses == []
    assert sent.seconds >= (sent.frames - 1) / rate - 1e-6
    # Each at its own instant, not all at once at the end.
    late_ns = [frame.time_ns - frames[0].time_ns - n / rate * 1e9 for n, frame in enumerate(frames)]
    assert min(late_ns) > -seconds / 10 * 1e9


@needs_network
def test_more_than_it_can(network: str) -> None:
    """It stops when the time is over and says what it came to."""
    ring = open_ring(256 << 20)
    sent = send_paced("a0", 1e9, 0.2)
    frames, losses = drain(ring)
    assert sent.frames == len(frames) + sum(count for _, count in losses) < 2e8
    assert sent.seconds < 5


@needs_network
def test_ended_early(network: str) -> None:
    """A SIGTERM ends it, and what was sent by then is told."""
    ring = open_ring(8 << 20)
    process = start_paced("a0", 1000, 600)
    wait_for(lambda: ring.take(1))
    process.send_signal(signal.SIGTERM)
    sent = sent_by(process)
    drain(ring)
    assert 1 <= sent.frames == ring.packets < 600_000


@needs_network
def test_failure_is_told(network: str) -> None:
    """An interface that does not exist is no sender that sent nothing."""
    with pytest.raises(RuntimeError, match="No such device"):
        send_paced("a7", 1, 1)


@pytest.mark.parametrize("frame_bytes", [58, 73, 74, 90, 91, 600, 1514])
def test_frames_are_what_scapy_reads(frame_bytes: int) -> None:
    """Lengths and checksum are right, and the PDUs fill the datagram."""
    frame = Ether(frame_of(frame_bytes, 7))
    assert len(frame) == frame_bytes
    checksum = frame[IP].chksum
    del frame[IP].chksum
    assert Ether(bytes(frame))[IP].chksum == checksum
    assert (frame[IP].len, frame[UDP].len, frame[UDP].dport) == (frame_bytes - 14, frame_bytes - 34, 60000)
    pdus = frame[UDP].payload.pdus
    assert all(isinstance(pdu, PDU) for pdu in pdus)
    assert [pdu.pdu_id for pdu in pdus] == [0x101, 0x102, 0x103][: len(pdus)]
    assert len(pdus) == min(3, (frame_bytes - 42) // 16)
    assert sum(8 + pdu.pdu_payload_len for pdu in pdus) == frame_bytes - 42
    assert bytes(frame)[-8:] == (7).to_bytes(8, "big")


def test_too_short() -> None:
    """A frame has room for one PDU."""
    with pytest.raises(ValueError, match="at least 58"):
        frame_of(MIN_FRAME_BYTES - 1)
