"""The disk of the logs and the journal is read-only, from the start or in the middle of a run."""

import fcntl
import os
import struct
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
# EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_LOGFLUSH: the file system takes nothing from then on, as after an
# error of its disk; one with open files cannot be remounted read-only.
_SHUTDOWN = 0x8004587D
_FLUSHED = 1


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`; both scales are the same."""
    refused = _refusals(folder)
    try:
        went, middle = _in_the_middle(folder)
    except Skipped as why:
        went, middle = True, f"in the middle not measured: {why}"
    wrong = [said for said in refused if said is not None]
    figure = f"at the start: {4 - len(wrong)} of 4 refused with exit code 2 and one sentence"
    return Row(
        "read-only disk",
        "event log, score log, new and old journal on a tmpfs mounted ro; ext4 that is shut down in mid-run",
        "; ".join([figure, *wrong, middle]),
        went and not wrong,
    )


def _refusals(folder: Path) -> list[str | None]:
    """For each output what was not as promised, or None."""
    said: list[str | None] = []
    with mounted(folder / "disk", 1 << 20) as disk:
        (disk.outside / "old").mkdir()
        (disk.outside / "old" / "lock").touch()
        problem = disk.remount("ro")
        if problem:
            raise Skipped(problem)
        sockets = ("--pub", "tcp://127.0.0.1:*", "--reply", "tcp://127.0.0.1:*")
        for option, name in (
            ("--events", "events.jsonl"),
            ("--score-log", "scores.csv"),
            ("--journal", "new"),
            ("--journal", "old"),
        ):
            path = disk.inside / name
            done = run_to_end(*sockets, "--pcap", DEMO_TRACE, option, path, prefix=disk.enter)
            sentence = done.stderr.strip()
            fine = done.returncode == 2 and "\n" not in sentence and str(path) in sentence
            fine = fine and "Read-only file system" in sentence
            said.append(None if fine else f"{option} {name}: exit code {done.returncode}, {sentence!r}")
    return said


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
            wait_for(run, lambda status: status["seq"] >= 1000)
            run.process.terminate()
            code = run.process.wait(60)
            heard.wait()
            out, err = run.out.read_text(), run.err.read_text()
    told = [name for name in ("events.jsonl", "scores.csv", "journal") if str(inside.inside / name) in err]
    whole = heard.all_of_one_run(len(heard.events)) and len(heard.events) > 1000
    fine = code == 130 and bool(printed_ledger(out)) and whole and len(told) == 3 and "Traceback" not in err
    return fine, (
        f"in the middle: exit code {code}, the subscriber got all {len(heard.events):,} events, "
        f"state degraded ({status['reason'].split('; ')[0].rsplit(': ', 1)[-1]}), "
        f"told at the end of {', '.join(told) or 'NOTHING'}"
    )


def _shut_down(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _FLUSHED))
    except OSError as error:
        raise Skipped(f"the file system cannot be shut down: {error}") from error
    finally:
        os.close(descriptor)
