"""The feed as a script: things in, things out."""

from itertools import pairwise

import msgspec
import pytest

from ecustream.client.asker import Request
from ecustream.client.feed import Feed
from ecustream.client.items import Alive, Item, Lost, NewRun, Position, Stale, Synced
from ecustream.client.wire import Page, Refused, Snapshot, decode_answer, decode_message
from ecustream.events import Event
from ecustream.publish.messages import encode
from tests.client.examples import make_event, make_scores, make_status, open_episodes
from tests.client.server import ModelServer

S = 1_000_000_000


def items(feed: Feed) -> list[Item]:
    """Everything there is to hand out."""
    return list(iter(feed.next_item, None))


def exchange(feed: Feed, server: ModelServer, now_ns: int = 0) -> list[str]:
    """Answers requests until there is none; returns what they were for."""
    ops: list[str] = []
    while (request := feed.request(now_ns)) is not None:
        ops.append(request.ask.op)
        feed.answer(request.number, decode_answer(request.ask, server.answer(request.ask.encode())), now_ns)
    return ops


def server_with(count: int, keep: int = 10**9) -> ModelServer:
    """A server that has published `count` events."""
    server = ModelServer(keep=keep)
    for _ in range(count):
        server.publish()
    return server


def test_silence_is_said_once_and_the_stream_connected_anew_each_time() -> None:
    """One `Stale`, a request to see what was missed, a new connection every three seconds, one `Alive`."""
    server = server_with(2)
    feed = Feed(0)
    exchange(feed, server)
    feed.hear(make_status("run0", 2), 1 * S)
    items(feed)
    assert feed.due_ns() == 4 * S
    assert not feed.tick(4 * S - 1)
    assert [feed.tick(at * S) for at in (4, 5, 7, 8, 10)] == [True, False, True, False, True]
    assert items(feed) == [Stale(1 * S)]
    assert exchange(feed, server, 10 * S) == ["snapshot"]
    feed.hear(None, 11 * S)
    feed.hear(None, 11 * S)
    assert items(feed) == [Synced("run0", 2, open_episodes("run0", 2)), Alive()]


def test_requests_are_repeated_ever_slower() -> None:
    """A request without an answer is given up after 2 s, the next after 4, 8 and then 16 each."""
    feed = Feed(0, stale_after_ns=1000 * S)
    sent = []
    for second in range(64):
        request = feed.request(second * S)
        if request is not None:
            sent.append((second, request.number))
    assert sent == [(0, 1), (2, 2), (6, 3), (14, 4), (30, 5), (46, 6), (62, 7)]


def test_a_request_is_repeated_at_once_when_the_publisher_is_back() -> None:
    """The first message after a silence brings the request anew, for the old one went with the connection."""
    feed = Feed(0, stale_after_ns=1 * S)
    assert feed.request(0) is not None
    feed.tick(1 * S)
    feed.request(2 * S)
    assert feed.request(2 * S + 1) is None
    feed.hear(None, 2 * S + 2)
    assert feed.request(2 * S + 2) is not None


def test_an_answer_given_up_is_ignored() -> None:
    """Only the answer to the last request counts."""
    feed = Feed(0)
    first = feed.request(0)
    second = feed.request(3 * S)
    assert first is not None
    assert second is not None
    old = decode_answer(first.ask, server_with(1).answer(first.ask.encode()))
    feed.answer(first.number, old, 3 * S)
    assert items(feed) == []
    feed.answer(second.number, old, 3 * S)
    assert items(feed) == [Synced("run0", 1, open_episodes("run0", 1))]


