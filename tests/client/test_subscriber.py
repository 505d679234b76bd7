"""The subscriber over real sockets, against the real publisher and a bare one."""

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import msgspec
import pytest
import zmq

from ecustream import Subscriber
from ecustream.client import asker
from ecustream.client.asker import Request
from ecustream.client.items import Alive, Denied, Item, Lost, NewRun, Position, Stale, Synced
from ecustream.client.sockets import Sockets
from ecustream.client.wire import Ask
from ecustream.errors import ConfigError
from ecustream.events import Event
from ecustream.publish.messages import ScoreBatch, Status
from ecustream.publish.socket import Publisher
from tests.client.examples import make_event, make_scores, make_status, open_episodes
from tests.client.server import ModelServer
from tests.client.sockets import ANY, BarePublisher, Line

pytestmark = pytest.mark.timeout(30)


def connect(publisher: Publisher | BarePublisher, **options: Any) -> Subscriber:
    """A subscriber to a publisher of either kind."""
    if isinstance(publisher, Publisher):
        return Subscriber(publisher.pub_url, publisher.reply_url, **options)
    return Subscriber(publisher.pub, publisher.reply, **options)


def read_to(subscriber: Subscriber, run: str, seq: int) -> list[Item]:
    """What is handed out, but for statuses, until the reader is at `seq` of `run`."""
    items: list[Item] = []
    while subscriber.position != (run, seq):
        items.append(next(subscriber))
    return [item for item in items if not isinstance(item, Status)]


def next_notice(subscriber: Subscriber) -> Item:
    """The next item that is no status."""
    return next(item for item in subscriber if not isinstance(item, Status))


def places(items: list[Item]) -> list[tuple[str, int]]:
    """(run, seq) of the events among `items`."""
    return [(item.run, item.seq) for item in items if isinstance(item, Event)]


def test_a_late_reader_gets_what_is_open_then_every_event() -> None:
    """Who comes late gets the open episodes as of the snapshot, then what follows, as it was published."""
    with Publisher(ANY, ANY, make_status("run0", 0)) as publisher:
        for seq in range(1, 6):
            publisher.publish(make_event("run0", seq))
        with connect(publisher, stale_after_s=0.3) as subscriber:
            assert subscriber.position is None
            assert next_notice(subscriber) == Synced("run0", 5, open_episodes("run0", 5))
            assert subscriber.position == ("run0", 5)
            for seq in range(6, 9):
                publisher.publish(make_event("run0", seq))
            publisher.publish_status(make_status("run0", 8))
            events = [item for item in read_to(subscriber, "run0", 8) if isinstance(item, Event)]
            assert events == [make_event("run0", seq) for seq in range(6, 9)]


def test_a_reader_that_restarts_goes_on_where_it_was() -> None:
    """The position of one subscriber, given to the next as `since`, loses and repeats nothing."""
    with Publisher(ANY, ANY, make_status("run0", 0)) as publisher:
        for seq in range(1, 6):
            publisher.publish(make_event("run0", seq))
        with connect(publisher, since=("run0", 0)) as subscriber:
            assert places(read_to(subscriber, "run0", 3)) == [("run0", 1), ("run0", 2), ("run0", 3)]
            position = subscriber.position
        publisher.publish(make_event("run0", 6))
        saved = msgspec.json.encode(position)
        with connect(publisher, since=msgspec.json.decode(saved, type=Position)) as subscriber:
            items = [*read_to(subscriber, "run0", 6), next_notice(subscriber)]
            assert places(items) == [("run0", 4), ("run0", 5), ("run0", 6)]
            assert isinstance(items[-1], Synced)


