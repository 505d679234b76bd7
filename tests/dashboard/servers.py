"""A dashboard in a process of its own, and a daemon to look at."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import msgspec

from ecustream.events import Event
from ecustream.publish.curve import Curve
from ecustream.publish.messages import Status
from ecustream.publish.socket import Publisher
from tests.dashboard.examples import make_status, make_table

__all__ = ["Daemon", "Dashboard", "free_ports"]

DEADLINE_S = 20.0


class Dashboard:
    """`ecustream dashboard` on a free port, watching daemons at some addresses."""

    def __init__(self, *connect: str, listen: str = "127.0.0.1:0", options: Sequence[str] = ()) -> None:
        watched = [word for url in connect for word in ("--connect", url)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ecustream", "dashboard", "--listen", listen, *watched, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdout is not None
        match = re.search(r"http://(.+):(\d+)/", self.process.stdout.readline())
        if match is None:
            raise RuntimeError(self.process.communicate()[1])
        self.port = int(match[2])
        self.url = match[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Its exit code and what it wrote on standard error, after a signal."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=10)
        return self.process.returncode, errors

    def get(self, path: str, host: str | None = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in lower case) and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{self.port}"})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body

    @contextmanager
    def frames(self) -> Iterator[Iterator[Any]]:
        """The frames of a page that is open as long as this lasts."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        connection.request("GET", "/api/stream")
        answer = connection.getresponse()
        try:
            yield (msgspec.json.decode(line[6:]) for line in answer if line.startswith(b"data: "))
        finally:
            answer.close()
            connection.close()


class Daemon:
    """A publisher on given ports that says what it is told to."""

    def __init__(
        self, pub: int, reply: int, run: str = "run0", *, curve: Curve | None = None, msgpack: bool = False
    ) -> None:
        self.run = run
        self.seq = 0
        self.publisher = Publisher(
            f"tcp://127.0.0.1:{pub}",
            f"tcp://127.0.0.1:{reply}",
            make_status(run=run),
            curve=curve,
            msgpack=msgpack,
        )
        self.publisher.publish_pdus(make_table(run))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.publisher.close(linger_ms=100)

    def event(self, event: Event) -> None:
        """Publishes an event under the next number of the run."""
        self.seq += 1
        event.run, event.seq, event.kind_seq = self.run, self.seq, self.seq
        self.publisher.publish(event)

    def status(self, status: Status | None = None) -> None:
        """Publishes a status, which tells of the last event."""
        self.publisher.publish_status(status or make_status(self.seq, run=self.run))


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody uses at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
