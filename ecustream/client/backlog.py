"""What the stream has brought ahead of the reader, run by run."""

from ecustream.events import Event
from ecustream.publish.messages import Status

__all__ = ["Backlog", "Heard"]


class Heard:
    """What is known of one run: events not handed out yet, its last event, whether it ended in order."""

    def __init__(self) -> None:
        self.events: dict[int, Event] = {}
        self.last_seq = 0
        self.ended = False


class Backlog:
    """The runs from the reader's on, in their order, of which at most `max_events` events are held.

    What is more is not held; that it exists is remembered, so it can be asked for later.
    """

    def __init__(self, max_events: int) -> None:
        self._max_events = max_events
        self._runs: dict[str, Heard] = {}

    def __contains__(self, run: str) -> bool:
        return run in self._runs

    def __getitem__(self, run: str) -> Heard:
        return self._runs[run]

    def add(self, run: str) -> None:
        """Adds a run after all others, unless it is there."""
        self._runs.setdefault(run, Heard())

    def begin_again(self, run: str) -> None:
        """What is known of `run` holds no more; what was before it stays before it."""
        self._runs[run] = Heard()

    def make_last(self, run: str, last_seq: int) -> None:
        """Every other run was before `run`, whose last event is at least `last_seq`."""
        heard = self._runs[run] = self._runs.pop(run, Heard())
        heard.last_seq = max(heard.last_seq, last_seq)

    def after(self, run: str) -> str:
        """The next run that is known of."""
        runs = list(self._runs)
        return runs[runs.index(run) + 1]

    def begin_at(self, run: str, seq: int) -> None:
        """The reader is at `seq` of `run`: what was before is dropped."""
        runs = list(self._runs)
        later = runs[runs.index(run) + 1 :] if run in self._runs else runs[1:]
        heard = self._runs.get(run, Heard())
        heard.events = {number: event for number, event in heard.events.items() if number > seq}
        self._runs = {run: heard, **{each: self._runs[each] for each in later}}

    def hold(self, event: Event, after_seq: int) -> None:
        """Keeps an event whose `seq` is above `after_seq`; of a run that was dropped nothing is kept."""
        heard = self._runs.get(event.run)
        if heard is None or event.seq <= after_seq:
            return
        heard.last_seq = max(heard.last_seq, event.seq)
        if sum(len(each.events) for each in self._runs.values()) < self._max_events:
            heard.events[event.seq] = event

    def take_status(self, status: Status) -> None:
        """Learns from a status how far its run has come."""
        heard = self._runs.get(status.run)
        if heard is not None:
            heard.last_seq = max(heard.last_seq, status.seq)
            heard.ended = status.state == "done"
