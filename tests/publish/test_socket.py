"""The sockets, over real loopback and ipc connections."""

import grp
import os
import socket as posix
import stat
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import zmq

from ecustream.errors import ConfigError, OutputError
from ecustream.publish.history import MAX_REQUEST_BYTES
from ecustream.publish.messages import JournalStatus, encode
from ecustream.publish.replies import HANG_UP_REQUEST_BYTES
from ecustream.publish.socket import Publisher
from ecustream.publish.stream import PUB_QUEUE_MESSAGES
from tests.publish.conftest import Ask, Socket, Subscribe
from tests.publish.examples import RUN, make_event, make_scores, make_status
from tests.publish.journals import Clock, held, open_journal, small_disk

ANY = "tcp://127.0.0.1:*"


def seqs(socket: Socket, count: int) -> list[int]:
    """The `seq` of the next messages."""
    return [msgspec.json.decode(socket.recv_multipart()[1])["seq"] for _ in range(count)]


def journal_status(publisher: Publisher) -> JournalStatus:
    """How the journal is doing, where there is one."""
    status = publisher.journal_status()
    assert status is not None
    return status


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns once the condition holds; fails where it does not in time."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_bare_subscriber_gets_topic_and_json(publisher: Publisher, subscribe: Subscribe) -> None:
    """Fifteen lines of pyzmq are enough for a client: two frames, the topic and the JSON object."""
    events = subscribe(publisher, b"event/anomaly/eth1/")
    everything = subscribe(publisher, b"")
    publisher.publish(make_event(1, source="eth10"))
    publisher.publish(make_event(2))
    publisher.publish_status(make_status(2))
    assert events.recv_multipart() == [b"event/anomaly/eth1/", encode(make_event(2))]
    assert everything.recv_multipart() == [b"event/anomaly/eth10/", encode(make_event(1, source="eth10"))]
    assert everything.recv_multipart() == [b"event/anomaly/eth1/", encode(make_event(2))]
    assert everything.recv_multipart() == [b"status/eth1/", encode(make_status(2))]


def test_a_late_subscriber_heals_by_replay(publisher: Publisher, subscribe: Subscribe, ask: Ask) -> None:
    """Subscribe, take a snapshot, ask for what is missing: every event is there once, live or replayed."""
    for seq in range(1, 6):
        publisher.publish(make_event(seq))
    subscriber = subscribe(publisher)
    snapshot = msgspec.json.decode(ask(publisher.reply_url, b'{"op":"snapshot"}'))
    assert (snapshot["run"], snapshot["seq"], len(snapshot["open"])) == (RUN, 5, 5)
    publisher.publish(make_event(6))
    assert seqs(subscriber, 1) == [6]
    request = msgspec.json.encode({"op": "replay", "run": RUN, "after": 0})
    replay = msgspec.json.decode(ask(publisher.reply_url, request))
    assert [event["seq"] for event in replay["events"]] == [1, 2, 3, 4, 5, 6]


def test_status_answer_is_the_last_status(publisher: Publisher, ask: Ask) -> None:
    """Who asks for the status gets the last one, from the start on."""
    assert ask(publisher.reply_url, b'{"op":"status"}') == encode(make_status())
    publisher.publish_status(make_status(9))
    assert ask(publisher.reply_url, b'{"op":"status"}') == encode(make_status(9))


def test_garbage_is_answered_and_does_no_harm(
    publisher: Publisher, context: zmq.Context[Socket], ask: Ask
) -> None:
    """Garbage in one frame or several, from REQ or DEALER, is answered; a flood of bytes is hung up on."""
    for garbage in (b"", b"\xff\x00", b"[[[[", b'{"op":"reboot"}', b"x" * (MAX_REQUEST_BYTES + 1)):
        assert b'"bad_request"' in ask(publisher.reply_url, garbage)
    with context.socket(zmq.DEALER) as dealer:
        dealer.connect(publisher.reply_url)
        dealer.send_multipart([b"a", b"b", b"c"])
        assert b"one frame" in dealer.recv_multipart()[-1]
        dealer.send(b'{"op":"status"}')
        assert dealer.recv_multipart() == [encode(make_status())]
    with context.socket(zmq.DEALER) as hostile:
        hostile.connect(publisher.reply_url)
        hostile.send(b"x" * (HANG_UP_REQUEST_BYTES + 1))
        assert ask(publisher.reply_url, b'{"op":"status"}') == encode(make_status())


