"""The thread that passes the pipeline's health on to systemd: a ping while all goes on, else none."""

import threading
import time
from collections.abc import Callable
from typing import Self

from ecustream.systemd import Notifier
from ecustream.watchdog import Verdict, Watchdog

__all__ = ["Pinger"]

_LOOK_EVERY_NS = 5_000_000_000
# sd_watchdog_enabled(3) advises half the interval; a quarter leaves room for one that is late.
_PINGS_AN_INTERVAL = 4


class Pinger:
    """Looks at a watchdog now and then and pings only while every stage goes on; use as a context manager.

    The ping is withheld where a stage stands still, so that systemd aborts the process and starts it again.
    That the thread itself lives proves nothing and is not what is reported.

    Args:
        watchdog: judged on `time.monotonic_ns`.
        notifier: gets the pings, and what stands still as its status.
        on_change: called in the thread when stages begin to stand still or go on again.
    """

    def __init__(
        self, watchdog: Watchdog, notifier: Notifier, on_change: Callable[[Verdict], None] = lambda _: None
    ) -> None:
        self._watchdog = watchdog
        self._notifier = notifier
        self._on_change = on_change
        interval_ns = notifier.watchdog_ns
        every_ns = interval_ns // _PINGS_AN_INTERVAL if interval_ns else _LOOK_EVERY_NS
        self._every_s = every_ns / 1e9
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pings", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._look()
            if self._ended.wait(self._every_s):
                return

    def _look(self) -> None:
        verdict = self._watchdog.look(time.monotonic_ns())
        if verdict.changed:
            self._notifier.status(verdict.sentence or "every stage goes on again")
            self._on_change(verdict)
        if verdict.healthy:
            self._notifier.ping()
