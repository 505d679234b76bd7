"""All sockets of a publisher, which are bound together, used by one thread, and closed together."""

import os
import threading
from collections.abc import Callable
from typing import Any, cast

import zmq

from ecustream.publish.bind import bind
from ecustream.publish.curve import Curve, Gate
from ecustream.publish.messages import PublishStatus
from ecustream.publish.replies import Replies
from ecustream.publish.stream import ConnectionCounter, Stream

__all__ = ["Sockets"]

# A connection on which no ZeroMQ is spoken is closed after this time; libzmq's own is 30 s.
HANDSHAKE_MS = 5000
# Beyond what subscribers are given to take the last messages.
TERM_S = 2.0


class Sockets:
    """The stream, the replies, who may connect to them, and what is counted of that.

    The constructor may be called in another thread than the rest.

    Args:
        pub_url: address of the stream.
        reply_url: address of the replies.
        answer: the JSON answer to a request.
        convert: makes of JSON what is sent.
        curve: keys, where both sockets are encrypted.
        allow_remote: whether machines other than this one may connect without keys.
        group: owner of ipc sockets.

    Raises:
        ConfigError: an address is malformed or open to other machines, or there is no such group.
        OutputError: an address is in use or cannot be bound.
    """

    def __init__(
        self,
        pub_url: str,
        reply_url: str,
        answer: Callable[[bytes], bytes],
        convert: Callable[[bytes], bytes],
        *,
        curve: Curve | None,
        allow_remote: bool,
        group: str | None,
    ) -> None:
        self._convert = convert
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._locks: list[int] = []
        self._linger_s = 0.0
        self._gate = None if curve is None else Gate(self._context, curve)
        self._stream = Stream(self._context)
        self._replies = Replies(self._context, answer, convert)
        bound = self._stream.socket, self._replies.socket
        for socket in bound:
            socket.handshake_ivl = HANDSHAKE_MS
            if curve is not None:
                curve.secure(socket)
        self._subscribers, self._askers = self._counters = [ConnectionCounter(socket) for socket in bound]
        try:
            for socket, url, option in zip(bound, (pub_url, reply_url), ("--pub", "--reply"), strict=True):
                allowed = allow_remote or curve is not None
                lock = bind(socket, url, option, allow_remote=allowed, group=group)
                self._locks += [] if lock is None else [lock]
        except BaseException:
            self.close(0)
            self.release()
            raise
        self.pub_url, self.reply_url = map(_endpoint, bound)

    def register(self, poller: zmq.Poller) -> None:
        """Has a poller wait for requests and for connections."""
        sockets: list[Any] = [self._replies.socket, *(counter.socket for counter in self._counters)]
        for socket in sockets if self._gate is None else [*sockets, self._gate.socket]:
            poller.register(socket, zmq.POLLIN)

    def send(self, topic: bytes, body: bytes) -> None:
        """Sends a message, given as JSON, to all subscribers, without waiting."""
        self._stream.send(topic, self._convert(body))

    def serve(self) -> None:
        """Deals with requests and connections for a turn of some milliseconds at most."""
        if self._gate is not None:
            self._gate.answer_all()
        for counter in self._counters:
            counter.count_all()
        self._replies.answer_some()

    def counts(self, scores_dropped: int) -> PublishStatus:
        """What was counted so far; may be called from any thread."""
        return PublishStatus(
            subscribers=self._subscribers.open,
            queue_full=self._stream.queue_full,
            scores_dropped=scores_dropped,
            requests=self._replies.requests,
            bad_requests=self._replies.bad_requests,
            answers_dropped=self._replies.answers_dropped,
            refused=self._subscribers.refused + self._askers.refused,
        )

    def close(self, linger_ms: int) -> None:
        """Closes the sockets, in the thread that uses them; what is queued has `linger_ms` to be taken."""
        self._linger_s = linger_ms / 1000
        for counter in self._counters:
            counter.close()
        self._stream.socket.close(linger_ms)
        self._replies.socket.close(linger_ms)
        if self._gate is not None:
            self._gate.socket.close(0)

    def release(self) -> None:
        """Waits until what was queued is taken, then frees both addresses.

        libzmq 4.3.5 at times never ends a context in which somebody hung up before his answer was sent.
        So it is not waited for without limit; an ipc address then stays locked as long as the process lives.
        """
        ending = threading.Thread(target=self._context.term, name="end of sockets", daemon=True)
        ending.start()
        ending.join(self._linger_s + TERM_S)
        if ending.is_alive():
            return
        for lock in self._locks:
            os.close(lock)
        self._locks.clear()


def _endpoint(socket: zmq.Socket[bytes]) -> str:
    return cast(bytes, socket.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()
