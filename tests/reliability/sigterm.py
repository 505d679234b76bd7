"""SIGTERM while more comes than can be scored."""

import statistics
import time
from pathlib import Path
from typing import NamedTuple

from tests.reliability.command import running, wait_for
from tests.reliability.left import printed_ledger, sequence_of
from tests.reliability.listener import listening
from tests.reliability.row import Row, Scale
from tests.reliability.traces import SOURCE, demo_packets, repeated, write_pcap

__all__ = ["measure"]

TIMES: dict[Scale, int] = {"short": 1, "long": 20}
LOADS = (
    (
        "faster than it can be scored",
        ("--speed", 200, "--set", "ring.when_full=skip", "--set", "ring.lines=20000"),
    ),
    ("at full speed", ("--speed", "max")),
)


class Stopped(NamedTuple):
    """A run that was sent SIGTERM.

    Attributes:
        code: its exit code.
        seconds: from the signal to its end.
        waiting: lines that waited to be scored at the signal or a little before.
        scored: whether all that was read was scored, or skipped before; the ledger balances in any case.
        heard: whether a subscriber and the event log have every event.
    """

    code: int
    seconds: float
    waiting: int
    scored: bool
    heard: bool


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`."""
    trace = write_pcap(folder / "trace.pcap", repeated(demo_packets(), 20))
    stopped: dict[str, list[Stopped]] = {what: [] for what, _ in LOADS}
    for _ in range(TIMES[scale]):
        for what, arguments in LOADS:
            stopped[what].append(_stop(folder, trace, *arguments))
    every = [stop for stops in stopped.values() for stop in stops]
    fine = sum(stop.code == 130 and stop.scored and stop.heard for stop in every)
    figures = [
        f"{what}: ended after {statistics.median(stop.seconds for stop in stops):.2f} s "
        f"(longest {max(stop.seconds for stop in stops):.2f} s), "
        f"up to {max(stop.waiting for stop in stops):,} lines were waiting and were scored first"
        for what, stops in stopped.items()
    ]
    return Row(
        "SIGTERM under load",
        f"{len(every)} replays that bring more than can be scored, stopped half a second after 5,000 lines; "
        "promised: exit code 130, a ledger that balances, each line scored or counted as skipped, each event "
        "published and logged",
        f"so in {fine} of {len(every)}; " + "; ".join(figures),
        fine == len(every),
    )


def _stop(folder: Path, trace: Path, *arguments: object) -> Stopped:
    events = folder / "events.jsonl"
    given = ("--pcap", trace, "--source", SOURCE, "--events", events, *arguments)
    with running(folder, *given) as run, listening(run.pub, run.reply) as heard:
        wait_for(run, lambda status: status["seq"] > 0)
        status = wait_for(run, lambda status: status["ledger"]["lines"].get("scored", 0) > 5_000)
        time.sleep(0.5)
        began_s = time.monotonic()
        run.process.terminate()
        code = run.process.wait(60)
        seconds = time.monotonic() - began_s
        heard.wait()
        out = run.out.read_text()
    lines = status["ledger"]["lines"]
    waiting = lines["entered"] - sum(count for end, count in lines.items() if end != "entered")
    books = printed_ledger(out)
    published = books["events"]["published"]
    heard_all = heard.all_of_one_run(published) and sequence_of(events) == list(range(1, published + 1))
    scored = set(books["lines"]) <= {"entered", "scored", "overwritten{backlog}"}
    return Stopped(code, seconds, waiting, scored, heard_all)
