"""What both subscribers share: the feed, its sockets, its clock, and an orderly close."""

import threading
import time
from collections.abc import Collection
from typing import Literal

from ecustream.client.feed import Feed
from ecustream.client.items import START, Denied, Item, Position
from ecustream.client.sockets import CurveKeys, Sockets
from ecustream.errors import ConfigError
from ecustream.events import Event

__all__ = ["Connection"]


class Connection:
    """Connects to a publisher, which need not run yet.

    The items are `Event`, `Status`, `ScoreBatch` where asked for, and the notices `Synced`, `NewRun`,
    `Lost`, `Stale`, `Alive` and `Denied` of `ecustream.client.items`. Every event comes exactly once and
    in order, or a `Lost` names it; once more only after a `NewRun` from a run to itself. Statuses and
    scores come as they arrive and may be missing.

    The first `Synced` gives the open episodes; events follow from there on. Save `position` after each
    item that is dealt with and give it as `since` to go on there after a restart.

    Args:
        connect: address of the PUB socket.
        reply: address of the ROUTER socket.
        kinds: which kinds of events to hand out; None for all.
        sources: events and scores of which sources to hand out; None for all.
        since: a (run, seq) from `position`: begins with the event after that one; "start": begins with the
            oldest event that the publisher still has, of whatever run.
        stale_after_s: how many seconds of silence make the stream stale.
        scores: whether to hand out scores too.
        server_key: the publisher's public key (Z85) where the sockets are encrypted with CURVE.
        public_key: the reader's own public key; without one a pair is made for the moment.
        secret_key: the reader's own secret key.

    Raises:
        ConfigError: an argument cannot be used; the sentence names it.
    """

    def __init__(
        self,
        connect: str = "tcp://127.0.0.1:5556",
        reply: str = "tcp://127.0.0.1:5557",
        *,
        kinds: Collection[str] | None = None,
        sources: Collection[str] | None = None,
        since: tuple[str, int] | Literal["start"] | None = None,
        stale_after_s: float = 3.0,
        scores: bool = False,
        server_key: str | bytes | None = None,
        public_key: str | bytes | None = None,
        secret_key: str | bytes | None = None,
    ) -> None:
        if not 0.001 <= stale_after_s <= 86_400:
            raise ConfigError(f"stale_after_s is {stale_after_s}, but must be from 0.001 to 86400 seconds")
        if server_key is None and (public_key, secret_key) != (None, None):
            raise ConfigError("public_key and secret_key need the publisher's server_key")
        # Names the moment like the wall clock, but is never set back.
        self._clock_offset_ns = time.time_ns() - time.monotonic_ns()
        self._feed = Feed(
            self._now_ns(),
            since=_position(since),
            wanted=_Filter(_names(kinds, "kinds"), _names(sources, "sources")),
            stale_after_ns=round(stale_after_s * 1e9),
        )
        topics = [b"event/", b"status/"]
        if scores:
            topics += [b"score/"] if sources is None else [f"score/{source}/".encode() for source in sources]
        self._stream_url = connect
        keys = None if server_key is None else CurveKeys(server_key, public_key, secret_key)
        self._sockets = Sockets(connect, reply, topics, keys)
        self._reading = threading.Lock()
        self._closing = False
        self._closed = False

    @property
    def position(self) -> Position | None:
        """(run, seq) of the last event handed out or passed over by a filter; None before `Synced`."""
        return self._feed.position

    def close(self) -> None:
        """Ends the iteration, promptly and without an error; safe from any thread and signal handler."""
        self._closing = True
        self._sockets.wake()
        # Sockets belong to one thread at a time, so a reader that is at work closes them itself.
        if self._reading.acquire(blocking=False):
            try:
                if not self._closed:
                    self._closed = True
                    self._sockets.close()
            finally:
                self._reading.release()

    def _begin_reading(self) -> None:
        if not self._reading.acquire(blocking=False):
            raise RuntimeError("another thread or task is already waiting for the next item")

    def _end_reading(self) -> None:
        self._reading.release()
        if self._closing:
            self.close()

    def _next_item(self) -> Item | None:
        """What there is to hand out now: of what came before, then of what has arrived meanwhile."""
        item = self._feed.next_item()
        if item is None:
            self._exchange()
            item = self._feed.next_item()
        return item

    def _exchange(self) -> None:
        why = self._sockets.refusal()
        if why is not None:
            self._feed.deny(Denied(self._stream_url, why))
        # The stream first: what it holds need not be asked for or called lost.
        for message in self._sockets.messages():
            self._feed.hear(message, self._now_ns())
        answer = self._sockets.answer()
        if answer is not None:
            self._feed.answer(*answer, self._now_ns())
        now_ns = self._now_ns()
        if self._feed.tick(now_ns):
            self._sockets.reconnect()
        request = self._feed.request(now_ns)
        if request is not None:
            self._sockets.send(request)

    def _timeout_ms(self) -> int:
        """How long to wait for messages at most."""
        return max(0, -(-(self._feed.due_ns() - self._now_ns()) // 1_000_000))

    def _now_ns(self) -> int:
        return time.monotonic_ns() + self._clock_offset_ns


class _Filter:
    def __init__(self, kinds: Collection[str] | None, sources: Collection[str] | None) -> None:
        self._kinds = kinds
        self._sources = sources

    def __call__(self, event: Event) -> bool:
        return (self._kinds is None or event.kind in self._kinds) and (
            self._sources is None or event.source in self._sources
        )


def _names(names: Collection[str] | None, argument: str) -> Collection[str] | None:
    if isinstance(names, str):
        raise ConfigError(f'{argument} is "{names}", but must be a list of names')
    return names


def _position(since: tuple[str, int] | str | None) -> Position | None:
    if since is None:
        return None
    if since == "start":
        return START
    run, seq = since if isinstance(since, tuple | list) and len(since) == 2 else ("", 0)
    if not isinstance(run, str) or not run or not isinstance(seq, int) or seq < 0:
        raise ConfigError(f'since is {since!r}, but must be a position (run, seq) or "start"')
    return Position(run, seq)
