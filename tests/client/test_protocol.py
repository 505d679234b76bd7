"""docs/protocol.md, word for word, with pyzmq and json alone, against publishers of both kinds."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from ecustream.publish.messages import State
from ecustream.publish.socket import Publisher
from tests.client.examples import make_event, make_status
from tests.client.server import ModelServer
from tests.client.sockets import ANY, BarePublisher

pytestmark = pytest.mark.timeout(30)


class PageClient:
    """The algorithm of the page. Yields (`event`, run, seq), (`lost`, run, first, last), (`silent`,)."""

    def __init__(self, connect: str, reply: str, position: tuple[str, int] | None = None) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.reply = reply
        self.connect = connect
        self.stream = self.subscribe()  # step 1
        self.requests = self.context.socket(zmq.DEALER)
        self.requests.connect(reply)
        self.position = position
        self.done = ("", -1)
        self.shown = ("", 0)

    def subscribe(self) -> zmq.Socket[bytes]:
        """A SUB socket, connected."""
        stream = self.context.socket(zmq.SUB)
        stream.connect(self.connect)
        stream.subscribe(b"event/")
        stream.subscribe(b"status/")
        return stream

    def ask(self, **request: Any) -> Any:
        """The answer to a request, asked on a new socket every two seconds."""
        while True:
            self.requests.send(json.dumps(request).encode())
            if self.requests.poll(2000):
                return json.loads(self.requests.recv_multipart()[0])
            self.requests.close(0)
            self.requests = self.context.socket(zmq.DEALER)
            self.requests.connect(self.reply)

    def events(self) -> Iterator[tuple[Any, ...]]:
        """Steps 1 to 4."""
        if self.position is None:  # step 2
            snapshot = self.ask(op="snapshot")
            self.position = snapshot["run"], snapshot["seq"]
        else:
            yield from self.catch_up()
        while True:  # step 3
            if not self.stream.poll(500):
                yield ("silent",)
                self.stream.close(0)
                self.stream = self.subscribe()
                yield from self.catch_up()
                continue
            topic, body, *_ = self.stream.recv_multipart()
            message = json.loads(body)
            run, seq = self.position
            again = False
            if topic.startswith(b"status/"):
                went_on = self.done[0] == message["run"] and message["state"] != "done"
                went_back = self.shown[0] == message["run"] and message["seq"] < self.shown[1]
                again = went_on or went_back
                if again or message["state"] == "done":
                    self.done = (message["run"], message["seq"]) if message["state"] == "done" else ("", -1)
            highest = self.shown[1] if self.shown[0] == message["run"] and not again else 0
            self.shown = message["run"], max(highest, message["seq"])
            if message["run"] != run:
                yield from self.catch_up()
            elif again:
                self.position = run, 0
                yield from self.catch_up()
            elif topic.startswith(b"event/") and message["seq"] == seq + 1:  # step 4
                self.position = run, seq + 1
                yield "event", run, seq + 1
            elif message["seq"] > seq:
                yield from self.catch_up()

    def catch_up(self) -> Iterator[tuple[Any, ...]]:
        """Step 5."""
        while True:
            assert self.position is not None
            run, seq = self.position
            answer = self.ask(op="replay", run=run, after=seq)
            error = answer.get("error")
            if error is None:  # 5.1
                for event in answer["events"]:
                    self.position = run, event["seq"]
                    yield "event", run, event["seq"]
                if not answer.get("complete", True):
                    continue
                if answer.get("next_run") is None:
                    return
                self.position = answer["next_run"], 0
            elif error == "too_old":  # 5.2
                self.position = run, answer["oldest"] - 1
                yield "lost", run, seq + 1, answer["oldest"] - 1
            else:  # 5.3 and 5.4
                listed = [each["run"] for each in self.ask(op="runs").get("runs", ())]
                if error == "bad_request" and run not in listed[:-1]:
                    return
                if self.done != (run, seq):
                    yield "lost", run, seq + 1, None
                later = listed[listed.index(run) + 1 :] if run in listed else listed
                self.position = later[0] if later else answer["run"], 0


def read_to(client: PageClient, run: str, seq: int) -> list[tuple[Any, ...]]:
    """What the client says until it is at `seq` of `run`."""
    said = []
    for what in client.events():
        if what != ("silent",):
            said.append(what)
        if client.position == (run, seq):
            break
    return said


def test_losses_and_restarts_with_a_journal() -> None:
    """Half of the stream lost, answers in pages of two, two restarts: every event once and in order."""
    model = ModelServer(page=2)
    publisher = BarePublisher(model, lost=lambda event: event.seq % 2 == 0)
    client = PageClient(publisher.pub, publisher.reply, ("run0", 0))
    publisher.publish(7)
    assert read_to(client, "run0", 7) == [("event", "run0", seq) for seq in range(1, 8)]
    for run in ("run1", "run2"):
        model.publish()
        publisher.close()
        model.restart()
        publisher = BarePublisher(model, publisher.pub, publisher.reply)
        publisher.publish(5)
        before = ("run0", 8) if run == "run1" else ("run1", 6)
        assert read_to(client, run, 5) == [("event", *before), *(("event", run, seq) for seq in range(1, 6))]
    client.context.destroy(linger=0)
    publisher.close()


def test_without_a_journal() -> None:
    """What is gone is known: the rotated part of the run, and the end of the run before."""
    publisher = Publisher(ANY, ANY, make_status("a", 0), history_events=2)
    for seq in range(1, 6):
        publisher.publish(make_event("a", seq))
    client = PageClient(publisher.pub_url, publisher.reply_url, ("a", 1))
    assert read_to(client, "a", 5) == [("lost", "a", 2, 3), ("event", "a", 4), ("event", "a", 5)]
    publisher.close()
    with Publisher(publisher.pub_url, publisher.reply_url, make_status("b", 0)) as publisher:
        publisher.publish(make_event("b", 1))
        assert read_to(client, "b", 1) == [("lost", "a", 6, None), ("event", "b", 1)]
    client.context.destroy(linger=0)


def test_a_reader_with_more_than_the_journal() -> None:
    """The end of a run that a crash took from the journal; and the current run begun again."""
    model = ModelServer()
    model.runs = {"run0": 3, "run1": 2}
    with BarePublisher(model) as publisher:
        client = PageClient(publisher.pub, publisher.reply, ("run0", 5))
        assert read_to(client, "run1", 2) == [
            ("lost", "run0", 6, None),
            ("event", "run1", 1),
            ("event", "run1", 2),
        ]
        client.context.destroy(linger=0)
        client = PageClient(publisher.pub, publisher.reply, ("run1", 4))
        threading.Timer(0.2, publisher.publish, [4]).start()
        assert read_to(client, "run1", 6) == [("event", "run1", 5), ("event", "run1", 6)]
        client.context.destroy(linger=0)


@pytest.mark.parametrize("state", ["running", "done"])
def test_the_same_run_once_more(state: State) -> None:
    """A run that is begun again while the client is there comes from its first event on."""
    model = ModelServer()
    publisher = BarePublisher(model, silent=True)
    client = PageClient(publisher.pub, publisher.reply, ("run0", 0))
    publisher.publish(3)
    assert len(read_to(client, "run0", 3)) == 3
    last = make_status("run0", 3, state)
    first = make_status("run0", 3 if state == "done" else 2)
    for delay_s, status in ((0.2, last), (0.3, first)):
        threading.Timer(delay_s, publisher.say, [status]).start()
    events = client.events()
    assert [next(what for what in events if what != ("silent",)) for _ in range(3)] == [
        ("event", "run0", seq) for seq in (1, 2, 3)
    ]
    client.context.destroy(linger=0)
    publisher.close()


def test_begins_at_the_present() -> None:
    """Without a position the client begins with what comes after the snapshot."""
    with BarePublisher(ModelServer()) as publisher:
        publisher.publish(4)
        client = PageClient(publisher.pub, publisher.reply)
        threading.Timer(0.2, publisher.publish, [6]).start()
        for what in client.events():
            if what == ("event", "run0", 10):
                break
            assert what in [("event", "run0", seq) for seq in range(5, 11)]
        client.context.destroy(linger=0)