def test_useless_answers_are_asked_for_ever_slower() -> None:
    """A server that cannot give what its status promises is asked after 0.1 s, 0.2 s … and at most 5 s."""
    server = server_with(0)
    feed = Feed(0, stale_after_ns=10**6 * S)
    exchange(feed, server)
    feed.hear(make_status("run0", 5), 0)
    asked = []
    for tenth in range(300):
        asked += [tenth] * len(exchange(feed, server, tenth * S // 10))
    assert asked[:6] == [0, 1, 3, 7, 15, 31]
    assert max(b - a for a, b in pairwise(asked)) == 50


def test_after_a_loss_the_open_episodes_are_told_anew() -> None:
    """What was lost may have closed an episode, so `Synced` follows the events that are left."""
    feed = Feed(0)
    exchange(feed, server_with(0))
    server = server_with(8, keep=2)
    feed.hear(make_status("run0", 8), 0)
    exchange(feed, server)
    assert items(feed)[1:] == [
        make_status("run0", 8),
        Lost("run0", 1, 6),
        make_event("run0", 7),
        make_event("run0", 8),
        Synced("run0", 8, open_episodes("run0", 8)),
    ]


def test_synced_comes_at_its_event() -> None:
    """An event that comes while the snapshot after a loss is under way is handed out after `Synced`."""
    feed = Feed(0)
    exchange(feed, server_with(0))
    server = server_with(3, keep=1)
    feed.hear(make_status("run0", 3), 0)
    replay = feed.request(0)
    assert replay is not None
    feed.answer(replay.number, Refused("too_old", 4), 0)
    snapshot = feed.request(0)
    assert snapshot is not None
    feed.hear(make_event("run0", 4), 0)
    feed.answer(snapshot.number, decode_answer(snapshot.ask, server.answer(snapshot.ask.encode())), 0)
    assert items(feed)[2:] == [Lost("run0", 1, 3), Synced("run0", 3, []), make_event("run0", 4)]


def test_an_old_run_that_is_heard_late() -> None:
    """A run that the stream brings after a snapshot has named a later one is still read before that one."""
    server = server_with(0)
    server.old = True
    server.runs = {"c": 0}
    feed = Feed(0, since=Position("a", 5))
    snapshot = feed.request(0)
    assert snapshot is not None
    feed.answer(snapshot.number, decode_answer(snapshot.ask, server.answer(snapshot.ask.encode())), 0)
    feed.hear(make_event("b", 1), 0)
    for second in range(5):
        exchange(feed, server, second * S)
    assert items(feed) == [
        Lost("a", 6, None),
        NewRun("a", "b"),
        make_event("b", 1),
        Lost("b", 2, None),
        NewRun("b", "c"),
        Synced("c", 0, []),
    ]


def test_a_journal_that_ends_before_the_reader() -> None:
    """Events that the reader has and the journal lost in a crash: the reader goes on with the next run."""
    server = server_with(5)
    server.restart()
    server.publish()
    server.restart()
    feed = Feed(0, since=Position("run0", 7))
    exchange(feed, server)
    exchange(feed, server, 1 * S)
    assert items(feed) == [
        Lost("run0", 8, None),
        NewRun("run0", "run1"),
        make_event("run1", 1),
        NewRun("run1", "run2"),
        Synced("run2", 0, []),
    ]


def test_a_run_that_nobody_spoke_of_yet() -> None:
    """An answer names a newer run than any snapshot: the one it skipped is not read after it."""
    server = server_with(6)
    server.empty_runs = False
    server.restart()
    feed = Feed(0, since=Position("run0", 5))
    snapshot = feed.request(0)
    assert snapshot is not None
    feed.answer(snapshot.number, decode_answer(snapshot.ask, server.answer(snapshot.ask.encode())), 0)
    server.restart()
    server.publish()
    exchange(feed, server)
    server.restart()
    feed.hear(make_status("run3", 0), 0)
    exchange(feed, server)
    assert [item for item in items(feed) if isinstance(item, Event | NewRun | Lost)] == [
        make_event("run0", 6),
        NewRun("run0", "run2"),
        make_event("run2", 1),
        NewRun("run2", "run3"),
    ]


def test_a_journal_that_goes_in_circles() -> None:
    """A next run that was read before is not read again: the reader goes on to the current run."""
    feed = Feed(0, since=Position("a", 0))
    following = {"a": "b", "b": "a", "c": None}
    for second in range(10):
        request = feed.request(second * S)
        if request is None:
            break
        run = request.ask.run
        answer = Snapshot("c", 0, []) if run is None else Page(run, [], 0, True, following[run])
        feed.answer(request.number, answer, second * S)
    assert [(n.old, n.new) for n in items(feed) if isinstance(n, NewRun)] == [("a", "b"), ("b", "c")]


def test_a_run_begun_again_brings_nothing_twice() -> None:
    """A repeated offline run has the same name and the same events: those already read are not read again."""
    feed = Feed(0, since=Position("run0", 3))
    exchange(feed, server_with(1))
    for seq in range(1, 6):
        feed.hear(make_event("run0", seq), 0)
    assert [item.seq for item in items(feed) if isinstance(item, Event)] == [4, 5]
    assert feed.position == ("run0", 5)


def test_two_runs_in_turn() -> None:
    """A run that comes again after another one is a new run: its events follow from the first on."""
    feed = Feed(0, since=Position("run0", 0))
    exchange(feed, server_with(1))
    for run in ("other", "run0"):
        server = ModelServer()
        server.runs = {run: 1}
        server.old = True
        feed.hear(make_event(run, 1), 0)
        exchange(feed, server, 1 * S)
        exchange(feed, server, 2 * S)
    notices = [item for item in items(feed) if isinstance(item, NewRun | Event)]
    assert notices == [
        make_event("run0", 1),
        NewRun("run0", "other"),
        make_event("other", 1),
        NewRun("other", "run0"),
        make_event("run0", 1),
    ]


@pytest.mark.parametrize("bad", [2, 3])
def test_an_event_that_cannot_be_read_is_named_as_lost(bad: int) -> None:
    """An event of a schema that this version cannot read is neither handed out nor asked for for ever."""
    server = server_with(3)
    feed = Feed(0, since=Position("run0", 0))
    snapshot, replay = feed.request(0), None
    assert snapshot is not None
    feed.answer(snapshot.number, decode_answer(snapshot.ask, server.answer(snapshot.ask.encode())), 0)
    replay = feed.request(0)
    assert isinstance(replay, Request)
    answer = msgspec.json.decode(server.answer(replay.ask.encode()))
    del answer["events"][bad - 1]["reason"]
    feed.answer(replay.number, decode_answer(replay.ask, msgspec.json.encode(answer)), 0)
    got = items(feed)
    assert Lost("run0", bad, bad) in got
    assert [item.seq for item in got if isinstance(item, Event)] == [seq for seq in (1, 2, 3) if seq != bad]
    assert feed.position == ("run0", 3)


def test_what_is_passed_over_moves_the_position() -> None:
    """Events that a filter keeps back count as read."""
    feed = Feed(0, since=Position("run0", 0), wanted=lambda event: event.seq == 2)
    exchange(feed, server_with(5))
    assert feed.next_item() == make_event("run0", 2)
    assert feed.position == ("run0", 2)
    assert isinstance(feed.next_item(), Synced)
    assert feed.position == ("run0", 5)


@pytest.mark.parametrize(
    "frames",
    [
        [b"event/anomaly/eth1/"],
        [b"event/anomaly/eth1/", b""],
        [b"event/anomaly/eth1/", b"\xff"],
        [b"event/anomaly/eth1/", b"[" * 100_000],
        [b"event/anomaly/eth1/", b'{"run":"r"}'],
        [b"weather/", b"{}"],
        [b""],
    ],
)
def test_messages_that_are_none(frames: list[bytes]) -> None:
    """What cannot be read is passed over, whatever it is."""
    assert decode_message(frames) is None


def test_messages_of_later_versions() -> None:
    """Unknown fields, frames, kinds and states do no harm."""
    body = encode(make_status("run0", 1)).replace(b'"running"', b'"resting","new":{}')
    status = decode_message([b"status/eth0,eth1/", body, b"later"])
    assert status == msgspec.structs.replace(make_status("run0", 1), state="resting")
    assert decode_message([b"score/eth0/", encode(make_scores("run0"))]) == make_scores("run0")