def test_a_reader_that_stops_reading_misses_nothing() -> None:
    """What overflows the queues while the reader is busy is fetched from the history afterwards."""
    count = 15_000
    with (
        Publisher(ANY, ANY, make_status("run0", 0), history_events=count) as publisher,
        connect(publisher, stale_after_s=0.3) as subscriber,
    ):
        assert isinstance(next_notice(subscriber), Synced)
        for seq in range(1, count + 1):
            publisher.publish(make_event("run0", seq))
        publisher.publish_status(make_status("run0", count))
        items = read_to(subscriber, "run0", count)
        assert [seq for _, seq in places(items)] == list(range(1, count + 1))
        assert not any(isinstance(item, Lost) for item in items)


def test_what_the_history_lost_is_named() -> None:
    """Events that neither the stream nor the history has are named, and only those."""
    with BarePublisher(ModelServer(keep=4), lost=lambda event: event.seq % 10 < 8) as publisher:
        with connect(publisher) as subscriber:
            assert next_notice(subscriber) == Synced("run0", 0, [])
            while not isinstance(next(subscriber), Status):
                pass
            publisher.publish(35)
            items = read_to(subscriber, "run0", 35)
        lost = [(item.first_seq, item.last_seq) for item in items if isinstance(item, Lost)]
        missing = {seq for first, last in lost if last for seq in range(first, last + 1)}
        got = [seq for _, seq in places(items)]
        assert sorted([*missing, *got]) == list(range(1, 36))
        assert lost[0] == (1, 7)
        assert {8, 9, 18, 19, 28, 29, 32, 33, 34, 35} <= set(got)
        assert isinstance(items[-1], Event)


def test_a_lossy_stream_is_healed() -> None:
    """Every third event lost, and every event still comes once and in order."""
    with BarePublisher(ModelServer(), lost=lambda event: event.seq % 3 == 0) as publisher:
        with connect(publisher) as subscriber:
            assert isinstance(next_notice(subscriber), Synced)
            for _ in range(30):
                publisher.publish(20)
                next(subscriber)
            items = read_to(subscriber, "run0", 600)
        assert places(items)[-1] == ("run0", 600)
        assert not any(isinstance(item, Lost) for item in items)


def restarted(publisher: BarePublisher, **options: Any) -> BarePublisher:
    """The same addresses, the next run."""
    publisher.close()
    publisher.model.restart()
    return BarePublisher(publisher.model, publisher.pub, publisher.reply, **options)


def test_restarts_of_a_publisher_with_a_journal() -> None:
    """The rest of the old run, then each run from its first event, although the reader saw nothing of it."""
    publisher = BarePublisher(ModelServer())
    try:
        with connect(publisher) as subscriber:
            assert isinstance(next_notice(subscriber), Synced)
            publisher.publish(5)
            assert len(places(read_to(subscriber, "run0", 2))) == 2
            publisher.model.publish()  # published as it died
            publisher = restarted(publisher)
            publisher.publish(4)
            publisher = restarted(publisher)
            publisher.publish(3)
            items = read_to(subscriber, "run2", 3)
            assert places(items) == [
                *(("run0", seq) for seq in range(3, 7)),
                *(("run1", seq) for seq in range(1, 5)),
                *(("run2", seq) for seq in range(1, 4)),
            ]
            assert [item for item in items if isinstance(item, NewRun)] == [
                NewRun("run0", "run1"),
                NewRun("run1", "run2"),
            ]
            assert not any(isinstance(item, Lost) for item in items)
            assert next_notice(subscriber) == Synced("run2", 3, [])
    finally:
        publisher.close()


def test_a_reader_returns_after_restarts() -> None:
    """With `since` in a run of long ago, every run since then is read; where it is gone, that is said."""
    model = ModelServer(keep=10)
    for count in (5, 4, 3):
        for _ in range(count):
            model.publish()
        model.restart()
    with BarePublisher(model) as publisher:
        with connect(publisher, since=("run0", 2)) as subscriber:
            items = read_to(subscriber, "run3", 0)
            assert [seq for _, seq in places(items)] == [3, 4, 5, 1, 2, 3, 4, 1, 2, 3]
            assert not any(isinstance(item, Lost) for item in items)
        model.keep = 5
        with connect(publisher, since=("run0", 2)) as subscriber:
            items = read_to(subscriber, "run3", 0)
            assert items[:4] == [
                Lost("run0", 3, None),
                NewRun("run0", "run1"),
                Lost("run1", 1, 2),
                make_event("run1", 3),
            ]


