"""Readers that stand still, and either side killed again and again, for seconds or in full length.

The short variant of each always runs. The long ones take some minutes, and with `-s` say their figures:

    ECUSTREAM_ENDURANCE=1 pytest -s tests/client/test_endurance.py -k long
"""

import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from ecustream.bench.trial import ReaderReport, Transport, Trial
from tests.client.sockets import ANY
from tests.client.test_journal_integration import LARGE_BYTES, Notes, Nursery, gone, kill, run_name, wait_for
from tests.client.test_journal_integration import nursery as nursery
from tests.publish.journals import held, open_journal, seq_of

LONG = (
    pytest.mark.skipif("ECUSTREAM_ENDURANCE" not in os.environ, reason="ECUSTREAM_ENDURANCE is not set"),
    pytest.mark.timeout(400),
)
LEAD_S = 1.0


def memory_bytes(pid: int) -> int:
    """What a process holds in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def figures(readers: list[ReaderReport], first: int, last: int) -> str:
    """The times from `publish()` to the loop of these readers, for the events between."""
    times_ns = np.concatenate([np.asarray(report.latencies_ns[first:last]) for report in readers])
    p50, p99, largest = np.percentile(times_ns, (50, 99, 100)) / 1e6
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {largest:.1f} ms"


@pytest.mark.parametrize(
    ("transport", "stopped", "others", "events_per_s", "seconds"),
    [
        pytest.param("ipc", 2, 1, 3000, 3, id="short"),
        pytest.param("tcp", 1, 4, 1000, 60, id="long, one", marks=LONG),
        pytest.param("tcp", 20, 4, 1000, 60, id="long, twenty", marks=LONG),
    ],
)
def test_readers_that_stand_still(
    tmp_path: Path,
    transport: Transport,
    stopped: int,
    others: int,
    events_per_s: int,
    seconds: int,
) -> None:
    """They lose nothing once they go on, the publisher's memory is bounded, and the others feel nothing."""
    events = round((2 * LEAD_S + seconds) * events_per_s)
    with Trial(tmp_path, transport, stopped + others, events, tmp_path / "journal") as trial:
        trial.begin(events_per_s)
        time.sleep(LEAD_S)
        for pid in trial.reader_pids[:stopped]:
            os.kill(pid, signal.SIGSTOP)
        sizes_bytes = []
        for _ in range(seconds):
            sizes_bytes.append(memory_bytes(trial.publisher_pid))
            time.sleep(1)
        for pid in trial.reader_pids[:stopped]:
            os.kill(pid, signal.SIGCONT)
        outcome = trial.end(timeout_s=60)
    assert [(report.read, report.extra, report.lost) for report in outcome.readers] == [(events, 0, 0)] * (
        stopped + others
    )
    assert outcome.queue_full >= 1
    assert outcome.requests >= stopped
    assert outcome.peak_bytes - sizes_bytes[0] < 60_000_000
    undisturbed = outcome.readers[stopped:]
    first, last = round(LEAD_S * events_per_s), round((LEAD_S + seconds) * events_per_s)
    assert np.median(np.concatenate([report.latencies_ns[first:last] for report in undisturbed])) < 5e8
    megabytes = " ".join(f"{size / 1e6:.0f}" for size in sizes_bytes[:: max(1, seconds // 12)])
    print(
        f"\n{stopped} stopped for {seconds} s; the {others} others, before: {figures(undisturbed, 0, first)}"
    )
    print(f"  meanwhile: {figures(undisturbed, first, last)}; after: {figures(undisturbed, last, events)}")
    print(f"  publisher: {megabytes} MB meanwhile, {outcome.peak_bytes / 1e6:.0f} MB at most")
    print(f"  {outcome.requests} requests, queue full {outcome.queue_full} times")


@pytest.mark.parametrize("kills", [pytest.param(4, id="short"), pytest.param(100, id="long", marks=LONG)])
def test_either_side_killed_again_and_again(tmp_path: Path, nursery: Nursery, kills: int) -> None:
    """So many kill -9 of each side, in any order: what the readers noted is the journal, event by event."""
    chance = random.Random(kills)
    folder, path = tmp_path / "journal", tmp_path / "notes.jsonl"
    path.touch()
    runs = [run_name(number) for number in range(kills + 1)]
    left = iter(runs)
    publisher, *urls = nursery.fork("serve", folder, next(left), ANY, ANY, 10**9)
    (reader,) = nursery.fork("read", path, *urls, runs[-1])
    for side in chance.sample(["publisher", "reader"], counts=[kills, kills], k=2 * kills):
        time.sleep(chance.uniform(0, 0.2))
        if side == "publisher":
            kill(publisher)
            run = next(left)
            publisher, *urls = nursery.fork("serve", folder, run, *urls, 50 if run == runs[-1] else 10**9)
        else:
            kill(reader)
            (reader,) = nursery.fork("read", path, *urls, runs[-1])
    wait_for(lambda: gone(reader), 60)
    kill(publisher)
    notes = Notes(path)
    journal = open_journal(folder, max_bytes=LARGE_BYTES)
    assert notes.lost == []
    assert notes.events == [(run, seq_of(body)) for run in runs for body in held(journal, run, 5000)]
    of_runs = dict(notes.events)
    assert notes.events == [(run, seq) for run, last in of_runs.items() for seq in range(1, last + 1)]
    assert len(of_runs) > kills / 2
    journal.close()
    print(f"\n{kills} kills of each side: {len(notes.events)} events of {len(of_runs)} runs, each once")
