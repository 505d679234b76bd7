"""Subscribers that stop, clients that ask too much, strangers: nobody else notices, memory stays bounded."""

import contextlib
import os
import random
import signal
import socket as posix
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest
import zmq

from ecustream.errors import OutputError
from ecustream.publish import sockets
from ecustream.publish.replies import HANG_UP_REQUEST_BYTES, REPLY_QUEUE_ANSWERS
from ecustream.publish.socket import Publisher
from ecustream.publish.stream import PUB_QUEUE_MESSAGES
from tests.publish.conftest import Ask, Socket, Subscribe
from tests.publish.examples import RUN, make_event, make_status

ANY = "tcp://127.0.0.1:*"
STATUS = b'{"op":"status"}'


def memory_bytes() -> int:
    """What this process holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns once the condition holds; fails where it does not in time."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@contextmanager
def stopped_subscriber(publisher: Publisher) -> Iterator[subprocess.Popen[bytes]]:
    """A subscriber process which is stopped (SIGSTOP) as soon as it has received something."""
    program = (
        "import sys, zmq; s = zmq.Context().socket(zmq.SUB); s.subscribe(b''); s.connect(sys.argv[1])\n"
        "s.recv_multipart(); print('ready', flush=True); n = 0\n"
        "while s.poll(2000): n = s.recv_multipart()[1]\n"
        "print(n.decode(), flush=True)"
    )
    command = [sys.executable, "-c", program, publisher.pub_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            os.set_blocking(process.stdout.fileno(), False)

            def ready() -> bool:
                publisher.publish_status(make_status())
                return bool(process.stdout and process.stdout.readline())

            wait_until(ready)
            process.send_signal(signal.SIGSTOP)
            yield process
        finally:
            process.kill()


def test_a_stopped_process_costs_the_others_nothing(subscribe: Subscribe) -> None:
    """Others get all of 160 MB while one process stands still, which is noticed; memory does not follow."""
    count, step = 5 * PUB_QUEUE_MESSAGES, 400
    with Publisher(ANY, ANY, make_status(), history_events=10) as publisher:
        fast = subscribe(publisher)
        with stopped_subscriber(publisher):
            assert publisher.counts().subscribers == 2
            before = memory_bytes()
            for start in range(0, count, step):
                for seq in range(start + 1, start + step + 1):
                    event = make_event(seq, phase="close")
                    event.reason = "x" * 8000
                    publisher.publish(event)
                got = [msgspec.json.decode(fast.recv_multipart()[1])["seq"] for _ in range(step)]
                assert got == list(range(start + 1, start + step + 1))
            assert memory_bytes() - before < 1.6 * PUB_QUEUE_MESSAGES * 8500
            assert publisher.counts().queue_full == 1
        wait_until(lambda: publisher.counts().subscribers == 1)


def test_a_full_queue_is_counted_each_time(subscribe: Subscribe) -> None:
    """A subscriber that falls behind, catches up and falls behind again is counted twice, and has gaps."""
    with Publisher(ANY, ANY, make_status(), history_events=10, queue_events=100) as publisher:
        slow = subscribe(publisher, rcvhwm=1)
        seq = received = 0
        for times in (1, 2):
            while publisher.counts().queue_full < times:
                seq += 1
                event = make_event(seq, phase="close")
                event.reason = "x" * 4000
                publisher.publish(event)
                assert seq < 20 * PUB_QUEUE_MESSAGES
            while slow.poll(200):
                slow.recv_multipart()
                received += 1
        assert PUB_QUEUE_MESSAGES <= received < seq


def test_any_frames_are_answered_or_dropped(
    publisher: Publisher, context: zmq.Context[Socket], ask: Ask
) -> None:
    """Messages of one or many frames, empty, random or huge: each is counted, and others are served."""
    dice = random.Random(7)
    sent = 0
    with ExitStack() as stack:
        for _ in range(8):
            dealer = stack.enter_context(context.socket(zmq.DEALER))
            dealer.connect(publisher.reply_url)
            for _ in range(60):
                sizes = (0, 1, 5, 255, 256, 5000, HANG_UP_REQUEST_BYTES)
                weights = (20, 20, 20, 20, 20, 10, 1)
                frames = [
                    dice.randbytes(n) for n in dice.choices(sizes, weights, k=dice.choice((1, 1, 1, 2, 9)))
                ]
                dealer.send_multipart(frames)
                sent += 1
            # Reads only now and then, so that answers pile up as well.
            while dealer.poll(1):
                assert b'"bad_request"' in dealer.recv_multipart()[-1]
        wait_until(lambda: publisher.counts().requests == sent)
        assert publisher.counts().bad_requests == sent
    assert b'"ledger"' in ask(publisher.reply_url, STATUS)
    assert publisher.failure is None


def test_answers_that_nobody_reads_are_not_kept(
    context: zmq.Context[Socket], ask: Ask, subscribe: Subscribe
) -> None:
    """Thousands of replays asked for and never read take little memory, are counted, and disturb nobody."""
    with Publisher(ANY, ANY, make_status()) as publisher:
        subscriber = subscribe(publisher)
        for seq in range(1, 401):
            publisher.publish(make_event(seq))
        replay = msgspec.json.encode({"op": "replay", "run": RUN, "after": 0})
        answer_bytes = len(ask(publisher.reply_url, replay))
        before = memory_bytes()
        with context.socket(zmq.DEALER) as greedy:
            greedy.sndhwm = 0
            greedy.rcvhwm = 1
            greedy.connect(publisher.reply_url)
            for _ in range(2000):
                greedy.send(replay)
            wait_until(lambda: publisher.counts().requests == 2001)
            assert publisher.counts().answers_dropped > 1000
            # Also what the kernel and the greedy one's own library hold is in here.
            assert memory_bytes() - before < 2.5 * REPLY_QUEUE_ANSWERS * answer_bytes + 20_000_000
            assert b'"ledger"' in ask(publisher.reply_url, STATUS)
            publisher.publish(make_event(401))
            assert [msgspec.json.decode(subscriber.recv_multipart()[1])["seq"] for _ in range(401)][-1] == 401


def test_clients_that_hang_up_at_once(context: zmq.Context[Socket], ask: Ask) -> None:
    """Hundreds who ask and go disturb nobody, nor do they keep the publisher from closing."""
    publisher = Publisher(ANY, ANY, make_status())
    for _ in range(300):
        with context.socket(zmq.DEALER) as hasty:
            hasty.linger = 1000
            hasty.connect(publisher.reply_url)
            hasty.send(STATUS)
    assert b'"ledger"' in ask(publisher.reply_url, STATUS)
    assert publisher.failure is None
    started = time.monotonic()
    publisher.close(linger_ms=100)
    assert time.monotonic() - started < sockets.TERM_S + 2
    with Publisher(ANY, publisher.reply_url, make_status()) as next_one:
        assert b'"ledger"' in ask(next_one.reply_url, STATUS)


def test_a_context_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where libzmq never ends its context, closing does all the same; the ipc address stays locked."""
    monkeypatch.setattr(sockets, "TERM_S", 0.05)
    url = f"ipc://{tmp_path}/pub"
    publisher = Publisher(url, ANY, make_status())
    end, term = threading.Event(), publisher._sockets._context.term
    with monkeypatch.context() as stuck:
        stuck.setattr(publisher._sockets._context, "term", lambda: (end.wait(), term()))
        publisher.close(linger_ms=0)
    with pytest.raises(OutputError, match="in use"):
        Publisher(url, ANY, make_status())
    end.set()


