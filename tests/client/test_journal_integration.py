"""Publisher, journal and subscriber together, killed and restarted at any moment on either side."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from ecustream import Subscriber
from ecustream.client.items import Alive, Lost, NewRun, Position, Stale, Synced
from ecustream.events import Event
from ecustream.publish.journal import Journal
from ecustream.publish.messages import Status
from ecustream.publish.socket import Publisher
from tests.client.examples import make_event, make_status
from tests.client.sockets import ANY
from tests.publish.journals import held, open_journal, seq_of

pytestmark = pytest.mark.timeout(60)

LARGE_BYTES = 100_000_000
FIRST = Position("run00", 0)
Urls = tuple[str, str]


def run_name(number: int) -> str:
    """A name by which runs sort in their order."""
    return f"run{number:02}"


class Line(msgspec.Struct, omit_defaults=True):
    """What a reader notes of an item: the position after it, and what it was."""

    at: Position
    event: bool = False
    lost: tuple[str, int, int | None] | None = None
    new: tuple[str, str] | None = None


class Notes:
    """The notes of a reader, one line an item, written at once; they survive the reader."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        whole = path.read_bytes().rpartition(b"\n")[0]
        self.lines = [msgspec.json.decode(line, type=Line) for line in whole.splitlines()]
        os.truncate(path, len(whole) + bool(whole))

    @property
    def since(self) -> Position:
        """Where to go on."""
        return self.lines[-1].at if self.lines else FIRST

    @property
    def events(self) -> list[Position]:
        """Every event, in the order of reading."""
        return [line.at for line in self.lines if line.event]

    @property
    def lost(self) -> list[tuple[str, int, int | None]]:
        """Every loss that was named."""
        return [line.lost for line in self.lines if line.lost is not None]

    def read(self, urls: Urls, enough: Callable[[Position], bool]) -> None:
        """Goes on reading where the notes end until the position is enough."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        with Subscriber(*urls, since=self.since) as subscriber:
            while not enough(at := subscriber.position or FIRST):
                match next(subscriber), subscriber.position or at:
                    case Event(), at:
                        line = Line(at, event=True)
                    case Lost(run, first_seq, last_seq), at:
                        line = Line(at, lost=(run, first_seq, last_seq))
                    case NewRun(old, new), at:
                        line = Line(at, new=(old, new))
                    case item, _:
                        assert isinstance(item, Status | Synced | Stale | Alive)
                        continue
                os.write(descriptor, msgspec.json.encode(line) + b"\n")
        os.close(descriptor)


def open_publisher(
    folder: Path, run: str, urls: Urls, max_bytes: int = LARGE_BYTES, history_events: int = 20
) -> Publisher:
    """A publisher with the journal in `folder`, whose memory does not reach far."""
    journal = Journal(folder, max_bytes=max_bytes, max_age_s=3600)
    return Publisher(*urls, make_status(run, 0), history_events=history_events, journal=journal)


def publish(publisher: Publisher, run: str, seqs: range, reason: str = "late") -> None:
    """Publishes events, then a status."""
    for seq in seqs:
        publisher.publish(msgspec.structs.replace(make_event(run, seq), reason=reason))
    publisher.publish_status(make_status(run, seqs.stop - 1))


def in_turns(tmp_path: Path, counts: list[int], max_bytes: int, chance: random.Random) -> Notes:
    """Runs of so many events each, at the end one of none; the reader comes now and then, at last to stay."""
    urls = ANY, ANY
    notes = tmp_path / "notes.jsonl"
    for number, count in enumerate([*counts, 0]):
        run = run_name(number)
        publisher = open_publisher(tmp_path / "journal", run, urls, max_bytes)
        urls = publisher.pub_url, publisher.reply_url
        done = 0
        while done < count:
            part = min(count - done, chance.randint(1, 1 + count // 2))
            publish(publisher, run, range(done + 1, done + part + 1))
            done += part
            if chance.random() < 0.5:
                end = Position(run, chance.randint(0, done))
                Notes(notes).read(urls, end.__le__)
        if number == len(counts):
            Notes(notes).read(urls, Position(run, 0).__le__)
        publisher.close(linger_ms=0)
    return Notes(notes)


@pytest.mark.parametrize("seed", range(4))
def test_within_the_bounds_nothing_is_lost(tmp_path: Path, seed: int) -> None:
    """Runs of many and of no events, a reader who comes and goes: every event once, in order, run by run."""
    counts = [40, 0, 700, 0, 0, 3, 120, 1]
    notes = in_turns(tmp_path, counts, LARGE_BYTES, random.Random(seed))
    assert notes.events == [(run_name(i), seq) for i, n in enumerate(counts) for seq in range(1, n + 1)]
    assert notes.lost == []
    new = [line.new for line in notes.lines if line.new is not None]
    assert new == [(run_name(i), run_name(i + 1)) for i in range(len(counts))]


@pytest.mark.parametrize("seed", range(6))
def test_beyond_the_bounds_what_is_missing_is_named(tmp_path: Path, seed: int) -> None:
    """With room for about a hundred events, each is either read once or named as lost, never both.

    A run of which nothing is left when the reader comes cannot be named; then the end of the run before it
    is, as unknown.
    """
    counts = [90, 0, 400, 60, 1, 30, 250, 20, 20, 5]
    notes = in_turns(tmp_path, counts, 50_000, random.Random(seed))
    assert notes.lost
    number, seq = 0, 0
    end_unknown = False
    for line in notes.lines:
        if line.new is not None:
            assert line.new[0] == run_name(number)
            assert end_unknown or seq == counts[number]
            before, number = number, int(line.new[1][3:])
            assert number == before + 1 or end_unknown
            seq, end_unknown = 0, False
        elif line.lost is not None:
            run, first_seq, last_seq = line.lost
            assert (run, first_seq) == (run_name(number), seq + 1)
            assert last_seq is None or first_seq <= last_seq <= counts[number]
            end_unknown = last_seq is None
            seq = seq if last_seq is None else last_seq
        else:
            assert line.at == (run_name(number), seq + 1)
            seq += 1
    assert (number, seq) == (len(counts), 0)


def test_events_that_are_long(tmp_path: Path) -> None:
    """A thousand events of three kilobytes all come, in answers that are cut at a megabyte."""
    publisher = open_publisher(tmp_path / "journal", FIRST.run, (ANY, ANY))
    publish(publisher, FIRST.run, range(1, 1001), "late " * 600)
    publisher.close(linger_ms=0)
    publisher = open_publisher(tmp_path / "journal", "run01", (ANY, ANY))
    notes = Notes(tmp_path / "notes.jsonl")
    notes.read((publisher.pub_url, publisher.reply_url), Position("run01", 0).__le__)
    publisher.close()
    notes = Notes(notes.path)
    assert notes.events == [(FIRST.run, seq) for seq in range(1, 1001)]
    assert notes.lost == []


# Forks what each line on standard input says, since imports alone take half a second: a publisher that goes
# on until it is killed or has published `count` events, or a reader.
NURSERY = """
import ctypes, os, signal, sys, time
from pathlib import Path
from tests.client.test_journal_integration import Notes, open_publisher, publish