def test_bytes_that_are_not_zeromq_do_no_harm(publisher: Publisher, ask: Ask, subscribe: Subscribe) -> None:
    """A browser or port scanner on either port disturbs nobody."""
    subscriber = subscribe(publisher)
    for url in (publisher.pub_url, publisher.reply_url):
        host, port = url.removeprefix("tcp://").split(":")
        with posix.create_connection((host, int(port))) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" + os.urandom(200))
    publisher.publish(make_event(1))
    assert seqs(subscriber, 1) == [1]
    assert b'"seq":1,' in ask(publisher.reply_url, b'{"op":"snapshot"}')


def test_a_slow_subscriber_costs_the_others_nothing(subscribe: Subscribe, ask: Ask) -> None:
    """While one subscriber reads nothing, another gets every event; the slow one then heals by a replay."""
    count = 3 * PUB_QUEUE_MESSAGES
    step = 500  # less than the fast one's queue, so that nothing depends on how this thread is scheduled
    with Publisher(ANY, ANY, make_status(), history_events=count) as publisher:
        slow = subscribe(publisher, rcvhwm=1)
        fast = subscribe(publisher)
        for start in range(0, count, step):
            for seq in range(start + 1, start + step + 1):
                publisher.publish(make_event(seq))
            assert seqs(fast, step) == list(range(start + 1, start + step + 1))
        got = []
        while slow.poll(200):
            got += seqs(slow, 1)
        live = len(got)
        while len(got) < count:
            request = msgspec.json.encode({"op": "replay", "run": RUN, "after": len(got)})
            replay = msgspec.json.decode(ask(publisher.reply_url, request))
            got += [event["seq"] for event in replay["events"]]
            assert replay["complete"] == (len(got) == count)
        assert got == list(range(1, count + 1))
        assert live < count


@pytest.mark.parametrize(("run", "seq"), [(RUN, 2), (RUN, 4), ("another", 3)])
def test_an_event_that_does_not_follow_is_refused(publisher: Publisher, run: str, seq: int) -> None:
    """An event that does not follow the last one is a mistake of the emitter, said at once."""
    publisher.publish(make_event(1))
    publisher.publish(make_event(2))
    with pytest.raises(ValueError, match="does not follow"):
        publisher.publish(make_event(seq, run=run))
    publisher.publish(make_event(3))


def test_events_wait_for_room_and_none_is_lost(subscribe: Subscribe) -> None:
    """With a queue of one, events from another thread wait for the socket thread and all come in order."""
    done: list[bool] = []
    with Publisher(ANY, ANY, make_status(), queue_events=1) as publisher:
        subscriber = subscribe(publisher)

        def emit() -> None:
            for seq in range(1, 301):
                publisher.publish(make_event(seq), done.append)

        emitter = threading.Thread(target=emit)
        emitter.start()
        assert seqs(subscriber, 300) == list(range(1, 301))
        emitter.join()
    assert done == [True] * 300


def test_close_sends_what_is_queued(subscribe: Subscribe) -> None:
    """Everything handed over before `close` arrives, scores included; afterwards nothing is taken."""
    publisher = Publisher(ANY, ANY, make_status())
    subscriber = subscribe(publisher, b"")
    sent: list[bool] = []
    for seq in range(1, 101):
        publisher.publish(make_event(seq), sent.append)
    publisher.publish_scores(make_scores([1.0]))
    publisher.publish_scores(make_scores([2.0, 3.0]))
    publisher.close()
    publisher.close()
    got = [subscriber.recv_multipart()]
    while not got[-1][0].startswith(b"score/") or b"3.0" not in got[-1][1]:
        got.append(subscriber.recv_multipart())
    assert sum(topic.startswith(b"event/") for topic, _ in got) == 100
    assert sent == [True] * 100
    publisher.publish(make_event(101), sent.append)
    publisher.publish_status(make_status())
    publisher.publish_scores(make_scores([1.0, 1.0]))
    assert sent[100:] == [False]
    assert publisher.scores_dropped == 2


def test_scores_are_throttled(publisher: Publisher, subscribe: Subscribe) -> None:
    """A flood of scores becomes few messages, and its peak is among them."""
    subscriber = subscribe(publisher, b"score/")
    for i in range(200):
        publisher.publish_scores(make_scores([2.0] * 30 + [777.0 if i == 150 else 3.0]))
    messages = 0
    values: list[float] = []
    while 777.0 not in values:
        values += msgspec.json.decode(subscriber.recv_multipart()[1])["perplexity"]
        messages += 1
    assert messages <= 20


