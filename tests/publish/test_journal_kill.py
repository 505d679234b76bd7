"""The journal and kill -9: real processes, real sockets, killed at any moment."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import zmq

from ecustream.publish.journal_index import RunRange
from tests.publish.conftest import Ask, Socket
from tests.publish.examples import make_event
from tests.publish.journals import held, open_journal, segments, seq_of

# Forks a publisher for each line on standard input, since imports alone take half a second. Each publishes
# as fast as it can, in batches as they come, until it is killed.
PUBLISHER = """
import ctypes, os, signal, sys, time
from ecustream.publish.journal import Journal
from ecustream.publish.socket import Publisher
from tests.publish.examples import make_event, make_status

def serve(folder, run, count):
    status = make_status()
    status.run = run
    journal = Journal(folder, max_bytes=int(2e7), max_age_s=3600)
    any_port = "tcp://127.0.0.1:*"
    publisher = Publisher(any_port, any_port, status, journal=journal, history_events=50)
    print(os.getpid(), publisher.pub_url, publisher.reply_url, flush=True)
    for seq in range(1, count + 1):
        publisher.publish(make_event(seq, run=run))
        if seq % 50 == 0:
            publisher.publish_status(status)
    time.sleep(60)

for line in sys.stdin:
    folder, run, count = line.split()
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: ends with the test
        serve(folder, run, int(count))
    os.wait()
    print("gone", flush=True)
"""


class Served(NamedTuple):
    """A publisher that runs in a process of its own."""

    pid: int
    pub_url: str
    reply_url: str


@contextmanager
def nursery() -> Iterator[subprocess.Popen[str]]:
    """The process that forks publishers."""
    with subprocess.Popen(
        [sys.executable, "-c", PUBLISHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def start(process: subprocess.Popen[str], folder: Path, run: str, count: int) -> Served:
    """Starts a publisher that emits `count` events of `run` and then waits."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{folder} {run} {count}\n")
    process.stdin.flush()
    pid, pub_url, reply_url = process.stdout.readline().split()
    return Served(int(pid), pub_url, reply_url)


def kill(process: subprocess.Popen[str], served: Served) -> None:
    """Kills a publisher and waits until it is gone."""
    assert process.stdout is not None
    os.kill(served.pid, signal.SIGKILL)
    assert process.stdout.readline() == "gone\n"


def received(subscriber: Socket, run: str) -> list[bytes]:
    """Every event of `run` that came, also those that still come."""
    got = []
    while subscriber.poll(100):
        body = subscriber.recv_multipart()[1]
        if msgspec.json.decode(body)["run"] == run:
            got.append(body)
    return got


def test_whatever_a_subscriber_saw_is_there_after_a_kill(
    tmp_path: Path, context: zmq.Context[Socket]
) -> None:
    """Killed ten times in the middle of it, each run is whole from its first event past the last one seen."""
    moments = random.Random(7)
    seen: dict[str, list[bytes]] = {}
    with nursery() as process:
        for i in range(10):
            run = f"run{i}"
            served = start(process, tmp_path, run, 1_000_000)
            with context.socket(zmq.SUB) as subscriber:
                subscriber.rcvhwm = 0
                subscriber.subscribe(b"event/")
                subscriber.connect(served.pub_url)
                assert subscriber.poll(5000)
                time.sleep(moments.uniform(0, 0.08))
                kill(process, served)
                seen[run] = received(subscriber, run)
            journal = open_journal(tmp_path, max_bytes=20_000_000)
            kept = held(journal, run, page_events=5000)
            assert journal.runs()[-1] == RunRange(run, 1, len(kept))
            assert [seq_of(event) for event in kept] == list(range(1, len(kept) + 1))
            assert seen[run]
            assert set(seen[run]) <= set(kept)
            assert journal.status(0).damaged == 0
            journal.close()
    size_bytes = sum(path.stat().st_size for path in segments(tmp_path))
    assert size_bytes <= 20_000_000


def test_replay_reaches_over_a_restart(tmp_path: Path, ask: Ask) -> None:
    """A reader who knows a run that was killed gets the rest of it and all after it from the next process."""

    def request(url: str, **fields: Any) -> Any:
        return json.loads(ask(url, json.dumps(fields).encode()))

    def wait_for(url: str, count: int) -> None:
        deadline = time.monotonic() + 10
        while request(url, op="snapshot")["seq"] < count:
            assert time.monotonic() < deadline

    with nursery() as process:
        for run, count in (("first", 900), ("second", 300)):
            served = start(process, tmp_path, run, count)
            wait_for(served.reply_url, count)
            kill(process, served)
        url = start(process, tmp_path, "third", 120).reply_url
        wait_for(url, 120)
        assert request(url, op="snapshot")["oldest"] == 1
        assert request(url, op="runs")["runs"] == [
            {"run": run, "first_seq": 1, "last_seq": last}
            for run, last in (("first", 900), ("second", 300), ("third", 120))
        ]
        reading: str | None = "first"
        got: list[tuple[str, int]] = []
        after = 333
        while reading is not None:
            answer = request(url, op="replay", run=reading, after=after, limit=100)
            for event in answer["events"]:
                assert event == json.loads(msgspec.json.encode(make_event(event["seq"], run=reading)))
                got.append((reading, event["seq"]))
                after = event["seq"]
            if answer["complete"]:
                reading, after = answer["next_run"], 0
        assert got == [
            (run, seq)
            for run, begin, last in (("first", 334, 900), ("second", 1, 300), ("third", 1, 120))
            for seq in range(begin, last + 1)
        ]
