"""The PUB and the reply socket, in one thread which alone touches them."""

import contextlib
import os
import socket as posix
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Self

import msgspec
import zmq

from ecustream.events import Event
from ecustream.publish.bind import bind
from ecustream.publish.history import History, bad_request
from ecustream.publish.messages import ScoreBatch, Status, encode, topic
from ecustream.publish.throttle import ScoreThrottle

__all__ = ["Publisher"]

# Messages kept for a subscriber that does not read; it loses what comes after and heals by a replay.
PUB_QUEUE_MESSAGES = 4000
# A replay is megabytes, so few of them are kept for a client that asks and does not read.
REPLY_QUEUE_ANSWERS = 16
# libzmq hangs up on larger requests before they use memory; those between are refused in words.
HANG_UP_REQUEST_BYTES = 1 << 20
REQUESTS_A_TURN = 8
SCORE_QUEUE_BATCHES = 256


class _Outgoing(NamedTuple):
    topic: bytes
    body: bytes
    on_sent: Callable[[bool], None] | None


class Publisher:
    """Publishes events, status and scores, and answers snapshot, replay, status and schema requests.

    Events go through a bounded queue to the socket thread. That thread never waits for a subscriber, so
    a full queue means that this machine is short of time, and `publish` waits for room: live, the delay
    ends in the ring, where overwritten lines are counted. Events are never dropped for the queue.
    Scores are: what finds their queue full is counted in `scores_dropped`, in lines.

    Only bind errors are raised, by the constructor. Should the thread fail later, `failure` says why,
    and every event from then on is reported as not sent.

    Args:
        pub_url: address of the PUB socket; port 0 takes a free one, see the attribute of the same name.
        reply_url: address of the ROUTER socket.
        status: the first status; its `run` is the run whose events are published.
        history_events: how many events a replay can reach back.
        queue_events: how many events may wait for the socket thread.
        allow_remote: whether machines other than this one may connect.

    Raises:
        ConfigError: an address is malformed, or open to other machines without `allow_remote`.
        OutputError: an address is in use or cannot be bound.
    """

    def __init__(
        self,
        pub_url: str,
        reply_url: str,
        status: Status,
        *,
        history_events: int = 10_000,
        queue_events: int = 10_000,
        allow_remote: bool = False,
    ) -> None:
        self.failure: str | None = None
        self.scores_dropped = 0
        self._status = status
        self._history = History(status.run, history_events)
        self._queue_events = queue_events
        self._queue: deque[_Outgoing] = deque()
        self._sending: deque[_Outgoing] = deque()
        self._scores: deque[ScoreBatch] = deque()
        self._throttle = ScoreThrottle()
        self._changed = threading.Condition()
        self._closing = False
        self._linger_ms = 0
        self._woken = False
        self._wake_in, self._wake_out = posix.socketpair()
        self._wake_in.setblocking(False)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._locks: list[int] = []
        self._pub = self._context.socket(zmq.PUB)
        self._pub.sndhwm = PUB_QUEUE_MESSAGES
        self._reply = self._context.socket(zmq.ROUTER)
        self._reply.sndhwm = REPLY_QUEUE_ANSWERS
        self._reply.maxmsgsize = HANG_UP_REQUEST_BYTES
        try:
            self.pub_url = self._bind(self._pub, pub_url, "--pub", allow_remote)
            self.reply_url = self._bind(self._reply, reply_url, "--reply", allow_remote)
        except BaseException:
            self._close_sockets()
            self._release()
            raise
        # Starting a thread is the memory barrier that libzmq asks for when a socket changes hands.
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def publish(self, event: Event, on_sent: Callable[[bool], None] | None = None) -> None:
        """Hands over the next event of the run; safe from any thread, waits while the queue is full.

        Args:
            event: its JSON is made here, so it may be changed afterwards.
            on_sent: called exactly once, from some thread: True when the event was handed to the socket,
                False when the publisher is closed or has failed. Must not call the publisher.

        Raises:
            ValueError: `event` is of another run or does not follow the last one.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self._queue) < self._queue_events or self._closing)
            if not self._closing:
                body = self._history.append(event)
                self._queue.append(_Outgoing(topic(event), body, on_sent))
                self._wake()
            elif on_sent is not None:
                on_sent(False)

    def publish_status(self, status: Status) -> None:
        """Hands over a status, which is sent after the events before it and answers requests from now on."""
        with self._changed:
            self._status = status
            if not self._closing:
                self._queue.append(_Outgoing(topic(status), encode(status), None))
                self._wake()

    def publish_scores(self, batch: ScoreBatch) -> None:
        """Hands over scores without waiting; they are sent at most 20 times a second for each source."""
        with self._changed:
            if self._closing or len(self._scores) >= SCORE_QUEUE_BATCHES:
                self.scores_dropped += len(batch.times_ns)
            else:
                self._scores.append(batch)
                self._wake()

    def close(self, linger_ms: int = 500) -> None:
        """Sends what is queued, gives subscribers `linger_ms` to take it, and frees both addresses."""
        with self._changed:
            if not self._closing:
                self._linger_ms = linger_ms
                self._closing = True
                self._changed.notify_all()
                self._wake()
        self._thread.join()
        self._release()

    def _bind(self, socket: zmq.Socket[bytes], url: str, option: str, allow_remote: bool) -> str:
        lock = bind(socket, url, option, allow_remote=allow_remote)
        if lock is not None:
            self._locks.append(lock)
        endpoint = socket.getsockopt(zmq.LAST_ENDPOINT)
        return endpoint.rstrip(b"\0").decode() if isinstance(endpoint, bytes) else url

    def _wake(self) -> None:
        """Ends the socket thread's wait; the caller holds the lock."""
        if not self._woken:
            self._woken = True
            self._wake_out.send(b"!")

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:
            self._fail(error)
        finally:
            self._close_sockets()

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._wake_in, zmq.POLLIN)
        poller.register(self._reply, zmq.POLLIN)
        last_turn = False
        while not last_turn:
            poller.poll(self._timeout_ms())
            last_turn = self._take()
            while self._sending:
                item = self._sending[0]
                self._pub.send_multipart((item.topic, item.body))
                self._sending.popleft()
                if item.on_sent is not None:
                    item.on_sent(True)
            now_ns = time.monotonic_ns()
            for batch in self._throttle.flush() if last_turn else self._throttle.ready(now_ns):
                self._pub.send_multipart((topic(batch), encode(batch)))
            self._answer_requests()

    def _timeout_ms(self) -> int | None:
        due_ns = self._throttle.next_due_ns()
        if due_ns is None:
            return None
        return max(0, -(-(due_ns - time.monotonic_ns()) // 1_000_000))

    def _take(self) -> bool:
        """Takes over all that is queued; returns whether nothing can come after it."""
        with self._changed:
            if self._woken:
                with contextlib.suppress(BlockingIOError):
                    self._wake_in.recv(16)
                self._woken = False
            self._sending, self._queue = self._queue, self._sending
            scores, self._scores = self._scores, deque()
            last_turn = self._closing
            self._changed.notify_all()
        for batch in scores:
            self._throttle.add(batch)
        return last_turn

    def _answer_requests(self) -> None:
        for _ in range(REQUESTS_A_TURN):
            try:
                *envelope, request = self._reply.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if any(envelope[1:]):  # a REQ socket puts one empty frame there, a DEALER none
                answer = msgspec.json.encode(bad_request("a request is one frame"))
            else:
                with self._changed:
                    answer = self._history.answer(request, self._status)
            self._reply.send_multipart([*envelope, answer], zmq.NOBLOCK)

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self.failure = f"the event sockets failed: {type(error).__name__}: {error}"
            self._closing = True
            for item in (*self._sending, *self._queue):
                if item.on_sent is not None:
                    item.on_sent(False)
            self._sending.clear()
            self._queue.clear()
            self._changed.notify_all()

    def _close_sockets(self) -> None:
        self._pub.close(self._linger_ms)
        self._reply.close(self._linger_ms)

    def _release(self) -> None:
        self._context.term()
        for lock in self._locks:
            os.close(lock)
        self._locks.clear()
        self._wake_in.close()
        self._wake_out.close()
