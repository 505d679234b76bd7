"""Tells those who watch over a run how it is: systemd, Prometheus, and who reads the log."""

import time
from collections.abc import Callable, Iterable
from typing import Self

from ecustream.pings import Pinger
from ecustream.publish.messages import Status
from ecustream.systemd import Notifier
from ecustream.watchdog import Verdict, Watchdog

__all__ = ["Supervisor"]

_UNWATCHED_BOUND_NS = 30_000_000_000


class Supervisor:
    """Passes on the state of a run, and whether its stages go on; outside of its context it watches nothing.

    Before `ready` nothing is watched, because a model may take minutes to load. A stage may stand still for
    half the time after which systemd ends the service, or 30 s where it does not watch.

    Args:
        metrics_port: port on 127.0.0.1 for Prometheus, 0 for a free one; None for none.
        say: is told a sentence when stages begin to stand still, or go on again.
        notifier: speaks with systemd.

    Raises:
        OutputError: the port is in use.
    """

    def __init__(
        self,
        metrics_port: int | None = None,
        say: Callable[[str], None] | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self._notifier = notifier or Notifier()
        self._say = say or (lambda sentence: None)
        self._entered = False
        self._status: Status | None = None
        self._watchdog: Watchdog | None = None
        self._pinger: Pinger | None = None
        self._verdict = Verdict((), changed=False)
        self._server = None
        if metrics_port is not None:
            from ecustream.metrics_server import MetricsServer

            self._server = MetricsServer(metrics_port, self._metrics, self._health)

    def __enter__(self) -> Self:
        self._entered = True
        if self._server is not None:
            self._server.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pinger is not None:
            self._pinger.__exit__(*exception)
        if self._server is not None:
            self._server.__exit__(*exception)

    @property
    def metrics_port(self) -> int | None:
        """Where the metrics are; None where they are not."""
        return None if self._server is None else self._server.port

    def ready(self, stages: Iterable[str]) -> None:
        """The run is up; from now on these stages have to beat."""
        if not self._entered:
            return
        bound_ns = (self._notifier.watchdog_ns or 2 * _UNWATCHED_BOUND_NS) // 2
        self._watchdog = Watchdog(dict.fromkeys(stages, bound_ns), time.monotonic_ns())
        self._notifier.ready()
        self._pinger = Pinger(self._watchdog, self._notifier, self._changed)
        self._pinger.__enter__()

    def beat(self, stage: str) -> None:
        """A stage goes on; any thread may say so."""
        if self._watchdog is not None:
            self._watchdog.beat(stage, time.monotonic_ns())

    def end(self, stage: str) -> None:
        """A stage has come to its end."""
        if self._watchdog is not None and stage in self._watchdog.stages:
            self._watchdog.end(stage)

    def status(self, status: Status) -> None:
        """How the run is now."""
        self._status = status
        lag = f", {status.lag_s:.1f} s behind" if status.lag_s >= 1 else ""
        why = f": {status.reason}" if status.reason else ""
        if self._verdict.healthy:
            self._notifier.status(f"{status.state}, {status.lines_per_s:,.0f} lines/s{lag}{why}")

    def reloading(self) -> None:
        """A reload has begun."""
        self._notifier.reloading()

    def reloaded(self) -> None:
        """A reload has ended, one way or the other."""
        self._notifier.ready()

    def stopping(self) -> None:
        """The run draws to its end."""
        self._notifier.stopping()

    def _changed(self, verdict: Verdict) -> None:
        self._verdict = verdict
        self._say(verdict.sentence or "every stage goes on again")

    def _metrics(self) -> str:
        if self._status is None:
            return ""
        stalled = {stall.stage for stall in self._verdict.stalls}
        stages = () if self._watchdog is None else self._watchdog.stages
        from ecustream.metrics import render_metrics

        return render_metrics(self._status, {stage: stage in stalled for stage in stages})

    def _health(self) -> str | None:
        return self._verdict.sentence or None
