"""Plays a capture on an interface from a process of its own, evenly or as it was recorded."""

import argparse
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Played", "play", "played_by", "playing", "stopped"]

ROOT = Path(__file__).resolve().parents[2]
_LONGEST_SLEEP_NS = 50_000_000
_PAUSE_NS = 500_000
"""Above a thousand frames a second they go in small groups: a sleep for each would cost more than sending."""


class Played(NamedTuple):
    """What a player did.

    Attributes:
        frames: how many the kernel took.
        start_ns: the instant at which the first one was due, nanoseconds since 1970.
        seconds: from then to the last one.
        cpu_s: processor time that it took.
        latest_ns: by how much the latest frame was late.
    """

    frames: int
    start_ns: int
    seconds: float
    cpu_s: float
    latest_ns: int

    @property
    def frames_per_s(self) -> float:
        """The real rate."""
        return self.frames / self.seconds if self.seconds else 0.0


@contextmanager
def playing(
    interface: str,
    trace: Path,
    seconds: float,
    *,
    frames_per_s: float | None = None,
    start_ns: int | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """A process that plays it in the network namespace of this thread, again and again; killed at the end.

    Args:
        interface: its name.
        trace: the capture.
        seconds: how long.
        frames_per_s: evenly at this rate; None for the times of the trace.
        start_ns: when its first frame is due, nanoseconds since 1970; None for at once.
    """
    command = [sys.executable, "-m", "tests.reliability.player", interface, str(trace), repr(seconds)]
    given = {"rate": frames_per_s, "start-ns": start_ns}
    command += [f"--{key}={value}" for key, value in given.items() if value is not None]
    player = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    with player:
        try:
            yield player
        finally:
            player.kill()


def stopped(player: subprocess.Popen[str]) -> Played:
    """End a player before its time."""
    player.terminate()
    return played_by(player)


def played_by(player: subprocess.Popen[str]) -> Played:
    """Wait for the end of a player.

    Raises:
        RuntimeError: it failed; the text is what it said.
    """
    out, err = player.communicate()
    if player.returncode:
        raise RuntimeError(err.strip().rsplit("\n", 1)[-1])
    return Played(**json.loads(out))


def play(
    interface: str,
    trace: Path,
    seconds: float,
    *,
    frames_per_s: float | None = None,
    start_ns: int | None = None,
) -> Played:
    """As `playing`, and wait until it is done."""
    with playing(interface, trace, seconds, frames_per_s=frames_per_s, start_ns=start_ns) as player:
        return played_by(player)


def _frames(trace: Path) -> tuple[list[bytes], npt.NDArray[np.int64]]:
    """The frames, and when each is due in ns from the first; one more time for the next round."""
    from ecustream.capture.files import open_capture
    from ecustream.ledger import Ledger

    with open_capture(trace, Ledger()) as reader:
        frames = [frame for batch in reader for frame in batch]
    times_ns = np.array([frame.time_ns for frame in frames], np.int64)
    times_ns = np.maximum.accumulate(times_ns) - times_ns[0]
    return [frame.data for frame in frames], np.append(times_ns, times_ns[-1] + 1_000_000)


def _due(times_ns: npt.NDArray[np.int64], count: int, rate: float | None) -> Iterator[tuple[int, int]]:
    """Which frame is sent next and when, in ns from the start, without an end."""
    if rate is not None:
        sent = 0
        while True:
            yield sent % count, round(sent * 1e9 / rate)
            sent += 1
    round_ns = 0
    listed = times_ns[:count].tolist()
    while True:
        for index, time_ns in enumerate(listed):
            yield index, round_ns + time_ns
        round_ns += int(times_ns[count])


def _taken(send: Callable[[bytes], int], frame: bytes) -> bool:
    """Whether the kernel took it; it does not while the queue to the other end is full."""
    try:
        send(frame)
    except OSError as error:
        if error.errno != errno.ENOBUFS:
            raise
        return False
    return True


def _play(given: argparse.Namespace) -> Played:
    """Play in this process."""
    frames, times_ns = _frames(given.trace)
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    pause_ns = _PAUSE_NS if (given.rate or 0) > 1000 else 0
    until_ns = round(given.seconds * 1e9)
    due = _due(times_ns, len(frames), given.rate)
    sent = latest_ns = 0
    # The wall clock says when to begin; what comes after is by the steady one.
    wall_ns = given.start_ns or time.time_ns()
    start_ns = time.monotonic_ns() + wall_ns - time.time_ns()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
        wire.bind((given.interface, 0))
        send = wire.send
        for index, due_ns in due:
            if due_ns >= until_ns or ended:
                break
            while (left_ns := start_ns + due_ns - time.monotonic_ns()) > 0 and not ended:
                time.sleep(min(max(left_ns, pause_ns), _LONGEST_SLEEP_NS) / 1e9)
            while not _taken(send, frames[index]):
                pass
            sent += 1
            latest_ns = max(latest_ns, time.monotonic_ns() - start_ns - due_ns)
        end_ns = time.monotonic_ns()
    return Played(sent, wall_ns, (end_ns - start_ns) / 1e9, time.process_time(), latest_ns)


def main() -> None:
    """Play as the arguments say, and print what was played as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("interface")
    parser.add_argument("trace", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--start-ns", type=int)
    given = parser.parse_args()
    if given.rate is None:
        # A bus does not wait for a busy machine. It sleeps between frames, so it starves nobody.
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    print(json.dumps(_play(given)._asdict()))


if __name__ == "__main__":
    main()
