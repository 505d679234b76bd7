"""What systemd, Prometheus and the log are told of a run, over the real sockets."""

import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest

from ecustream.errors import OutputError
from ecustream.ledger import Ledger
from ecustream.publish.messages import Status
from ecustream.supervisor import Supervisor
from ecustream.systemd import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket at which systemd listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(20)
        yield listener


def notifier(manager: socket.socket, watchdog_s: float = 60) -> Notifier:
    """Of a service that is watched."""
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": str(round(watchdog_s * 1e6))}
    return Notifier(environ)


def status(**changes: object) -> Status:
    """A status as a run gives it."""
    known: dict[str, object] = {
        "run": "r",
        "source": "eth1",
        "state": "running",
        "seq": 0,
        "lines_per_s": 1234.5,
        "lag_s": 0.01,
        "wall_ns": 1,
        "ledger": Ledger().as_dict(),
    }
    return Status(**{**known, **changes})  # type: ignore[arg-type]


def get(port: int | None, path: str) -> tuple[int, str]:
    """An answer of the metrics server."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def until(manager: socket.socket, wanted: bytes) -> list[bytes]:
    """What came up to and with a message."""
    came = [manager.recv(4096)]
    while wanted not in came[-1]:
        came.append(manager.recv(4096))
    return came


def test_systemd_is_told_of_every_step(manager: socket.socket) -> None:
    """Nothing before it is ready; then pings and its status, a reload, its end."""
    with Supervisor(notifier=notifier(manager)) as supervisor:
        supervisor.beat("scoring")
        supervisor.ready(["scoring"])
        assert b"READY=1" in until(manager, b"READY=1")[-1]
        supervisor.status(status())
        assert until(manager, b"STATUS=")[-1] == b"STATUS=running, 1,234 lines/s"
        supervisor.status(status(state="degraded", lag_s=2.34, reason="b0 is down"))
        assert until(manager, b"STATUS=")[-1] == b"STATUS=degraded, 1,234 lines/s, 2.3 s behind: b0 is down"
        supervisor.reloading()
        assert until(manager, b"RELOADING=1")[-1].startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        supervisor.reloaded()
        assert until(manager, b"READY=1")[-1] == b"READY=1"
        supervisor.stopping()
        until(manager, b"STOPPING=1")


def test_a_stage_that_stands_still_is_told_everywhere(manager: socket.socket) -> None:
    """No ping any more, a sentence in the log, 503 for whoever asks, until the stage goes on."""
    said: list[str] = []
    with Supervisor(0, said.append, notifier(manager, watchdog_s=0.4)) as supervisor:
        assert get(supervisor.metrics_port, "/metrics") == (200, "")
        supervisor.status(status())
        supervisor.ready(["scoring", "capture b0"])
        supervisor.end("capture b0")
        supervisor.end("capture of another one")
        until(manager, b"scoring has stood still for")
        manager.settimeout(0.5)
        with pytest.raises(TimeoutError):
            manager.recv(4096)
        code, health = get(supervisor.metrics_port, "/health")
        assert code == 503
        assert json.loads(health)["reason"] == said[0]
        assert "scoring has stood still for" in said[0]
        _, metrics = get(supervisor.metrics_port, "/metrics")
        assert 'ecustream_stage_stalled{stage="scoring"} 1' in metrics
        assert 'ecustream_stage_stalled{stage="capture b0"} 0' in metrics
        # Its own words would hide those of what stands still.
        supervisor.status(status())
        manager.settimeout(20)
        end_s = time.monotonic() + 20
        while len(said) < 2:
            assert time.monotonic() < end_s
            supervisor.beat("scoring")
            time.sleep(0.01)
        assert said[1] == "every stage goes on again"
        assert b"STATUS=running, 1,234 lines/s" not in until(manager, b"WATCHDOG=1")


def test_outside_of_its_context_it_is_silent(manager: socket.socket) -> None:
    """A run without anybody who watches starts no threads and sends nothing."""
    Supervisor(notifier=notifier(manager)).ready(["scoring"])
    manager.settimeout(0.1)
    with pytest.raises(TimeoutError):
        manager.recv(4096)


def test_a_port_that_is_in_use_is_refused() -> None:
    """With one sentence, at the start."""
    with Supervisor(0) as supervisor, pytest.raises(OutputError, match="cannot be bound"):
        Supervisor(supervisor.metrics_port)
