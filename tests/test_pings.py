"""Pings reach systemd only while the pipeline goes on."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecustream.pings import Pinger
from ecustream.systemd import Notifier
from ecustream.watchdog import Verdict, Watchdog

FOREVER_NS = 10**18


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield listener


@pytest.fixture
def notifier(manager: socket.socket) -> Notifier:
    """Of a service whose watchdog has an interval of 40 ms."""
    return Notifier({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "40000"})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time that the pinger sees, in its only element."""
    now_ns = [0]
    monkeypatch.setattr("ecustream.pings.time.monotonic_ns", lambda: now_ns[0])
    return now_ns


def received(manager: socket.socket) -> list[bytes]:
    """All that has come by now."""
    messages = []
    manager.setblocking(False)
    try:
        while True:
            messages.append(manager.recv(4096))
    except BlockingIOError:
        return messages
    finally:
        manager.settimeout(5)


@pytest.mark.usefixtures("clock")
def test_pings_while_all_goes_on(manager: socket.socket, notifier: Notifier) -> None:
    """They come again and again, with no status beside them, and end with the service."""
    with Pinger(Watchdog({"scoring": FOREVER_NS}, 0), notifier):
        assert {manager.recv(4096) for _ in range(5)} == {b"WATCHDOG=1"}
    received(manager)
    assert [thread.name for thread in threading.enumerate() if thread.name == "pings"] == []


def test_withheld_while_a_stage_stands_still(
    manager: socket.socket, notifier: Notifier, clock: list[int]
) -> None:
    """The status says which, once; when it goes on, pings come again."""
    watchdog = Watchdog({"scoring": 1_000_000_000}, 0)
    verdicts: list[Verdict] = []
    told = threading.Event()

    def tell(verdict: Verdict) -> None:
        verdicts.append(verdict)
        told.set()

    looks = 0
    look = watchdog.look

    def counted(now_ns: int) -> Verdict:
        nonlocal looks
        looks += 1
        return look(now_ns)

    watchdog.look = counted  # type: ignore[method-assign]
    clock[0] = 3_000_000_000
    with Pinger(watchdog, notifier, tell):
        assert manager.recv(4096) == b"STATUS=scoring has stood still for 3.0 s, more than 1 s"
        assert told.wait(5)
        seen = looks
        while looks < seen + 3:
            threading.Event().wait(0.005)
        assert received(manager) == []
        watchdog.beat("scoring", clock[0])
        assert manager.recv(4096) == b"STATUS=every stage goes on again"
        assert manager.recv(4096) == b"WATCHDOG=1"
    assert [verdict.healthy for verdict in verdicts] == [False, True]


@pytest.mark.usefixtures("clock")
def test_four_pings_an_interval(notifier: Notifier) -> None:
    """One that is late by half the interval still comes in time."""
    assert Pinger(Watchdog({"scoring": 1}, 0), notifier)._every_s == pytest.approx(0.01)


def test_watches_without_systemd_as_well() -> None:
    """A run in a terminal gets its log line, though there is nobody to ping."""
    watchdog = Watchdog({"scoring": 1}, 0)
    told = threading.Event()
    with Pinger(watchdog, Notifier({}), lambda _: told.set()):
        assert told.wait(5)


def test_ends_with_its_thread() -> None:
    """What is called in the thread has ended when the context has, so that it may use what is closed next."""
    began, ended = threading.Event(), threading.Event()

    def slow(_: Verdict) -> None:
        began.set()
        threading.Event().wait(0.1)
        ended.set()

    with Pinger(Watchdog({"scoring": 1}, 0), Notifier({}), slow):
        assert began.wait(5)
    assert ended.is_set()
