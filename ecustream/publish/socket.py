"""The publisher: queues in front of the sockets, and the one thread that touches those."""

import contextlib
import socket as posix
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Self

import zmq

from ecustream.events import Event
from ecustream.publish.curve import Curve
from ecustream.publish.formats import to_msgpack
from ecustream.publish.heartbeat import Heartbeat
from ecustream.publish.history import History, Record
from ecustream.publish.journal import Journal
from ecustream.publish.messages import JournalStatus, PublishStatus, ScoreBatch, Status, encode, topic
from ecustream.publish.pdus import PduTable
from ecustream.publish.sockets import Sockets
from ecustream.publish.throttle import ScoreThrottle

__all__ = ["Publisher"]

SCORE_QUEUE_BATCHES = 256


class _Outgoing(NamedTuple):
    topic: bytes
    body: bytes
    event: Record | None = None
    on_sent: Callable[[bool], None] | None = None
    status: Status | None = None


class Publisher:
    """Publishes events, status and scores, and answers requests for what was published.

    Events go through a bounded queue to the socket thread. That thread never waits for a subscriber, so
    a full queue means that this machine is short of time, and `publish` waits for room: live, the delay
    ends in the ring, where overwritten lines are counted. Events are never dropped for the queue.
    Scores are: what finds their queue full is counted in `scores_dropped`, in lines. An event is in the
    journal before anybody can see it, as long as the journal can be written. Where no status is published
    for 1.5 s, the last one is sent again, with its counts and its wall clock renewed.

    Only bind errors are raised, by the constructor. Should the thread fail later, `failure` says why,
    and every event from then on is reported as not sent.

    Args:
        pub_url: address of the PUB socket; port 0 takes a free one, see the attribute of the same name.
        reply_url: address of the ROUTER socket.
        status: the first status; its `run` is the run whose events are published.
        history_events: how many events a replay can reach back without the journal.
        queue_events: how many events may wait for the socket thread.
        allow_remote: whether machines other than this one may connect without keys.
        curve: keys, where both sockets are encrypted and only listed readers may connect.
        group: owner of ipc sockets, None for that of the process.
        msgpack: whether messages and answers are sent as MessagePack instead of JSON.
        journal: where events are kept on disk; is closed with the publisher, also when this raises.
        beat: is called each time round, at least every 1.5 s; for a watchdog.

    Raises:
        ConfigError: an address is malformed, or open to other machines without keys or `allow_remote`, or
            there is no such group.
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
        curve: Curve | None = None,
        group: str | None = None,
        msgpack: bool = False,
        journal: Journal | None = None,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._went_round = beat
        self.failure: str | None = None
        self.scores_dropped = 0
        self._status = status
        self._heartbeat = Heartbeat(status, time.monotonic_ns())
        self._pdus: PduTable | None = None
        self._run_id = status.run
        self._seq = 0
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
        try:
            self._sockets = Sockets(
                pub_url,
                reply_url,
                lambda request: self._history.answer(request, self._status, self._pdus),
                to_msgpack if msgpack else lambda body: body,
                curve=curve,
                allow_remote=allow_remote,
                group=group,
            )
            try:
                self._history = History(status.run, history_events, journal)
            except BaseException:
                self._sockets.close(0)
                self._sockets.release()
                raise
        except BaseException:
            self._wake_in.close()
            self._wake_out.close()
            if journal is not None:
                journal.close()
            raise
        self.pub_url, self.reply_url = self._sockets.pub_url, self._sockets.reply_url
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
                if event.run != self._run_id or event.seq != self._seq + 1:
                    raise ValueError(
                        f"event {event.run}/{event.seq} does not follow {self._run_id}/{self._seq}; "
                        "one run numbers its events 1, 2, 3 …"
                    )
                self._seq = event.seq
                record = Record.of(event)
                self._queue.append(_Outgoing(topic(event), record.body, record, on_sent))
                self._wake()
            elif on_sent is not None:
                on_sent(False)

    def publish_status(self, status: Status) -> None:
        """Hands over a status, which is sent after the events before it and answers requests from now on."""
        with self._changed:
            self._status = status
            if not self._closing:
                self._queue.append(_Outgoing(topic(status), encode(status), status=status))
                self._wake()

    def publish_pdus(self, pdus: PduTable) -> None:
        """Hands over the table that answers requests from now on; it is not sent otherwise."""
        self._pdus = pdus

    def publish_scores(self, batch: ScoreBatch) -> None:
        """Hands over scores without waiting; they are sent at most 20 times a second for each source."""
        with self._changed:
            if self._closing or len(self._scores) >= SCORE_QUEUE_BATCHES:
                self.scores_dropped += len(batch.times_ns)
            else:
                self._scores.append(batch)
                self._wake()

    def journal_status(self) -> JournalStatus | None:
        """How the journal is doing; None where there is none."""
        return self._history.journal_status()

    def counts(self) -> PublishStatus:
        """What was counted of subscribers and requests so far."""
        return self._sockets.counts(self.scores_dropped)

    def close(self, linger_ms: int = 500) -> None:
        """Sends what is queued, gives subscribers `linger_ms` to take it, and frees both addresses."""
        with self._changed:
            if not self._closing:
                self._linger_ms = linger_ms
                self._closing = True
                self._changed.notify_all()
                self._wake()
        self._thread.join()
        self._sockets.release()
        self._wake_in.close()
        self._wake_out.close()

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
            self._sockets.close(self._linger_ms)
            self._history.close()

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._wake_in, zmq.POLLIN)
        self._sockets.register(poller)
        last_turn = False
        while not last_turn:
            self._went_round()
            poller.poll(self._timeout_ms())
            last_turn = self._take()
            self._history.extend([item.event for item in self._sending if item.event is not None])
            while self._sending:
                item = self._sending[0]
                self._sockets.send(item.topic, item.body)
                self._sending.popleft()
                if item.status is not None:
                    self._heartbeat.take(item.status, time.monotonic_ns())
                if item.on_sent is not None:
                    item.on_sent(True)
            now_ns = time.monotonic_ns()
            if now_ns >= self._heartbeat.due_ns:
                self._beat(now_ns)
            for batch in self._throttle.flush() if last_turn else self._throttle.ready(now_ns):
                self._sockets.send(topic(batch), encode(batch))
            self._sockets.serve()

    def _beat(self, now_ns: int) -> None:
        old = self._heartbeat.status
        new = self._heartbeat.renewed(self._history.seq, time.time_ns(), self.counts())
        self._sockets.send(topic(new), encode(new))
        self._heartbeat.take(new, now_ns)
        with self._changed:
            if self._status is old:  # else a newer one is queued, which answers requests already
                self._status = new

    def _timeout_ms(self) -> int:
        due_ns = self._heartbeat.due_ns
        scores_due_ns = self._throttle.next_due_ns()
        if scores_due_ns is not None:
            due_ns = min(due_ns, scores_due_ns)
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
