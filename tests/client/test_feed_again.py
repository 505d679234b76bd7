"""A run that is begun again under its name, and a reader who begins with the oldest event there is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.client.feed import Feed
from ecustream.client.items import START, Item, Lost, NewRun, Position, Synced
from ecustream.events import Event
from ecustream.publish.messages import State, Status
from tests.client.examples import make_event, make_scores, make_status, open_episodes
from tests.client.server import ModelServer
from tests.client.test_feed import exchange, items, server_with
from tests.client.test_feed_property import STEPS, World

S = 1_000_000_000


def begun_again(feed: Feed, status: Status, server: ModelServer) -> list[Item]:
    """What is handed out, but for statuses, when the stream brings `status` after five events of a run."""
    exchange(feed, server_with(0))
    for seq in range(1, 6):
        feed.hear(make_event("run0", seq), 0)
    feed.hear(make_status("run0", 5, "done"), 0)
    assert len(items(feed)) == 7
    feed.hear(status, 0)
    feed.hear(make_event("run0", 1), 0)
    exchange(feed, server)
    return [item for item in items(feed) if not isinstance(item, Status)]


@pytest.mark.parametrize(("seq", "state"), [(0, "starting"), (2, "running"), (2, "done"), (5, "running")])
def test_a_run_begun_again_is_read_again(seq: int, state: State) -> None:
    """A status that goes back, or on after the end, is of a new start: all events come once more."""
    feed = Feed(0)
    again = begun_again(feed, make_status("run0", seq, state), server_with(max(1, seq)))
    last = max(1, seq)
    assert again == [
        NewRun("run0", "run0"),
        *(make_event("run0", n) for n in range(1, last + 1)),
        Synced("run0", last, open_episodes("run0", last)),
    ]
    assert feed.position == ("run0", last)


def test_the_end_said_twice_is_no_new_start() -> None:
    """Neither a second `done` nor events and scores that come after it begin a run again."""
    feed = Feed(0)
    assert begun_again(feed, make_status("run0", 5, "done"), server_with(5)) == []
    feed.hear(make_scores("run0"), 0)
    feed.hear(make_status("run0", 5, "done"), 0)
    feed.hear(make_event("run0", 6), 0)
    assert not any(isinstance(item, NewRun) for item in items(feed))


def test_an_answer_from_before_the_new_start_is_ignored() -> None:
    """What was asked before the stream showed the new start, the old one may have answered."""
    feed = Feed(0)
    exchange(feed, server_with(0))
    feed.hear(make_status("run0", 5), 0)
    request = feed.request(0)
    assert request is not None
    feed.hear(make_status("run0", 0), 0)
    assert exchange(feed, server_with(0)) == ["snapshot"]
    assert items(feed)[-1] == Synced("run0", 0, [])


def test_the_current_run_begins_again_while_an_older_one_is_read() -> None:
    """The reader finishes the older run first, then reads what the run has now."""
    feed = Feed(0, since=Position("run0", 1))
    server = server_with(2)
    server.restart()
    feed.hear(make_event("run1", 1), 0)
    feed.hear(make_event("run1", 2), 0)
    feed.hear(make_status("run1", 0), 0)
    server.publish()
    exchange(feed, server)
    assert [item for item in items(feed) if not isinstance(item, Status)] == [
        make_event("run0", 2),
        NewRun("run0", "run1"),
        make_event("run1", 1),
        Synced("run1", 1, open_episodes("run1", 1)),
    ]


class Repeating(World):
    """The current run may begin again, at a time when the stream is not behind."""

    def _begin_again(self) -> None:
        self._status()
        while self.stream:
            self._hear()
        self.server.runs[self.server.run] = 0

    def _reader_restart(self) -> None:
        """Would not see that the run has begun again."""


@settings(deadline=None, max_examples=150)
@given(
    steps=st.lists(st.one_of(STEPS, st.just("begin_again")), min_size=20, max_size=120),
    page=st.sampled_from([1, 3, 1000]),
    start=st.booleans(),
)
def test_repetitions(steps: list[str], page: int, start: bool) -> None:
    """Whenever runs begin again, each is read in order from where it began, up to the present."""
    world = Repeating(ModelServer(page=page), Feed(0, since=START if start else None))
    for name in steps:
        world.step(name)
    world.settle()
    run, seq = "", 0
    for item in world.read:
        if not run and isinstance(item, Event | Synced | Lost):
            run, seq = item.run, item.seq if isinstance(item, Synced) else 0
        if isinstance(item, NewRun):
            assert item.old == (run or item.old)
            run, seq = item.new, 0
        elif isinstance(item, Event):
            assert (item.run, item.seq) == (run, seq + 1)
            seq += 1
        elif isinstance(item, Lost):
            # What the stream brought of a start whose events the next start replaced in the journal.
            assert (item.run, item.first_seq) == (run, seq + 1)
            seq = item.last_seq or seq
    assert (run, seq) == (world.server.run, world.server.seq)


def test_from_the_start() -> None:
    """Everything that the journal has, run by run, and no word of what was before."""
    server = server_with(3)
    server.restart()
    server.publish()
    feed = Feed(0, since=START)
    assert feed.position is None
    exchange(feed, server)
    assert items(feed) == [
        make_event("run0", 1),
        make_event("run0", 2),
        make_event("run0", 3),
        NewRun("run0", "run1"),
        make_event("run1", 1),
        Synced("run1", 1, open_episodes("run1", 1)),
    ]
    assert feed.position == ("run1", 1)


def test_from_the_start_of_a_server_that_keeps_little() -> None:
    """Without a journal it is the current run; what is gone of it is named."""
    server = ModelServer(journal=False, keep=2, old=True)
    for _ in range(5):
        server.publish()
    feed = Feed(0, since=START)
    feed.hear(make_event("run0", 5), 0)
    exchange(feed, server)
    assert items(feed) == [
        Lost("run0", 1, 3),
        make_event("run0", 4),
        make_event("run0", 5),
        Synced("run0", 5, open_episodes("run0", 5)),
    ]
