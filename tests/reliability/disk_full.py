"""The disk of the logs and the journal fills up in the middle of a run, and has room again."""

import re
import time
from pathlib import Path
from typing import Any

from ecustream.publish.journal import Journal
from tests.reliability.command import Running, running, wait_for
from tests.reliability.disks import Disk, fill_up, mounted
from tests.reliability.left import printed_ledger, sequence_of
from tests.reliability.listener import Heard, listening
from tests.reliability.row import Row, Scale, times
from tests.reliability.traces import SOURCE, eventful, write_pcap

__all__ = ["measure"]

DISK_BYTES: dict[Scale, int] = {"short": 64 << 20, "long": 1 << 30}
"""Room for all that the run writes, which is MB a second."""
ROUNDS: dict[Scale, int] = {"short": 1, "long": 10}
SPEED = 10
HOLD_S = 0.5
"""How long the disk stays full after all have told of it."""


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`."""
    trace = write_pcap(folder / "trace.pcap", eventful(1 + 2 * ROUNDS[scale]))
    rounds = 0
    told_s: list[float] = []
    with mounted(folder / "disk", DISK_BYTES[scale]) as disk:
        logs = [
            *("--pcap", trace, "--source", SOURCE, "--speed", SPEED, "--set", "detect.join_ms=0"),
            *("--events", disk.inside / "events.jsonl", "--score-log", disk.inside / "scores.csv"),
            *("--journal", disk.inside / "journal", "--set", "publish.history_events=100000"),
        ]
        with running(folder, *logs, prefix=disk.enter) as run, listening(run.pub, run.reply) as heard:
            while rounds < ROUNDS[scale]:
                wait_for(run, lambda status: status["seq"] >= 50 and not _in_trouble(status))
                told_s.append(_fill_and_free(run, disk))
                rounds += 1
            run.process.terminate()
            code = run.process.wait(60)
            heard.wait()
            return _row(run, disk, heard, code, rounds, max(told_s))


def _fill_and_free(run: Running, disk: Disk) -> float:
    """Fills the disk, waits until that is told, and frees it; returns how long the telling took, in s."""
    ballast = disk.outside / "ballast"
    began_s = time.monotonic()
    fill_up(ballast)

    try:
        wait_for(run, lambda status: len(_in_trouble(status)) == 3)
        took_s = time.monotonic() - began_s
        time.sleep(HOLD_S)
    finally:
        ballast.unlink()
    wait_for(run, lambda status: not _in_trouble(status))
    return took_s


def _in_trouble(status: dict[str, Any]) -> list[str]:
    """What a status says that cannot be written."""
    if status["state"] not in ("degraded", "overloaded"):
        return []
    named = (
        "events.jsonl: events cannot be written",
        "scores.csv: scores cannot be written",
        "journal: No space",
    )
    return [what for what in named if what in (status["reason"] or "")]


def _row(run: Running, disk: Disk, heard: Heard, code: int, rounds: int, told_s: float) -> Row:
    said = run.err.read_text()
    seqs = sequence_of(disk.outside / "events.jsonl")
    books = printed_ledger(run.out.read_text())
    published = books["events"]["published"]
    missing = re.search(r"events.jsonl: (\d+) of (\d+) events could not be written: No space", said)
    rows = (disk.outside / "scores.csv").read_bytes().count(b"\n") - 1
    lines = books["lines"]["scored"]
    journal = Journal(disk.outside / "journal", max_bytes=100_000_000, max_age_s=3600)
    journalled = sum(kept.last_seq + 1 - kept.first_seq for kept in journal.runs())
    journal.close()
    holds = (
        code == 130  # a trace that was stopped
        and heard.all_of_one_run(published)
        and missing is not None
        and seqs is not None
        and len(seqs) + int(missing[1]) == published
        and journalled == published
        and rows == lines
    )
    figure = (
        f"the subscriber got {len(heard.events):,} of {published:,} events; "
        f"state `degraded` within {told_s:.1f} s, `running` again after; the event log lacks "
        f"{missing[1] if missing else 'an untold number of'} events, which is told, and has "
        f"{'whole lines only' if seqs is not None else 'BROKEN LINES'}; the journal has {journalled:,} "
        "events, the score log "
        f"{rows:,} of {lines:,} rows; exit code {code}"
    )
    return Row(
        "the disk of the logs is full, then has room again",
        f"event log, journal and score log on one tmpfs, {times(rounds)} full for {HOLD_S:g} s or more, in "
        "mid-replay, with a subscriber",
        figure,
        holds,
    )
