"""The order of events: what to ask and what to hand out, as a state machine without socket or clock."""

from collections import deque
from collections.abc import Callable

from ecustream.client.asker import Asker, Request
from ecustream.client.backlog import Backlog
from ecustream.client.items import START, Alive, Denied, Item, Lost, NewRun, Position, Stale, Synced
from ecustream.client.stream_place import StreamPlace
from ecustream.client.wire import Answer, Ask, Message, Page, Refused, Runs, Snapshot
from ecustream.events import Event
from ecustream.publish.messages import Status

__all__ = ["Feed"]


class Feed:
    """Puts the stream and the answers together: every event once and in order, or a `Lost` that names it.

    The stream is in order but has holes, and what an answer says may be older or newer than what the
    stream says. So which run is the current one is learned from a snapshot alone, asked for after the
    stream has shown another run: a run that is not the current one then came before it. The reader is
    led through every run to its end, then on to the next, up to the current one. Where the stream shows
    that a run was begun again, under the same name, the reader is led through it once more.

    Args:
        now_ns: the time, in nanoseconds since 1970 by a clock that never runs backwards.
        since: where the reader stopped; `START` for all that can be had, None to begin at the present.
        wanted: which events are handed out; the others are passed over.
        stale_after_ns: how long the stream may be silent.
        max_held: how many events are held while others are missing; what is more is asked for later.
    """

    def __init__(
        self,
        now_ns: int,
        *,
        since: Position | None = None,
        wanted: Callable[[Event], bool] = lambda event: True,
        stale_after_ns: int = 3_000_000_000,
        max_held: int = 10_000,
    ) -> None:
        self._wanted = wanted
        self._stale_after_ns = stale_after_ns
        self._heard_ns = now_ns
        self._silent_ns = now_ns + stale_after_ns
        self._stale = False
        self._denied = False
        self._asker = Asker()
        self._out: deque[tuple[Position | None, Item | None]] = deque()
        self._handed_out = None if since == START else since
        # The reader's place; its run has no name until an answer gives one.
        self._run, self._seq = since or START
        self._left: set[str] = set()
        self._backlog = Backlog(max_held)
        if since is not None:
            self._backlog.add(since.run)
        self._stream = StreamPlace()
        self._current_run = ""
        self._snapshot_needed = True
        self._snapshot: Snapshot | None = None
        self._run_unknown = since == START

    @property
    def position(self) -> Position | None:
        """The last event handed out by `next_item` or passed over; None before the first `Synced`."""
        return self._handed_out

    def next_item(self) -> Item | None:
        """The next thing for the reader; None while there is none."""
        while self._out:
            self._handed_out, item = self._out.popleft()
            if item is not None:
                return item
        return None

    def hear(self, message: Message | None, now_ns: int) -> None:
        """Takes a message of the stream; None for one that cannot be read."""
        self._heard_ns = now_ns
        self._silent_ns = now_ns + self._stale_after_ns
        self._denied = False
        if self._stale:
            self._stale = False
            self._put(Alive())
            # The connections are new: a request on the old one may be lost.
            self._asker.give_up()
            self._asker.helped()
        if message is None:
            return
        self._notice_run(message)
        if isinstance(message, Event):
            self._backlog.hold(message, self._seq if message.run == self._run else 0)
        else:
            self._put(message)
        if isinstance(message, Status):
            self._backlog.take_status(message)
        self._hand_out_held()

    def deny(self, notice: Denied) -> None:
        """The publisher has refused the stream, perhaps once more since the last message."""
        if not self._denied:
            self._denied = True
            self._put(notice)

    def answer(self, number: int, answer: Answer | None, now_ns: int) -> None:
        """Takes the answer to the request of that number; None for one that cannot be read."""
        ask = self._asker.answered(number)
        if ask is None:
            return
        before = (self._run, self._seq, self._run_unknown)
        match answer:
            case Snapshot():
                self._take_snapshot(answer)
            case Page():
                self._take_page(answer)
            case Runs():
                self._leave(self._next_of(answer.runs), complete=False)
            case Refused():
                self._take_refusal(ask, answer)
        self._hand_out_held()
        if isinstance(answer, Snapshot) or before != (self._run, self._seq, self._run_unknown):
            self._asker.helped()
        else:
            self._asker.pause(now_ns)

    def tick(self, now_ns: int) -> bool:
        """Takes the time, at the latest when `due_ns` says.

        Returns:
            Whether to connect the stream anew, because it has been silent for long: a machine that lost
            its power closes no connection. What is lost by it is asked for as any other loss.
        """
        if now_ns < self._silent_ns:
            return False
        self._silent_ns = now_ns + self._stale_after_ns
        if not self._stale:
            self._stale = True
            self._put(Stale(self._heard_ns))
            # The last messages may be missing, with none after them to show it.
            self._snapshot_needed = True
        return True

    def request(self, now_ns: int) -> Request | None:
        """What to send now."""
        return self._asker.request(self._question(), now_ns)

    def due_ns(self) -> int:
        """When `tick` and `request` should be called next, though nothing comes."""
        asker_ns = self._asker.due_ns(self._question())
        return self._silent_ns if asker_ns is None else min(asker_ns, self._silent_ns)

    def _question(self) -> Ask | None:
        if self._snapshot_needed:
            return Ask("snapshot")
        if self._run_unknown:
            return Ask("runs")
        if self._run != self._current_run or self._backlog[self._run].last_seq > self._seq:
            return Ask.replay(self._run, self._seq)
        return None

    def _notice_run(self, message: Message) -> None:
        """Of the stream's runs each comes after the one before; of the answers' that is not known."""
        run = message.run
        match self._stream.take(message):
            case "next_run" if run != self._current_run:
                self._backlog.add(run)
                self._snapshot_needed = True
                self._asker.give_up("snapshot")
            case "again":
                self._backlog.begin_again(run)
                self._snapshot_needed = True
                self._asker.give_up()
                if run == self._run:
                    self._seq, self._run_unknown = 0, False
                    self._put(NewRun(run, run))

    def _take_snapshot(self, snapshot: Snapshot) -> None:
        if not self._run and not self._run_unknown:
            self._run, self._seq = snapshot.run, snapshot.seq
        self._current_run = snapshot.run
        self._snapshot, self._snapshot_needed = snapshot, False
        self._backlog.make_last(snapshot.run, snapshot.seq)
        self._backlog.begin_at(self._run, self._seq)
        self._report_synced()

    def _take_page(self, page: Page) -> None:
        if page.run != self._run:
            return
        for event in page.events:
            if event.seq > self._seq:
                self._pass_to(event.seq)
                self._hand_out(event)
        self._pass_to(page.last_seq + 1)
        if page.complete and page.run != self._current_run:
            self._leave(page.next_run, complete=True)

    def _take_refusal(self, ask: Ask, refused: Refused) -> None:
        if ask.op == "runs":  # a server that keeps no older runs need not know of them
            self._leave(None, complete=False)
        elif ask.op == "snapshot":
            return
        elif refused.error == "too_old" and refused.oldest is not None:
            self._pass_to(refused.oldest)
        elif self._run != self._current_run:
            self._run_unknown = True
        elif refused.error == "other_run":
            self._snapshot_needed = True

    def _next_of(self, runs: list[str]) -> str | None:
        """The run after the reader's; where the reader's is forgotten, the oldest that it has not read."""
        if self._run in runs:
            runs = runs[runs.index(self._run) + 1 :]
        return next((run for run in runs if run not in self._left), None)

    def _leave(self, next_run: str | None, *, complete: bool) -> None:
        """Goes on to the next run; of the reader's, no more can be had than what is held."""
        old = self._run
        heard = self._backlog[old]
        self._pass_to(max(heard.events, default=0) + 1)
        if complete or heard.ended:
            self._pass_to(heard.last_seq + 1)
        elif old:
            self._put(Lost(old, self._seq + 1, None))
        self._left.add(old)
        if next_run is None or next_run in self._left:
            next_run = self._backlog.after(old)
        # A run that nobody spoke of yet may be one from before the current one or the next current one.
        self._snapshot_needed |= next_run not in self._backlog
        self._backlog.begin_at(next_run, 0)
        self._run, self._seq = next_run, 0
        self._run_unknown = False
        if old:
            self._put(NewRun(old, next_run))
        self._report_synced()

    def _pass_to(self, seq: int) -> None:
        """Goes to just before `seq`: what is held is handed out, the rest is lost."""
        events = self._backlog[self._run].events
        for held in [*sorted(held for held in events if held < seq), seq]:
            if held > self._seq + 1:
                self._lose(held - 1)
            if held < seq:
                self._hand_out(events[held])

    def _hand_out_held(self) -> None:
        while self._run and not self._snapshot_needed:
            event = self._backlog[self._run].events.get(self._seq + 1)
            if event is None:
                return
            self._hand_out(event)

    def _hand_out(self, event: Event) -> None:
        self._seq = event.seq
        self._backlog[self._run].events.pop(event.seq, None)
        self._put(event if self._wanted(event) else None)
        self._report_synced()

    def _lose(self, last_seq: int) -> None:
        first_seq = self._seq + 1
        self._seq = last_seq
        self._put(Lost(self._run, first_seq, last_seq))
        if self._run == self._current_run and (self._snapshot is None or self._snapshot.seq < last_seq):
            # What was lost may have opened or closed episodes.
            self._snapshot_needed = True
        self._report_synced()

    def _report_synced(self) -> None:
        snapshot = self._snapshot
        if snapshot is None or self._snapshot_needed or self._run != snapshot.run:
            return
        if self._seq >= snapshot.seq:
            self._snapshot = None
            self._put(Synced(snapshot.run, snapshot.seq, [e for e in snapshot.open if self._wanted(e)]))

    def _put(self, item: Item | None) -> None:
        if item is None and self._out and self._out[-1][1] is None:
            self._out.pop()
        self._out.append((Position(self._run, self._seq) if self._run else None, item))
