"""The player that the rows rely on: the kernel's ring on the other end is the oracle."""

import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.capture.test_afpacket import drain, open_ring
from tests.namespaces import cable, needs_network, wait_for
from tests.reliability.player import play, playing, stopped
from tests.reliability.vehicle import drive, frames_of, write_frames


@pytest.fixture(scope="module")
def network() -> Iterator[str]:
    """A cable with the ends `a0` and `b0`."""
    with cable("player") as name:
        yield name


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred frames."""
    path = drive(tmp_path_factory.mktemp("player") / "whole.pcap", 1)
    write_frames(path, frames_of(path)[:100])
    return path


@needs_network
def test_as_it_was_recorded(network: str, trace: Path) -> None:
    """Every frame in its order, none before its time, and from the beginning again."""
    recorded = frames_of(trace)
    length_ns = recorded[-1].time_ns - recorded[0].time_ns
    ring = open_ring(8 << 20)
    start_ns = time.time_ns() + 500_000_000
    played = play("a0", trace, 1.5 * length_ns / 1e9, start_ns=start_ns)
    frames, losses = drain(ring)
    assert (len(frames), losses, played.start_ns) == (played.frames, [], start_ns)
    assert len(recorded) < played.frames < 2 * len(recorded)
    expected = list(islice(cycle(recorded), played.frames))
    assert [frame.data for frame in frames] == [frame.data for frame in expected]
    for number, (frame, original) in enumerate(zip(frames, expected, strict=True)):
        due_ns = start_ns + original.time_ns - recorded[0].time_ns + (number >= 100) * length_ns
        # The two clocks are read one after the other.
        assert frame.time_ns > due_ns - 5_000_000


@needs_network
def test_evenly(network: str, trace: Path) -> None:
    """So many a second, whatever the times in the trace."""
    ring = open_ring(8 << 20)
    played = play("a0", trace, 0.3, frames_per_s=2000)
    frames, losses = drain(ring)
    assert (len(frames), losses, played.frames) == (600, [], 600)
    recorded = [frame.data for frame in frames_of(trace)]
    assert [frame.data for frame in frames] == recorded * 6
    assert played.seconds > 0.299
    assert played.cpu_s > 0


@needs_network
def test_ended_early(network: str, trace: Path) -> None:
    """It still says what it sent."""
    ring = open_ring(8 << 20)
    with playing("a0", trace, 600, frames_per_s=500) as player:
        wait_for(lambda: ring.wait(10) or ring.count_dropped() or ring.packets > 20)
        played = stopped(player)
    drain(ring)
    assert 20 < played.frames == ring.packets


@needs_network
def test_nobody_plays_on(network: str, trace: Path) -> None:
    """Where the row fails, the player ends with it."""
    with pytest.raises(ZeroDivisionError), playing("a0", trace, 600) as player:
        raise ZeroDivisionError
    assert player.returncode is not None


@needs_network
def test_failure_is_told(network: str, trace: Path) -> None:
    """An interface that does not exist is no player that sent nothing."""
    with pytest.raises(RuntimeError, match="No such device"):
        play("a7", trace, 1)


def test_traffic_is_what_the_filter_lets_pass(trace: Path) -> None:
    """Else a frame that was sent would be missing in the count of what came."""
    from scapy.layers.inet import UDP
    from scapy.layers.l2 import Ether

    assert all(UDP in Ether(frame.data) for frame in frames_of(trace))
