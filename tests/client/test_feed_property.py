"""Whatever is lost, late or restarted: every event once and in order, or named as lost."""

from collections import Counter, deque
from dataclasses import dataclass, field

from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.client.asker import Request
from ecustream.client.feed import Feed
from ecustream.client.items import Item, Lost, NewRun, Synced
from ecustream.client.wire import Answer, decode_answer, decode_message
from ecustream.events import Event
from ecustream.publish.messages import Status, encode, topic
from tests.client.examples import make_status, open_episodes
from tests.client.server import ModelServer

MS = 1_000_000
WEIGHTS = {
    "publish": 6,
    "publish_lost": 3,
    "status": 2,
    "restart": 1,
    "end": 1,
    "hear": 8,
    "serve": 4,
    "answer": 4,
    "lose_request": 1,
    "wait": 2,
    "reader_restart": 1,
}
STEPS = st.sampled_from([name for name, weight in WEIGHTS.items() for _ in range(weight)])


@dataclass
class World:
    """A server, a stream that loses some, requests and answers under way, and a reader."""

    server: ModelServer
    feed: Feed
    now_ns: int = 0
    stream: deque[Event | Status] = field(default_factory=deque)
    asked: Request | None = None
    answered: tuple[int, Answer | None] | None = None
    heard: dict[tuple[str, int], int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    read: list[Item] = field(default_factory=list)
    restarts: int = 0

    def step(self, name: str) -> None:
        """One thing happens; then the reader reads and what is to be asked goes out."""
        getattr(self, f"_{name}")()
        if self.feed.tick(self.now_ns):
            self.stream.clear()
        self._send()
        while (item := self.feed.next_item()) is not None:
            self.read.append(item)

    def _send(self) -> None:
        request = self.feed.request(self.now_ns)
        if request is not None:
            self.asked, self.answered = request, None

    def _publish(self) -> None:
        self.stream.append(self.server.publish())

    def _publish_lost(self) -> None:
        self.server.publish()

    def _status(self) -> None:
        self.stream.append(make_status(self.server.run, self.server.seq))

    def _restart(self) -> None:
        self.server.restart()

    def _end(self) -> None:
        self.stream.append(make_status(self.server.run, self.server.seq, "done"))
        self.server.restart()

    def _hear(self) -> None:
        if self.stream:
            message = self.stream.popleft()
            if isinstance(message, Event):
                self.heard[message.run, message.seq] = len(self.read)
            elif message.state == "done":
                self.ended[message.run] = len(self.read)
            self.feed.hear(decode_message([topic(message), encode(message)]), self.now_ns)

    def _serve(self) -> None:
        if self.asked is not None:
            body = self.server.answer(self.asked.ask.encode())
            self.answered = (self.asked.number, decode_answer(self.asked.ask, body))
            self.asked = None

    def _answer(self) -> None:
        if self.answered is not None:
            number, answer = self.answered
            self.answered = None
            self.feed.answer(number, answer, self.now_ns)

    def _lose_request(self) -> None:
        self.asked = None

    def _wait(self) -> None:
        self.now_ns += 700 * MS

    def _reader_restart(self) -> None:
        """What the old process had of the stream is lost with it."""
        position = self.feed.position
        if position is not None:
            self.feed = Feed(self.now_ns, since=position)
            self.stream.clear()
            self.heard.clear()
            self.ended.clear()
            self.asked = self.answered = None
            self.restarts += 1

    def settle(self) -> None:
        """Everything comes to rest: no more losses, a status a second, every request answered."""
        for _ in range(400):
            self.step("status")
            while self.stream:
                self.step("hear")
            for _ in range(3):
                self.step("serve")
                self.step("answer")
            self.now_ns += 1000 * MS
            if self.feed.position == (self.server.run, self.server.seq) and self.feed._question() is None:
                return
        raise AssertionError(f"the reader does not get to the end: {self.feed.position}, {self.server.runs}")


def check(world: World) -> Counter[str]:
    """Follows what was read and compares it with what was published."""
    runs = list(world.server.runs)
    count: Counter[str] = Counter()
    run, seq = "", 0
    ended_unknown = False
    last_sync: Synced | None = None
    for i, item in enumerate(world.read):
        if isinstance(item, Synced):
            if not run:
                run, seq = item.run, item.seq
            assert (item.run, item.seq) == (run, seq)
            assert item.open_episodes == open_episodes(run, seq)
            last_sync = item
        elif isinstance(item, Event):
            assert (item.run, item.seq) == (run, seq + 1)
            assert not ended_unknown
            seq += 1
        elif isinstance(item, Lost) and item.last_seq is None:
            assert (item.run, item.first_seq) == (run, seq + 1)
            assert not world.server.journal or run not in world.server.held()
            assert world.ended.get(run, i + 1) > i
            assert not any(r == run and n > seq and at <= i for (r, n), at in world.heard.items())
            ended_unknown = True
            count["lost tail"] += 1
        elif isinstance(item, Lost):
            assert item.last_seq is not None
            assert (item.run, item.first_seq) == (run, seq + 1)
            assert seq < item.last_seq <= world.server.runs[run]
            missing = range(item.first_seq, item.last_seq + 1)
            assert all(world.heard.get((run, n), i + 1) > i for n in missing)
            held = world.server.held().get(run, range(0))
            assert not any(n in held for n in missing)
            seq = item.last_seq
            last_sync = None
            count["lost"] += 1
        elif isinstance(item, NewRun):
            assert item.old == run
            assert ended_unknown or seq == world.server.runs[run]
            skipped = runs[runs.index(run) + 1 : runs.index(item.new)]
            assert not any(
                n > 0 and r in world.server.held() for r, n in world.server.runs.items() if r in skipped
            )
            run, seq, ended_unknown = item.new, 0, False
            last_sync = None
            count["new run"] += 1
    assert (run, seq) == (world.server.run, world.server.seq)
    assert last_sync is not None
    return count


@settings(deadline=None, max_examples=400)
@given(
    steps=st.lists(STEPS, min_size=20, max_size=120),
    journal=st.booleans(),
    keep=st.sampled_from([1, 2, 5, 10**9]),
    page=st.sampled_from([1, 3, 1000]),
    empty_runs=st.booleans(),
    old=st.booleans(),
)
def test_every_event_once_or_named_as_lost(
    steps: list[str], journal: bool, keep: int, page: int, empty_runs: bool, old: bool
) -> None:
    """Losses, restarts of either side and answers that overtake the stream leave no doubt on any event."""
    server = ModelServer(journal=journal and not old, keep=keep, page=page, empty_runs=empty_runs, old=old)
    world = World(server, Feed(0))
    for name in steps:
        world.step(name)
    world.settle()
    for what in check(world):
        note(what)
    if journal and empty_runs and not old and keep == 10**9:
        assert not any(isinstance(item, Lost) for item in world.read)


@settings(deadline=None, max_examples=100)
@given(steps=st.lists(STEPS, min_size=20, max_size=120), max_held=st.sampled_from([0, 1, 3]))
def test_little_memory(steps: list[str], max_held: int) -> None:
    """However few events may be held meanwhile, a journal heals everything."""
    world = World(ModelServer(page=2), Feed(0, max_held=max_held))
    for name in steps:
        world.step(name)
    world.settle()
    check(world)
    assert not any(isinstance(item, Lost) for item in world.read)