def test_half_open_connections_are_closed(
    monkeypatch: pytest.MonkeyPatch, subscribe: Subscribe, ask: Ask
) -> None:
    """Who connects and says nothing, or half a greeting, is hung up on and counted; others are served."""
    monkeypatch.setattr(sockets, "HANDSHAKE_MS", 300)
    with Publisher(ANY, ANY, make_status()) as publisher, ExitStack() as stack:
        ports = [int(url.rsplit(":", 1)[1]) for url in (publisher.pub_url, publisher.reply_url)]
        silent = [
            stack.enter_context(posix.create_connection(("127.0.0.1", ports[i % 2]), 5)) for i in range(100)
        ]
        for connection in silent[::3]:
            connection.sendall(b"\xff\0\0\0\0\0\0\0\x01\x7f\x03")
        subscriber = subscribe(publisher)
        publisher.publish(make_event(1))
        assert msgspec.json.decode(subscriber.recv_multipart()[1])["seq"] == 1
        assert b'"ledger"' in ask(publisher.reply_url, STATUS)
        wait_until(lambda: publisher.counts().refused == 100)
        assert publisher.counts().subscribers == 1
        for connection in silent:
            connection.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(100):
                    pass


def test_a_request_that_comes_byte_by_byte(publisher: Publisher, ask: Ask) -> None:
    """A slow request of a megabyte keeps nobody waiting."""
    port = int(publisher.reply_url.rsplit(":", 1)[1])
    greeting = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL" + bytes(48)
    ready = b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER"
    with posix.create_connection(("127.0.0.1", port), 5) as slow:
        slow.sendall(greeting + ready + b"\x02" + HANG_UP_REQUEST_BYTES.to_bytes(8, "big"))
        for _ in range(20):
            slow.sendall(b"x")
            assert b'"ledger"' in ask(publisher.reply_url, STATUS)
    assert publisher.counts().requests == 20
