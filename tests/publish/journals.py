"""Journals for tests: filling them, reading all of them back, small disks."""

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ecustream.publish.journal import Journal
from ecustream.publish.messages import encode
from tests.publish.examples import make_event

HOUR_S = 3600.0


class Clock:
    """A wall clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now_ns = time.time_ns()  # as the files have it

    def __call__(self) -> int:
        """Nanoseconds since 1970."""
        return self.now_ns

    def pass_s(self, seconds: float) -> None:
        """Goes on by that time, or back."""
        self.now_ns += round(seconds * 1e9)


def open_journal(
    folder: Path,
    *,
    max_bytes: int = 10_000_000,
    max_age_s: float = HOUR_S,
    clock: Callable[[], int] = time.time_ns,
) -> Journal:
    """A journal with limits that matter only where a test gives them."""
    return Journal(folder, max_bytes=max_bytes, max_age_s=max_age_s, clock_ns=clock)


def body(run: str, seq: int) -> bytes:
    """The JSON of an event."""
    return encode(make_event(seq, run=run))


def fill(journal: Journal, run: str, count: int) -> None:
    """Begins `run` and appends its events 1 to `count`."""
    journal.begin(run)
    journal.append([(seq, body(run, seq)) for seq in range(1, count + 1)])


def held(journal: Journal, run: str, page_events: int = 7) -> list[bytes]:
    """Every event of `run` that can be had, page by page, over gaps."""
    got: list[bytes] = []
    after = 0
    while True:
        page = journal.page(run, after, page_events, 1 << 20)
        if page.events:
            got += page.events
            after = seq_of(page.events[-1])
        elif page.oldest is not None:
            assert page.oldest > after + 1
            after = page.oldest - 1
        else:
            return got


def seq_of(event: bytes) -> int:
    """The `seq` in the JSON of an event."""
    seq: int = msgspec.json.decode(event)["seq"]
    return seq


def segments(folder: Path) -> list[Path]:
    """The files of a journal, oldest first."""
    return sorted(folder.glob("events-*.jsonl"))


@contextmanager
def small_disk(limit_bytes: int) -> Iterator[None]:
    """No file of this process grows beyond `limit_bytes`; a write that would is cut short."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
