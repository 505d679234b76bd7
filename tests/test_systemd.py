"""sd_notify, read at the other end of a real socket."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecustream.systemd import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket as systemd has it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield listener


@pytest.fixture
def notifier(manager: socket.socket) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.getsockname()})


def test_nothing_without_a_manager() -> None:
    """Outside a service every call does nothing and counts nothing."""
    notifier = Notifier({"WATCHDOG_USEC": "1000000"})
    for call in (notifier.ready, notifier.reloading, notifier.stopping, notifier.ping):
        call()
    notifier.status("scoring")
    assert (notifier.enabled, notifier.watchdog_ns, notifier.failures) == (False, None, 0)


def test_states(manager: socket.socket, notifier: Notifier) -> None:
    """Each call is one datagram in the words of sd_notify(3)."""
    notifier.ready("scoring eth1")
    notifier.ready()
    notifier.status("12 lines/s")
    notifier.ping()
    notifier.stopping("draining")
    assert [manager.recv(4096) for _ in range(5)] == [
        b"READY=1\nSTATUS=scoring eth1",
        b"READY=1",
        b"STATUS=12 lines/s",
        b"WATCHDOG=1",
        b"STOPPING=1\nSTATUS=draining",
    ]
    assert notifier.enabled
    assert notifier.failures == 0


def test_a_reload_says_when_it_began(manager: socket.socket, notifier: Notifier) -> None:
    """The time, in µs of CLOCK_MONOTONIC, is compared with that of systemd's own request."""
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    after_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    first, second = manager.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    assert before_us <= int(second.removeprefix("MONOTONIC_USEC=")) <= after_us


def test_abstract_socket() -> None:
    """`@name` is a socket without a file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0ecustream-test-{os.getpid()}")
        listener.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@ecustream-test-{os.getpid()}"}).ping()
        assert listener.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize("name", ["", "@", "vsock:2:1234", "run/notify"])
def test_addresses_that_are_none(name: str) -> None:
    """What is neither a path nor an abstract name is passed over, as sd_notify(3) says."""
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready()
    assert (notifier.enabled, notifier.failures) == (False, 0)


def test_a_status_is_one_assignment(manager: socket.socket, notifier: Notifier) -> None:
    """A line feed in it must not become another assignment, and a long one must not be refused."""
    notifier.status("one\nREADY=1\r\n two" + "x" * 100_000)
    text = manager.recv(200_000).decode()
    assert text.startswith("STATUS=one READY=1 two")
    assert "\n" not in text
    assert len(text) < 4096


def test_an_empty_status_is_not_sent(manager: socket.socket, notifier: Notifier) -> None:
    """There is no datagram without an assignment."""
    notifier.status("\n")
    notifier.ping()
    assert manager.recv(100) == b"WATCHDOG=1"


def test_a_manager_that_is_gone(manager: socket.socket, notifier: Notifier) -> None:
    """Nothing raises; what was not sent is counted, and it works again when the socket is back."""
    path = manager.getsockname()
    manager.close()
    os.unlink(path)
    notifier.ready()
    notifier.ping()
    assert notifier.failures == 2
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
        again.bind(path)
        again.settimeout(5)
        notifier.ping()
        assert again.recv(100) == b"WATCHDOG=1"
    assert notifier.failures == 2


def test_a_path_that_is_too_long() -> None:
    """No address is a reason to raise."""
    notifier = Notifier({"NOTIFY_SOCKET": "/" + "x" * 500})
    notifier.ready()
    assert notifier.failures == 1


@pytest.mark.timeout(20)
def test_a_manager_that_does_not_read(notifier: Notifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings never wait for room; `ready` does, though not for ever."""
    monkeypatch.setattr("ecustream.systemd._PATIENCE_S", 0.05)
    sent = 0
    while not notifier.failures:
        notifier.ping()
        sent += 1
        assert sent < 100_000, "the socket never became full"
    notifier.ready()
    assert notifier.failures == 2


@pytest.mark.parametrize(
    ("variables", "watchdog_ns"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30_000_000_000),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30_000_000_000),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "me"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
        ({}, None),
    ],
)
def test_the_watchdogs_interval(
    manager: socket.socket, variables: dict[str, str], watchdog_ns: int | None
) -> None:
    """It is asked for by systemd, of one process, in µs."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname(), **variables})
    assert notifier.watchdog_ns == watchdog_ns


def test_reads_the_environment(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument the variables are those of the process."""
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    Notifier().ready()
    assert manager.recv(100) == b"READY=1"
