"""The disk of the logs and the journal is read-only, from the start or in the middle of a run."""

import fcntl
import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.reliability.command import run_to_end, running, wait_for
from tests.reliability.disk_full import SPEED
from tests.reliability.disks import Disk, mounted
from tests.reliability.left import printed_ledger
from tests.reliability.listener import listening
from tests.reliability.row import Row, Scale, Skipped
from tests.reliability.traces import DEMO_TRACE, SOURCE, eventful, write_pcap

__all__ = ["measure"]

IMAGE_BYTES = 32 << 20
EVENTS = 300
"""So many are told before it is ended; the disk takes the first 50 or more of them."""
# EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_LOGFLUSH: the file system takes nothing from then on, as after an
# error of its disk; one with open files cannot be remounted read-only.
_SHUTDOWN = 0x8004587D
_FLUSHED = 1


_OUTPUTS = (
    ("--events", "events.jsonl"),
    ("--score-log", "scores.csv"),
    ("--journal", "new"),
    ("--journal", "old"),
)


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`: the short form starts fewer runs that are refused."""
    refused = _refusals(folder, _OUTPUTS[::3] if scale == "short" else _OUTPUTS)
    try:
        went, middle = _in_the_middle(folder)
    except Skipped as why:
        went, middle = True, f"in the middle not measured: {why}"
    wrong = [said for said in refused if said is not None]
    right = f"{len(refused) - len(wrong)} of {len(refused)}"
    figure = f"at the start: {right} refused with exit code 2 and one sentence"
    return Row(
        "the disk of the logs is read-only, or fails",
        "event log, score log, new and old journal on a tmpfs mounted read-only; an ext4 that takes "
        "nothing any "
        "more in mid-replay",
        "; ".join([figure, *wrong, middle]),
        went and not wrong,
    )


def _refusals(folder: Path, outputs: Sequence[tuple[str, str]]) -> list[str | None]:
    """For each output what was not as promised, or None."""
    with mounted(folder / "disk", 1 << 20) as disk:
        (disk.outside / "old").mkdir()
        (disk.outside / "old" / "lock").touch()
        problem = disk.remount("ro")
        if problem:
            raise Skipped(problem)
        sockets = ("--pub", "tcp://127.0.0.1:*", "--reply", "tcp://127.0.0.1:*")

        def refusal(option: str, name: str) -> str | None:
            path = disk.inside / name
            done = run_to_end(*sockets, "--pcap", DEMO_TRACE, option, path, prefix=disk.enter)
            sentence = done.stderr.strip()
            fine = done.returncode == 2 and "\n" not in sentence and str(path) in sentence
            fine = fine and "Read-only file system" in sentence
            return None if fine else f"{option} {name}: exit code {done.returncode}, {sentence!r}"

        # Two at a time, as most of it is that they start.
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(refusal, *zip(*outputs, strict=True)))


def _in_the_middle(folder: Path) -> tuple[bool, str]:
    """Whether the run went on and said so, and what was seen."""
    trace = write_pcap(folder / "trace.pcap", eventful(1))
    with mounted(folder / "ext4", IMAGE_BYTES, image=True) as disk:
        (disk.outside / "logs").mkdir()
        inside = Disk(disk.inside / "logs", disk.outside / "logs", disk.enter)
        logs = [
            *("--pcap", trace, "--source", SOURCE, "--speed", SPEED, "--set", "detect.join_ms=0"),
            *("--events", inside.inside / "events.jsonl", "--score-log", inside.inside / "scores.csv"),
            *("--journal", inside.inside / "journal"),
        ]
        with running(folder, *logs, prefix=disk.enter) as run, listening(run.pub, run.reply) as heard:
            wait_for(run, lambda status: status["seq"] >= 50)
            _shut_down(disk.outside)
            status = wait_for(run, lambda status: "events cannot be written" in (status["reason"] or ""))
            wait_for(run, lambda status: status["seq"] >= EVENTS)
            run.process.terminate()
            code = run.process.wait(60)
            heard.wait()
            out, err = run.out.read_text(), run.err.read_text()
    told = [name for name in ("events.jsonl", "scores.csv", "journal") if str(inside.inside / name) in err]
    published = printed_ledger(out)["events"]["published"]
    whole = heard.all_of_one_run(published) and published >= EVENTS
    fine = code == 130 and whole and len(told) == 3 and "Traceback" not in err
    return fine, (
        f"in the middle: the subscriber got {len(heard.events):,} of {published:,} events, "
        f"state `degraded` ({status['reason'].split('; ')[0].rsplit(': ', 1)[-1]}), "
        f"told at the end of {', '.join(told) or 'NOTHING'}; exit code {code}"
    )


def _shut_down(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _FLUSHED))
    except OSError as error:
        raise Skipped(f"the file system cannot be shut down: {error}") from error
    finally:
        os.close(descriptor)