@pytest.mark.parametrize("state", ["running", "done"])
def test_restart_of_a_publisher_without_a_journal(state: Any) -> None:
    """A run that ended in order needs no journal; of one that did not, it is said that its end is unknown."""
    publisher = Publisher(ANY, ANY, make_status("a", 0))
    pub, reply = publisher.pub_url, publisher.reply_url
    with connect(publisher) as subscriber:
        assert isinstance(next_notice(subscriber), Synced)
        publisher.publish(make_event("a", 1))
        publisher.publish_status(make_status("a", 1))
        assert places(read_to(subscriber, "a", 1)) == [("a", 1)]
        publisher.publish_status(make_status("a", 1, state))
        publisher.close()
        with Publisher(pub, reply, make_status("b", 0)) as publisher:
            publisher.publish(make_event("b", 1))
            publisher.publish(make_event("b", 2))
            stopped = threading.Event()
            ticker = threading.Thread(target=tick, args=(publisher, make_status("b", 2), stopped))
            ticker.start()
            items = read_to(subscriber, "b", 2)
            stopped.set()
            ticker.join()
    expected = [NewRun("a", "b"), make_event("b", 1), make_event("b", 2)]
    assert items == (expected if state == "done" else [Lost("a", 2, None), *expected])


def tick(publisher: Publisher, status: Status, stopped: threading.Event) -> None:
    """A status now and then, as a service sends it."""
    while not stopped.wait(0.05):
        publisher.publish_status(status)


def test_a_killed_publisher() -> None:
    """Kill -9 in mid-stream and a new process: the events of each run come in order and without a hole."""
    process, pub, reply = start_publisher(ANY, ANY, "k0")
    with Subscriber(pub, reply, since=("k0", 0)) as subscriber:
        items: list[Item] = []
        for i in range(3):
            while f"k{i}" not in dict(places(items[-1:])):
                items.append(next(subscriber))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            if i < 2:
                process, *_ = start_publisher(pub, reply, f"k{i + 1}")
    seen = places(items)
    for i in range(3):
        seqs = [seq for run, seq in seen if run == f"k{i}"]
        assert seqs == list(range(1, len(seqs) + 1))
    last = dict(seen)
    assert [item for item in items if isinstance(item, Lost)] == [
        Lost("k0", last["k0"] + 1, None),
        Lost("k1", last["k1"] + 1, None),
    ]


PUBLISH_FOREVER = """
import sys, time
from ecustream.publish.socket import Publisher
from tests.client.examples import make_event, make_status
pub, reply, run = sys.argv[1:]
publisher = Publisher(pub, reply, make_status(run, 0))
print(publisher.pub_url, publisher.reply_url, flush=True)
seq = 0
while True:
    for _ in range(10):
        seq += 1
        publisher.publish(make_event(run, seq))
    publisher.publish_status(make_status(run, seq))
    time.sleep(0.01)
"""


def start_publisher(pub: str, reply: str, run: str) -> tuple[subprocess.Popen[str], str, str]:
    """A process that publishes until it is killed, and its addresses."""
    command = [sys.executable, "-c", PUBLISH_FOREVER, pub, reply, run]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        pub, reply = process.stdout.readline().split()
    return process, pub, reply


