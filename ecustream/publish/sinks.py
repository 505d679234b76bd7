"""Gives each event to every place it goes to, and books it once."""

from ecustream.events import Event
from ecustream.ledger import Ledger
from ecustream.publish.eventlog import EventLog
from ecustream.publish.socket import Publisher

__all__ = ["EventSinks"]


class EventSinks:
    """The event log and the socket, either of which may be absent.

    The emitter enters each event in the ledger's book `events`; here it ends: as `published` when the log
    has its line or the socket has taken it, else as `dropped` with the reason `no_sink`, `log_failed` or
    `socket_failed`. With a publisher the end is booked from its thread, at the latest in `close`.
    """

    def __init__(
        self, ledger: Ledger, *, publisher: Publisher | None = None, log: EventLog | None = None
    ) -> None:
        self._ledger = ledger
        self._publisher = publisher
        self._log = log

    def emit(self, event: Event) -> None:
        """Hands the next event of the run to every sink; waits only while the publisher's queue is full."""
        logged = self._log is not None and self._log.write(event)
        if self._publisher is None:
            self._end(logged, "no_sink" if self._log is None else "log_failed")
        else:
            self._publisher.publish(event, lambda sent: self._end(logged or sent, "socket_failed"))

    @property
    def trouble(self) -> str | None:
        """Why events are not logged, or not sent, at present; None where all is well."""
        said = (
            self._log.trouble if self._log else None,
            self._publisher.failure if self._publisher else None,
        )
        return "; ".join(sentence for sentence in said if sentence) or None

    def problems(self) -> list[str]:
        """One sentence for each sink that failed in mid-run."""
        said = (
            self._log.problem() if self._log else None,
            self._publisher.failure if self._publisher else None,
        )
        return [sentence for sentence in said if sentence]

    def close(self) -> None:
        """Closes the sinks; after that every event given to `emit` has ended in the ledger."""
        if self._publisher is not None:
            self._publisher.close()
        if self._log is not None:
            self._log.close()

    def _end(self, published: bool, reason: str) -> None:
        if published:
            self._ledger.end("events", "published")
        else:
            self._ledger.end("events", "dropped", reason=reason)
