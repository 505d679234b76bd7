"""Subscribes in a process of its own, and stamps each message the moment it comes."""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import zmq

from ecustream.events import Event

__all__ = ["Received", "received_by", "scores_by", "subscribing"]

ROOT = Path(__file__).resolve().parents[2]


class Received(NamedTuple):
    """An event, and the wall time at which the subscriber had it, in ns since 1970."""

    at_ns: int
    event: Event


@contextmanager
def subscribing(url: str, topic: str = "event/") -> Iterator[subprocess.Popen[bytes]]:
    """A process that subscribes until `received_by` or `scores_by`; connected, if there is a run."""
    command = [sys.executable, "-m", "tests.reliability.subscriber", url, topic]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def received_by(process: subprocess.Popen[bytes]) -> list[Received]:
    """End a subscriber to `event/` and take what it has received."""
    return [Received(at_ns, msgspec.json.decode(body, type=Event)) for at_ns, body in _end(process)]


def scores_by(process: subprocess.Popen[bytes]) -> list[int]:
    """End a subscriber to `score/`: by how much the newest line of each message was late, in ns."""
    return [at_ns - max(msgspec.json.decode(body)["times_ns"]) for at_ns, body in _end(process)]


def _end(process: subprocess.Popen[bytes]) -> Iterator[tuple[int, bytes]]:
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate()
    for line in out.splitlines():
        at_ns, body = line.split(b" ", 1)
        yield int(at_ns), body


def main() -> None:
    """Write `<ns> <message>` for each message once ended, after a first line that says it is connected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("topic")
    given = parser.parse_args()
    wanted = given.topic.encode()
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    socket = zmq.Context().socket(zmq.SUB)
    for topic in (wanted, b"status/"):
        socket.subscribe(topic)
    socket.connect(given.url)
    lines: list[bytes] = []
    told = False
    while not stopped:
        # A signal ends no wait (zmq goes on), so none is long.
        if not socket.poll(50):
            continue
        topic, body = socket.recv_multipart()
        at_ns = time.time_ns()
        if topic.startswith(wanted):
            lines.append(b"%d %b\n" % (at_ns, body))
        elif not told:
            told = True
            sys.stdout.write("connected\n")
            sys.stdout.flush()
    sys.stdout.buffer.writelines(lines)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