def test_silence_and_return() -> None:
    """Silence is said once, with the time of the last message; the first message after it ends it."""
    publisher = BarePublisher(ModelServer())
    with connect(publisher, stale_after_s=0.3) as subscriber:
        read_to(subscriber, "run0", 0)
        before_ns = time.time_ns()
        next(subscriber)
        publisher.close()
        stale = next_notice(subscriber)
        assert isinstance(stale, Stale)
        assert before_ns - 200_000_000 < stale.since_ns < time.time_ns() - 300_000_000
        publisher = BarePublisher(publisher.model, publisher.pub, publisher.reply)
        # An answer may find its way back before the stream does.
        notices = [next_notice(subscriber), next_notice(subscriber)]
        assert Alive() in notices
        assert Synced("run0", 0, []) in notices
        publisher.publish()
        assert next_notice(subscriber) == make_event("run0", 1)
        publisher.close()


def test_a_loss_in_silence_is_found() -> None:
    """The last event lost and no status after it: the reader asks when the stream has gone silent."""
    with (
        BarePublisher(ModelServer(), lost=lambda event: True, silent=True) as publisher,
        connect(publisher, stale_after_s=0.2) as subscriber,
    ):
        assert next_notice(subscriber) == Synced("run0", 0, [])
        publisher.publish(2)
        assert isinstance(next_notice(subscriber), Stale)
        assert places(read_to(subscriber, "run0", 2)) == [("run0", 1), ("run0", 2)]


def test_nothing_there_yet() -> None:
    """A subscriber may be started before the publisher."""
    with BarePublisher(ModelServer()) as publisher:
        urls = publisher.pub, publisher.reply
    with Subscriber(*urls, stale_after_s=0.2) as subscriber:
        assert isinstance(next(subscriber), Stale)
        assert subscriber.position is None
        with BarePublisher(ModelServer(), *urls):
            assert {type(next_notice(subscriber)) for _ in range(2)} == {Alive, Synced}


def test_a_line_that_dies_without_closing() -> None:
    """A connection that carries nothing any more, as after a power cut, is replaced."""
    with (
        BarePublisher(ModelServer()) as publisher,
        Line(publisher.pub) as line,
        Subscriber(line.url, publisher.reply, stale_after_s=0.3) as subscriber,
    ):
        read_to(subscriber, "run0", 0)
        next(subscriber)
        line.cut()
        publisher.publish(3)
        items = read_to(subscriber, "run0", 3)
        while Alive() not in items:
            items.append(next_notice(subscriber))
        assert isinstance(items[0], Stale)
        assert places(items) == [("run0", 1), ("run0", 2), ("run0", 3)]


