"""Tells systemd how the service is doing (sd_notify), without a library."""

import os
import socket
import time
from collections.abc import Mapping
from typing import TextIO

__all__ = ["Notifier", "is_journal"]

_PATIENCE_S = 1.0
_MOST_STATUS_CHARS = 500


class Notifier:
    """Sends service states to `$NOTIFY_SOCKET`; does nothing where systemd asked for none.

    No method raises: a service must not end because its manager does not listen. What could not be sent is
    counted. `ready`, `reloading` and `stopping` wait for room up to a second, because systemd acts
    on them; `status` and `ping` never wait. Safe from any thread. The protocol is that of
    sd_notify(3) and sd_watchdog_enabled(3).

    Args:
        environ: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are read here; None for the process's.

    Attributes:
        watchdog_ns: systemd aborts the service when no ping comes for so long; None where it does not watch.
        failures: messages that could not be sent.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_ns = _watchdog_ns(environ) if self._address is not None else None
        self.failures = 0

    @property
    def enabled(self) -> bool:
        """Whether there is anybody to tell."""
        return self._address is not None

    def ready(self, status: str = "") -> None:
        """The service is up, or a reload has ended; `status` is for `systemctl status`."""
        self._send("READY=1", *_status(status), wait=True)

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it, also where the old state was kept."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}", wait=True)

    def stopping(self, status: str = "") -> None:
        """The service has begun to end."""
        self._send("STOPPING=1", *_status(status), wait=True)

    def status(self, text: str) -> None:
        """One sentence for `systemctl status`."""
        self._send(*_status(text))

    def ping(self) -> None:
        """The service works."""
        self._send("WATCHDOG=1")

    def _send(self, *assignments: str, wait: bool = False) -> None:
        if self._address is None or not assignments:
            return
        try:
            # A socket a message: at most a few a second, and one that went bad is not kept.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(_PATIENCE_S if wait else 0.0)
                sender.sendto("\n".join(assignments).encode(errors="replace"), self._address)
        except OSError:
            self.failures += 1


def is_journal(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Whether `stream` is the one that systemd connected to the journal, see systemd.exec(5).

    The variable alone does not tell: it is inherited by children whose output goes elsewhere.
    """
    claimed = (os.environ if environ is None else environ).get("JOURNAL_STREAM")
    if not claimed:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return claimed == f"{status.st_dev}:{status.st_ino}"


def _address(name: str) -> str | None:
    """The socket's address: a path, or `@name` in the abstract namespace; None for anything else."""
    if name.startswith("@") and len(name) > 1:
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _watchdog_ns(environ: Mapping[str, str]) -> int | None:
    # Children inherit the variables, but only the process named in them is watched.
    if environ.get("WATCHDOG_PID") not in (None, str(os.getpid())):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    interval_us = int(text) if text.isascii() and text.isdigit() else 0
    return interval_us * 1000 or None


def _status(text: str) -> tuple[str, ...]:
    # A line feed would begin another assignment.
    words = " ".join(text.split())
    return (f"STATUS={words[:_MOST_STATUS_CHARS]}",) if words else ()
