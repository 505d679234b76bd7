"""A real subscriber in a thread, which notes what it was told."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ecustream.client.items import Lost, NewRun
from ecustream.client.subscriber import Subscriber
from ecustream.events import Event

__all__ = ["Heard", "listening"]


class Heard:
    """What a subscriber was told.

    Attributes:
        events: (run, seq) of each event, in the order in which they came.
        lost: what it was told to be lost.
        new_runs: the runs that began after the first.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []
        self.lost: list[Lost] = []
        self.new_runs: list[str] = []

    def take(self, item: object) -> None:
        """Note an item."""
        match item:
            case Event():
                self.events.append((item.run, item.seq))
            case Lost():
                self.lost.append(item)
            case NewRun():
                self.new_runs.append(item.new)

    def wait(self, seconds: float = 5.0) -> None:
        """Waits until no more events come."""
        end_s = time.monotonic() + seconds
        count = -1
        while count != len(self.events) and time.monotonic() < end_s:
            count = len(self.events)
            time.sleep(0.2)

    def all_of_one_run(self, count: int) -> bool:
        """Whether the events were those of one run, from 1 to `count`, each once and in order."""
        runs = {run for run, _ in self.events}
        return len(runs) <= 1 and [seq for _, seq in self.events] == list(range(1, count + 1))


@contextmanager
def listening(pub: str, reply: str) -> Iterator[Heard]:
    """Subscribes from the oldest event on, until the end of the block."""
    heard = Heard()
    subscriber = Subscriber(pub, reply, since="start")

    def listen() -> None:
        for item in subscriber:
            heard.take(item)

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield heard
    finally:
        subscriber.close()
        thread.join()