def test_a_late_answer_is_not_taken_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that comes after its request was given up does not answer the request that followed."""
    monkeypatch.setattr(asker, "TIMEOUT_NS", 200_000_000)
    model = ModelServer()
    old_answer = model.answer(b'{"op":"snapshot"}')
    asked: list[tuple[bytes, bytes]] = []
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, context.socket(zmq.ROUTER) as router:
        port = router.bind_to_random_port("tcp://127.0.0.1")
        with Subscriber("tcp://127.0.0.1:1", f"tcp://127.0.0.1:{port}", stale_after_s=100) as subscriber:
            items: list[Item] = []
            reader = threading.Thread(target=lambda: items.append(next(subscriber)))
            reader.start()
            asked += [tuple(router.recv_multipart()) for _ in range(2)]  # type: ignore[misc]
            model.publish()
            router.send_multipart([asked[0][0], old_answer])
            router.send_multipart([asked[1][0], model.answer(asked[1][1])])
            reader.join()
            assert items == [Synced("run0", 1, open_episodes("run0", 1))]


@pytest.mark.parametrize("garbage", [b"", b"\xff", b"[]", b"{}", b'{"run":3}', b'{"error":"broken"}'])
def test_answers_that_are_none(garbage: bytes) -> None:
    """Whatever is answered for a while, the reader asks again, in growing intervals."""
    model = ModelServer()
    answers = iter([garbage, garbage])
    with (
        BarePublisher(model, answer=lambda request: next(answers, model.answer(request))) as publisher,
        connect(publisher) as subscriber,
    ):
        assert next_notice(subscriber) == Synced("run0", 0, [])


def test_filters() -> None:
    """Only what was asked for is handed out, what is not is no gap, and the position moves on."""
    with BarePublisher(ModelServer()) as publisher:
        publisher.publish()
        with connect(publisher, kinds=["anomaly"], since=("run0", 0)) as subscriber:
            publisher.publish(6)
            items = read_to(subscriber, "run0", 6)
            assert [seq for _, seq in places(items)] == [2, 4, 6]
        with connect(publisher, sources={"eth1"}) as subscriber:
            assert next_notice(subscriber) == Synced("run0", 7, open_episodes("run0", 7))
        with connect(publisher, sources={"eth0"}) as subscriber:
            assert next_notice(subscriber) == Synced("run0", 7, [])
            publisher.publish(2)
            assert next_notice(subscriber) == make_event("run0", 8)
            while subscriber.position != ("run0", 9):
                next(subscriber)


def test_scores_only_on_request() -> None:
    """Scores come to who wants them, of the sources that were named."""
    with BarePublisher(ModelServer()) as publisher:
        plain = connect(publisher)
        wanting = connect(publisher, scores=True, sources=["eth1"])
        with plain, wanting:
            got: list[Item] = []
            while not any(isinstance(item, ScoreBatch) for item in got):
                publisher.say(make_scores("run0", "eth0"))
                publisher.say(make_scores("run0", "eth1"))
                got.append(next(wanting))
            assert [item.source for item in got if isinstance(item, ScoreBatch)] == ["eth1"]
            publisher.publish(1)
            assert not any(isinstance(item, ScoreBatch) for item in read_to(plain, "run0", 1))


def test_a_newer_publisher() -> None:
    """Kinds and fields that this version does not know come through, in the stream and by replay."""
    model = ModelServer()

    class Newer(ModelServer):
        def answer(self, request: bytes) -> bytes:
            return super().answer(request).replace(b'"anomaly"', b'"drift","new":[1]')

    model = Newer()
    with BarePublisher(model) as publisher:
        publisher.publish(4)
        with connect(publisher, since=("run0", 0)) as subscriber:
            events = [item for item in read_to(subscriber, "run0", 4) if isinstance(item, Event)]
            assert [event.kind for event in events] == ["silence", "drift", "silence", "drift"]


def curve_pairs() -> list[tuple[dict[str, Any], bytes]]:
    """Arguments of a subscriber, and the publisher's secret key."""
    public, secret = zmq.curve_keypair()
    own_public, own_secret = zmq.curve_keypair()
    return [
        ({"server_key": public.decode()}, secret),
        ({"server_key": public, "public_key": own_public, "secret_key": own_secret.decode()}, secret),
    ]


@pytest.mark.parametrize(("keys", "secret_key"), curve_pairs(), ids=["moment", "own"])
def test_curve(keys: dict[str, Any], secret_key: bytes) -> None:
    """With the publisher's key both sockets are encrypted; without it nothing is heard but the refusal."""
    with BarePublisher(ModelServer(), secret_key=secret_key) as publisher:
        with connect(publisher, **keys) as subscriber:
            assert isinstance(next_notice(subscriber), Synced)
            publisher.publish(2)
            assert len(places(read_to(subscriber, "run0", 2))) == 2
        with connect(publisher, stale_after_s=0.3) as subscriber:
            # Which is first depends on when libzmq connects once more.
            said = sorted([next(subscriber), next(subscriber)], key=lambda item: type(item).__name__)
            assert said[0] == Denied(publisher.pub, "only one of you uses keys")
            assert isinstance(said[1], Stale)


