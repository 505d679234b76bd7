"""Listens where systemd would: what a service says with sd_notify, and when."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest import mock

__all__ = ["Notifications", "Notified", "notified"]


class Notified(NamedTuple):
    """A message: when it came, by the monotonic clock in s, and its assignments."""

    at_s: float
    words: dict[str, str]


class Notifications:
    """The messages so far, oldest first."""

    def __init__(self) -> None:
        self.messages: list[Notified] = []

    def at_s(self, key: str) -> list[float]:
        """When each message with this key came."""
        return [message.at_s for message in list(self.messages) if key in message.words]

    def statuses(self) -> list[str]:
        """The sentences for `systemctl status`."""
        return [message.words["STATUS"] for message in list(self.messages) if "STATUS" in message.words]


@contextmanager
def notified(folder: Path, watchdog_s: float | None = None) -> Iterator[Notifications]:
    """A real `$NOTIFY_SOCKET` in the environment of what is started within it, see sd_notify(3).

    Args:
        folder: for the socket.
        watchdog_s: `WatchdogSec` of the unit.
    """
    heard = Notifications()
    ended = threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(folder / "notify"))
        listening.settimeout(0.1)

        def listen() -> None:
            while not ended.is_set():
                try:
                    text = listening.recv(65_536).decode()
                except TimeoutError:
                    continue
                words = dict(line.split("=", 1) for line in text.splitlines())
                heard.messages.append(Notified(time.monotonic(), words))

        thread = threading.Thread(target=listen, name="systemd")
        thread.start()
        variables = {"NOTIFY_SOCKET": str(folder / "notify")}
        if watchdog_s is not None:
            variables["WATCHDOG_USEC"] = str(round(watchdog_s * 1e6))
        try:
            with mock.patch.dict(os.environ, variables):
                yield heard
        finally:
            ended.set()
            thread.join()
