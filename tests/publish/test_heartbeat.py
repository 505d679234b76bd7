"""A status a second, whether the run has something to say or not."""

import time

import msgspec
import pytest
import zmq

from ecustream.publish import heartbeat
from ecustream.publish.heartbeat import INTERVAL_NS, Heartbeat
from ecustream.publish.messages import PublishStatus, Status
from ecustream.publish.socket import Publisher
from tests.publish.conftest import Ask, Socket
from tests.publish.examples import make_event, make_status

ANY = "tcp://127.0.0.1:*"
COUNTS = PublishStatus(
    subscribers=1, queue_full=0, scores_dropped=0, requests=2, bad_requests=0, answers_dropped=0, refused=0
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty heartbeats a second."""
    monkeypatch.setattr(heartbeat, "INTERVAL_NS", 50_000_000)


def statuses(context: zmq.Context[Socket], publisher: Publisher) -> Socket:
    """A subscriber to the status alone."""
    socket = context.socket(zmq.SUB)
    socket.subscribe(b"status/")
    socket.connect(publisher.pub_url)
    return socket


def read(socket: Socket) -> Status:
    """The next status."""
    return msgspec.json.decode(socket.recv_multipart()[1], type=Status)


def test_due_some_time_after_the_last() -> None:
    """What is sent meanwhile puts the next one off."""
    beat = Heartbeat(make_status(), 100)
    assert beat.due_ns == 100 + INTERVAL_NS
    beat.take(make_status(1), 300)
    assert beat.due_ns == 300 + INTERVAL_NS


def test_what_is_renewed() -> None:
    """Clock, counts and the last event are of now, the rest is what the run said last."""
    last = make_status(3)
    renewed = Heartbeat(last, 0).renewed(5, 17, COUNTS)
    assert (renewed.seq, renewed.wall_ns, renewed.publish) == (5, 17, COUNTS)
    assert msgspec.structs.replace(renewed, seq=3, wall_ns=last.wall_ns, publish=None) == last


def test_the_last_event_never_goes_back() -> None:
    """A status that knows of more than was sent is repeated as it is; a lower one would mean a new start."""
    assert Heartbeat(make_status(3), 0).renewed(2, 17, COUNTS).seq == 3


@pytest.mark.usefixtures("quick")
def test_a_run_that_says_nothing(context: zmq.Context[Socket], ask: Ask) -> None:
    """From the bind on the last status comes again and again, with the last event and the time of now."""
    started_ns = time.time_ns()
    with Publisher(ANY, ANY, make_status()) as publisher:
        subscriber = statuses(context, publisher)
        first = read(subscriber)
        publisher.publish(make_event(1))
        while (later := read(subscriber)).seq != 1:
            pass
        assert (first.state, first.seq, later.state) == ("running", 0, "running")
        assert started_ns < first.wall_ns < later.wall_ns <= time.time_ns()
        assert later.publish is not None
        assert later.publish.subscribers == 1
        answer = msgspec.json.decode(ask(publisher.reply_url, b'{"op":"status"}'), type=Status)
        assert answer.wall_ns >= later.wall_ns


@pytest.mark.usefixtures("quick")
def test_a_new_status_is_what_is_repeated(context: zmq.Context[Socket]) -> None:
    """After `done` nothing else comes, up to the end."""
    publisher = Publisher(ANY, ANY, make_status())
    subscriber = statuses(context, publisher)
    read(subscriber)
    publisher.publish_status(msgspec.structs.replace(make_status(), state="done"))
    while read(subscriber).state != "done":
        pass
    assert {read(subscriber).state for _ in range(3)} == {"done"}
    publisher.close()
    while subscriber.poll(100):
        assert read(subscriber).state == "done"