@pytest.mark.parametrize("open_first", [True, False])
def test_close_from_another_thread_ends_the_wait(open_first: bool) -> None:
    """`close` ends an iteration that waits, at once and without an error, and may be called again."""
    with BarePublisher(ModelServer(), silent=True) as publisher:
        subscriber = connect(publisher, stale_after_s=3600)
        if open_first:
            next_notice(subscriber)
        ended = threading.Event()

        def read() -> None:
            for _ in subscriber:
                pass
            ended.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        time.sleep(0.05)
        subscriber.close()
        assert ended.wait(5)
        reader.join()
        assert subscriber._closed
        subscriber.close()
        assert list(subscriber) == []


def test_close_in_a_signal_handler() -> None:
    """A signal handler may close the subscriber on which its own thread waits."""
    with Subscriber("tcp://127.0.0.1:1", "tcp://127.0.0.1:1", stale_after_s=3600) as subscriber:
        before = signal.signal(signal.SIGALRM, lambda *_: subscriber.close())
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            assert list(subscriber) == []
        finally:
            signal.signal(signal.SIGALRM, before)


def test_one_reader_at_a_time() -> None:
    """A second thread that reads the same subscriber is told so."""
    with Subscriber("tcp://127.0.0.1:1", "tcp://127.0.0.1:1", stale_after_s=3600) as subscriber:
        reader = threading.Thread(target=list, args=(subscriber,))
        reader.start()
        while not subscriber._reading.locked():
            time.sleep(0.001)
        with pytest.raises(RuntimeError, match="already waiting"):
            next(subscriber)
        subscriber.close()
        reader.join()


KEY = "0" * 40


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"connect": "tcp://127.0.0.1"}, 'connect "tcp://127.0.0.1" is no socket address'),
        ({"reply": "nonsense"}, 'reply "nonsense" is no socket address'),
        ({"since": ("", 3)}, "since is"),
        ({"since": ("run", -1)}, "since is"),
        ({"kinds": "anomaly"}, "kinds is"),
        ({"stale_after_s": 0}, "stale_after_s is 0"),
        ({"stale_after_s": float("nan")}, "stale_after_s is nan"),
        ({"server_key": "short"}, "server_key must be 40 characters"),
        ({"server_key": "ü" * 40}, "server_key must be 40 characters"),
        ({"server_key": KEY, "secret_key": KEY}, "belong together"),
        ({"public_key": KEY, "secret_key": KEY}, "need the publisher's server_key"),
        ({"server_key": "~" * 40}, "CURVE key"),
    ],
)
def test_arguments_refused(arguments: dict[str, Any], why: str) -> None:
    """An argument that cannot be used is refused in one sentence that names it."""
    with pytest.raises(ConfigError, match=why) as caught:
        Subscriber(**arguments)
    assert "\n" not in str(caught.value)


def test_import_is_lazy() -> None:
    """The package itself needs neither zmq nor msgspec; its two names are found when asked for."""
    code = (
        "import sys, ecustream; assert not {'zmq', 'msgspec', 'numpy'} & set(sys.modules)\n"
        "from ecustream import AsyncSubscriber, Subscriber\n"
        "assert {'zmq', 'msgspec'} <= set(sys.modules) and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_request_that_cannot_be_sent_is_one_without_an_answer() -> None:
    """Where libzmq has nowhere to put a request, sending does not wait, and the next one goes out."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, context.socket(zmq.ROUTER) as router, context.socket(zmq.PUB) as publisher:
        publisher_port = publisher.bind_to_random_port("tcp://127.0.0.1")
        router_port = router.bind_to_random_port("tcp://127.0.0.1")
        reply = f"tcp://127.0.0.1:{router_port}"
        sockets = Sockets(f"tcp://127.0.0.1:{publisher_port}", reply, [b"event/"], None)
        try:
            sockets._requests.disconnect(reply)
            sockets.send(Request(1, Ask("snapshot")))
            sockets.send(Request(2, Ask("runs")))
            assert router.poll(5_000)
            assert router.recv_multipart()[-1] == b'{"op":"runs"}'
        finally:
            sockets.close()
