"""SIGKILL at any instant, and what the next start finds."""

import random
import signal
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ecustream.publish.journal import Journal
from tests.publish.journals import held, seq_of
from tests.reliability.command import Running, ask, running, wait_for
from tests.reliability.left import sequence_of
from tests.reliability.listener import Heard, listening
from tests.reliability.row import Row, Scale, amount, times
from tests.reliability.traces import SOURCE, eventful, write_pcap

__all__ = ["measure"]

KILLS: dict[Scale, int] = {"short": 2, "long": 100}
LONGEST_RUN_S: dict[Scale, float] = {"short": 0.3, "long": 3.0}
STARTUP_KILLS = 0.2
"""So many of the kills come while it starts."""
STARTUP_S = 1.5
JOURNAL_BYTES = 1_000_000_000


class Life(NamedTuple):
    """A run from start to kill.

    Attributes:
        run: its id; None where it was killed before it said one.
        seq: the last event that it told of.
        ready_s: from its start to its first status `running`; None where that never came.
        whole: whether its event log had whole lines of rising numbers, but for the last.
        cut: whether it ended in the middle of a line.
        earlier: the runs that it could replay, as it told.
    """

    run: str | None
    seq: int
    ready_s: float | None
    whole: bool
    cut: bool
    earlier: Sequence[dict[str, Any]]


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`."""
    chance = random.Random(9)
    trace = write_pcap(folder / "trace.pcap", eventful(1 if scale == "short" else 4))
    lives: list[Life] = []
    with listening(f"ipc://{folder / 'pub'}", f"ipc://{folder / 'reply'}") as heard:
        for number in range(KILLS[scale] + 1):
            last = number == KILLS[scale]
            # The run's id is derived from trace and configuration: another one for each start.
            with _started(folder, trace, ring_lines=70_000 + number) as run:
                if not last and chance.random() < STARTUP_KILLS:
                    lives.append(_killed_at_start(run, folder, chance.uniform(0, STARTUP_S)))
                    continue
                lives.append(_killed(run, folder, chance.uniform(0, LONGEST_RUN_S[scale]), last))
                if last:
                    run.process.terminate()
                    run.process.wait()
        heard.wait()
    return _row(scale, folder, lives, heard)


def _started(folder: Path, trace: Path, ring_lines: int) -> Any:
    return running(
        folder,
        *("--pcap", trace, "--source", SOURCE, "--speed", 10, "--events", folder / "events.jsonl"),
        *("--journal", folder / "journal", "--set", "detect.join_ms=0"),
        *("--set", "publish.history_events=20", "--set", f"ring.lines={ring_lines}"),
        # By default the oldest events would make room.
        *("--set", f"publish.journal_max_bytes={JOURNAL_BYTES}"),
    )


def _killed_at_start(run: Running, folder: Path, after_s: float) -> Life:
    time.sleep(after_s)
    run.process.send_signal(signal.SIGKILL)
    run.process.wait()
    return Life(None, 0, None, *_log(folder), [])


def _killed(run: Running, folder: Path, after_s: float, last: bool) -> Life:
    began_s = time.monotonic()
    status = wait_for(run, lambda status: status["state"] == "running")
    ready_s = time.monotonic() - began_s
    earlier = ask(run, "runs")["runs"]
    time.sleep(after_s)
    status = ask(run) or status
    if not last:
        run.process.send_signal(signal.SIGKILL)
        run.process.wait()
    whole, cut = (True, False) if last else _log(folder)
    return Life(status["run"], status["seq"], ready_s, whole, cut, earlier)


def _log(folder: Path) -> tuple[bool, bool]:
    """Whether the event log has whole lines but for the last, and whether that is cut."""
    events = folder / "events.jsonl"
    if not events.exists():
        return True, False
    return sequence_of(events, killed=True) is not None, events.read_bytes()[-1:] not in (b"", b"\n")


def _row(scale: Scale, folder: Path, lives: list[Life], heard: Heard) -> Row:
    ready_s = [life.ready_s for life in lives if life.ready_s is not None]
    known = [life for life in lives if life.run is not None]
    journal = Journal(folder / "journal", max_bytes=JOURNAL_BYTES, max_age_s=3600)
    kept = {life.run: [seq_of(event) for event in held(journal, life.run or "", 1000)] for life in known}
    journal.close()
    unbroken = all(seqs == list(range(1, len(seqs) + 1)) for seqs in kept.values())
    complete = all(len(kept[life.run]) >= life.seq for life in known)
    # What a later start could replay of the runs before it, by its own word.
    replayable = all(
        {known[i - 1].run} <= {held["run"] for held in life.earlier} for i, life in enumerate(known) if i
    )
    told = {run: [seq for name, seq in heard.events if name == run] for run in kept}
    heard_all = not heard.lost and all(told[run] == kept[run] for run in kept if run is not None)
    events = sum(map(len, kept.values()))
    broken = sum(not life.whole for life in lives)
    holds = unbroken and complete and replayable and heard_all and not broken
    holds = holds and len(set(kept)) == len(known)
    return Row(
        "SIGKILL of the process",
        f"{times(KILLS[scale])} at a random instant, one in five while it starts, and started again each "
        "time; "
        "a paced replay with event log, journal and sockets",
        f"ready {statistics.median(ready_s):.1f} s after its start (longest {max(ready_s):.1f} s); "
        f"{amount(broken)} of the event logs broken, {sum(life.cut for life in lives)} with half a line "
        "at the end; "
        f"{events:,} events of {len(known)} runs "
        f"{'all once' if unbroken and complete else 'NOT all once'} in the journal; a subscriber that was "
        f"there all the time got {'each of them once, in order' if heard_all else 'NOT each of them once'}",
        holds,
    )