def serve(folder, run, pub, reply, count):
    publisher = open_publisher(Path(folder), run, (pub, reply))
    print(os.getpid(), publisher.pub_url, publisher.reply_url, flush=True)
    seq = 0
    while True:
        part = min(7, count - seq)
        publish(publisher, run, range(seq + 1, seq + part + 1))
        seq += part
        time.sleep(0.002 if part else 0.05)

def read(path, pub, reply, end):
    print(os.getpid(), flush=True)
    Notes(Path(path)).read((pub, reply), lambda at: at == (end, 50))

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: ends with the test
        what, *words = line.split()
        serve(*words[:4], int(words[4])) if what == "serve" else read(*words)
        os._exit(0)
"""


class Nursery:
    """Processes that are forked on demand and killed at will."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def fork(self, *words: object) -> list[str]:
        """Starts a publisher or reader and returns what it says: its process id, then its addresses."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(*words, file=self._process.stdin, flush=True)
        return self._process.stdout.readline().split()

    def close(self) -> None:
        """Kills all of them."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    """Kept until the test ends."""
    nursery = Nursery()
    yield nursery
    nursery.close()


def gone(pid: str) -> bool:
    """Whether a process has ended."""
    return not Path("/proc", pid).exists()


def kill(pid: str) -> None:
    """Kills a process, unless it has ended, and waits until it is gone."""
    if not gone(pid):
        os.kill(int(pid), signal.SIGKILL)
    wait_for(lambda: gone(pid))


def wait_for(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Waits for something that must come."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


@pytest.mark.parametrize("seed", range(2))
def test_both_sides_killed_at_random(tmp_path: Path, nursery: Nursery, seed: int) -> None:
    """Kill -9 of either side, many times: what all readers noted is the journal, event by event."""
    chance = random.Random(seed)
    folder, path = tmp_path / "journal", tmp_path / "notes.jsonl"
    path.touch()
    runs = [run_name(number) for number in range(6)]
    reader = publisher = "none"
    urls = [ANY, ANY]
    for run in runs:
        kill(publisher)
        publisher, *urls = nursery.fork("serve", folder, run, *urls, 50 if run == runs[-1] else 10**9)
        for _ in range(chance.randint(0, 3)):
            time.sleep(chance.uniform(0, 0.2))
            kill(reader)
            (reader,) = nursery.fork("read", path, *urls, runs[-1])
        time.sleep(chance.uniform(0, 0.2))
    kill(reader)
    (reader,) = nursery.fork("read", path, *urls, runs[-1])
    wait_for(lambda: gone(reader))
    kill(publisher)
    notes = Notes(path)
    journal = open_journal(folder, max_bytes=LARGE_BYTES)
    assert notes.lost == []
    kept = [Position(run, seq_of(body)) for run in runs for body in held(journal, run)]
    assert notes.events == kept
    assert kept == [(run, seq) for run, last in dict(kept).items() for seq in range(1, last + 1)]
    assert len(dict(kept)) >= 4
    journal.close()