def test_a_full_disk_does_not_stop_publishing(tmp_path: Path, subscribe: Subscribe, ask: Ask) -> None:
    """While the journal cannot be written events are published all the same; later it has all of them."""
    clock = Clock()
    journal = open_journal(tmp_path, clock=clock)
    with Publisher(ANY, ANY, make_status(), journal=journal) as publisher:
        subscriber = subscribe(publisher)
        with small_disk(2000):
            for seq in range(1, 11):
                publisher.publish(make_event(seq))
            assert seqs(subscriber, 10) == list(range(1, 11))
            status = journal_status(publisher)
            assert status.problem == f"{tmp_path}: File too large"
            assert (status.journalled, status.missing) == (3, 7)
        request = msgspec.json.encode({"op": "replay", "run": RUN, "after": 0})
        assert len(msgspec.json.decode(ask(publisher.reply_url, request))["events"]) == 10
        clock.pass_s(1)
        publisher.publish_status(make_status())  # comes once a second
        wait_until(lambda: journal_status(publisher).problem is None)
        assert (journal_status(publisher).journalled, journal_status(publisher).missing) == (10, 0)


def test_the_last_events_are_tried_once_more_at_the_end(tmp_path: Path) -> None:
    """What waits for a disk with room is written when the publisher closes, if there is room by then."""
    journal = open_journal(tmp_path, clock=Clock())
    with Publisher(ANY, ANY, make_status(), journal=journal) as publisher, small_disk(2000):
        for seq in range(1, 11):
            publisher.publish(make_event(seq))
        wait_until(lambda: journal_status(publisher).problem is not None)
    with closing(open_journal(tmp_path)) as again:
        assert len(held(again, RUN)) == 10


def test_a_publisher_frees_its_journal(tmp_path: Path) -> None:
    """The folder is free again after `close`, and where the publisher could not start, which is no run."""
    with pytest.raises(ConfigError):
        Publisher(ANY, "tcp://nowhere", make_status(), journal=open_journal(tmp_path))
    with closing(open_journal(tmp_path)) as journal:
        assert journal.runs() == []
    with Publisher(ANY, ANY, make_status(), journal=open_journal(tmp_path)):
        pass
    with closing(open_journal(tmp_path)) as again:
        assert [known.run for known in again.runs()] == [RUN]


def test_a_failed_thread_is_reported(subscribe: Subscribe) -> None:
    """Should the socket thread die, `failure` says why, and every event is reported as not sent."""
    publisher = Publisher(ANY, ANY, make_status())
    ends: list[bool] = []
    died = threading.Event()

    def broken(sent: bool) -> None:
        ends.append(sent)
        died.set()
        raise RuntimeError("boom")

    publisher.publish(make_event(1), broken)
    assert died.wait(5)
    publisher._thread.join(5)
    publisher.publish(make_event(2), ends.append)
    assert ends == [True, False]
    assert publisher.failure is not None
    assert "boom" in publisher.failure
    publisher.close()


@pytest.mark.parametrize("second", ["pub", "reply"])
def test_tcp_address_in_use(publisher: Publisher, second: str) -> None:
    """A second publisher on one port is refused in a sentence that names the URL and the way out."""
    urls = {"pub": ANY, "reply": ANY, second: getattr(publisher, f"{second}_url")}
    with pytest.raises(OutputError) as caught:
        Publisher(urls["pub"], urls["reply"], make_status())
    assert str(caught.value) == (
        f"{urls[second]} is in use; is another ecustream running? give other addresses with --pub and "
        f"--reply (this is --{second}), or --no-publish"
    )


def test_ipc_is_not_stolen(tmp_path: Path, subscribe: Subscribe, ask: Ask) -> None:
    """A second publisher on one ipc path is refused, and the first keeps its subscribers."""
    pub, reply = f"ipc://{tmp_path}/pub", f"ipc://{tmp_path}/reply"
    with Publisher(pub, reply, make_status()) as first:
        subscriber = subscribe(first)
        for _ in range(2):
            with pytest.raises(OutputError, match=r"ipc://.*/pub is in use.*--pub"):
                Publisher(pub, reply, make_status())
        first.publish(make_event(1))
        assert seqs(subscriber, 1) == [1]
        assert b'"seq":1,' in ask(reply, b'{"op":"snapshot"}')
        assert stat.S_IMODE((tmp_path / "pub").stat().st_mode) == 0o660
    with Publisher(pub, reply, make_status()) as next_one:  # a new run after an ordered end
        assert next_one.pub_url == pub


def test_stale_ipc_socket_is_replaced(tmp_path: Path, ask: Ask) -> None:
    """The socket file of a killed process does not keep the next one from starting."""
    path = tmp_path / "reply"
    with posix.socket(posix.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    with Publisher(ANY, f"ipc://{path}", make_status()):
        assert ask(f"ipc://{path}", b'{"op":"status"}') == encode(make_status())


def test_ipc_path_of_another_program(tmp_path: Path) -> None:
    """A socket on which some other program listens is not taken from it, although it holds no lock."""
    path = tmp_path / "pub"
    with posix.socket(posix.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(OutputError, match="in use"):
            Publisher(f"ipc://{path}", ANY, make_status())


def test_ipc_never_deletes_a_file(tmp_path: Path) -> None:
    """A path on which a file stands is refused; libzmq by itself would delete the file."""
    path = tmp_path / "trace.pcapng"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="not a socket"):
        Publisher(f"ipc://{path}", ANY, make_status())
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ipc://{tmp}/nowhere/pub", "No such file or directory"),
        ("ipc://{tmp}/" + "x" * 120, "File name too long"),
        ("tcp://127.255.255.254.1:5556", "would let other machines"),
        ("tcp://0.0.0.0:5556", "would let other machines"),
        ("tcp://*:5556", "would let other machines"),
        ("tcp://[::]:5556", "would let other machines"),
        ("tcp://127.0.0.1:70000", "no socket address"),
        ("tcp://127.0.0.1", "no socket address"),
        ("udp://127.0.0.1:5556", "no socket address"),
        ("ipc://", "no socket address"),
    ],
)
def test_addresses_refused(url: str, why: str, tmp_path: Path) -> None:
    """An address that cannot or should not be bound is refused in one sentence that names it."""
    url = url.format(tmp=tmp_path)
    with pytest.raises((ConfigError, OutputError), match=why) as caught:
        Publisher(url, ANY, make_status())
    assert url in str(caught.value)


def test_remote_address_with_leave() -> None:
    """Other machines may be let in on purpose."""
    with Publisher("tcp://*:*", ANY, make_status(), allow_remote=True) as publisher:
        assert publisher.pub_url.startswith("tcp://0.0.0.0:")


def test_ipv6(subscribe: Subscribe, ask: Ask, context: zmq.Context[Socket]) -> None:
    """Both sockets work over IPv6."""
    context.setsockopt(zmq.IPV6, 1)
    with Publisher("tcp://[::1]:*", "tcp://[::1]:*", make_status()) as publisher:
        assert publisher.pub_url.startswith("tcp://[::1]:")
        subscriber = subscribe(publisher)
        publisher.publish(make_event(1))
        assert seqs(subscriber, 1) == [1]
        assert b'"seq":1,' in ask(publisher.reply_url, b'{"op":"snapshot"}')
        with pytest.raises(OutputError, match=r"tcp://\[::1\]:\d+ is in use; is another ecustream running\?"):
            Publisher(publisher.pub_url, ANY, make_status())


def test_ipc_of_a_group(tmp_path: Path, ask: Ask) -> None:
    """An ipc socket belongs to the group given, whose members may connect; others may not."""
    group = next(each for each in grp.getgrall() if each.gr_gid in (os.getgid(), *os.getgroups()))
    url = f"ipc://{tmp_path}/reply"
    with Publisher(ANY, url, make_status(), group=group.gr_name):
        status = (tmp_path / "reply").stat()
        assert (status.st_gid, stat.S_IMODE(status.st_mode)) == (group.gr_gid, 0o660)
        assert ask(url, b'{"op":"status"}') == encode(make_status())
    with pytest.raises(ConfigError, match=r'publish\.group is "nobody-here", but there is no such group'):
        Publisher(ANY, url, make_status(), group="nobody-here")
    with Publisher(ANY, url, make_status()):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_ipc_of_a_group_that_is_not_ours(tmp_path: Path) -> None:
    """The group is really set, not only named."""
    group = next(each for each in grp.getgrall() if each.gr_gid != os.getgid())
    with Publisher(f"ipc://{tmp_path}/pub", ANY, make_status(), group=group.gr_name):
        assert (tmp_path / "pub").stat().st_gid == group.gr_gid


def test_counts(publisher: Publisher, subscribe: Subscribe, ask: Ask) -> None:
    """Subscribers, requests and refusals in words are counted."""
    first = subscribe(publisher)
    second = subscribe(publisher)
    ask(publisher.reply_url, b'{"op":"status"}')
    ask(publisher.reply_url, b"garbage")
    counts = publisher.counts()
    assert (counts.subscribers, counts.requests, counts.bad_requests) == (2, 2, 1)
    assert (counts.queue_full, counts.answers_dropped, counts.refused, counts.scores_dropped) == (0, 0, 0, 0)
    first.close()
    wait_until(lambda: publisher.counts().subscribers == 1)
    second.close()
    wait_until(lambda: publisher.counts().subscribers == 0)
