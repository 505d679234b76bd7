"""The same trace again and again, at full speed and paced."""

import csv
import hashlib
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from ecustream.events import Event
from tests.reliability.command import run_to_end
from tests.reliability.row import Row, Scale
from tests.reliability.traces import DEMO_TRACE, SOURCE, demo_packets, write_pcap

__all__ = ["measure"]

TIMES: dict[Scale, int] = {"short": 2, "long": 100}
SPEED = 1000
TOLERANCE_NATS = 1e-3


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`."""
    trace = DEMO_TRACE
    if scale == "short":
        trace = write_pcap(folder / "trace.pcap", demo_packets()[:5000])
    logs = {_run(trace, folder, "max", folder / "max.csv") for _ in range(TIMES[scale])}
    events = _told(folder)
    _run(trace, folder, str(SPEED), folder / "paced.csv")
    paced = _told(folder)
    same_events = len(events) > 2 and len(events) == len(paced) and all(map(_same, events, paced))
    full, slow = (_nats(folder / name) for name in ("max.csv", "paced.csv"))
    comparable = full.shape == slow.shape and bool((np.isnan(full) == np.isnan(slow)).all())
    largest = float(np.nanmax(abs(full - slow))) if comparable else np.inf
    return Row(
        "the same trace again",
        f"{TIMES[scale]} runs at full speed, each in a process of its own, and one paced at {SPEED} "
        "times real "
        f"time; {len(full):,} lines, {len(events)} events",
        f"event logs {'identical to the byte' if len(logs) == 1 else f'of {len(logs)} KINDS'}; paced: "
        f"{'the same events' if same_events else 'OTHER EVENTS'}, scores differ by {largest:.1g} nats at "
        "most",
        len(logs) == 1 and same_events and largest <= TOLERANCE_NATS,
    )


def _run(trace: Path, folder: Path, speed: str, scores: Path) -> str:
    """Runs once; the digest of its event log."""
    events = folder / "events.jsonl"
    given = ("--no-publish", "--quiet", "--source", SOURCE, "--speed", speed)
    done = run_to_end(*given, "--pcap", trace, "--events", events, "--score-log", scores)
    if done.returncode:
        raise RuntimeError(f"the run ended with {done.returncode}: {done.stderr.strip()}")
    return hashlib.sha256(events.read_bytes()).hexdigest()


def _told(folder: Path) -> list[Event]:
    """The events without the run's id, which depends on the speed."""
    events = []
    for line in (folder / "events.jsonl").read_bytes().splitlines():
        event = msgspec.json.decode(line, type=Event)
        event.id = event.id.removeprefix(f"{event.run}-")
        event.run = ""
        events.append(event)
    return events


def _same(event: Event, other: Event) -> bool:
    """Whether they say the same, with scores that differ by little."""
    one, two = (msgspec.structs.asdict(each.score) for each in (event, other))
    near = all(
        one[name] == two[name]
        or (
            isinstance(one[name], float)
            and isinstance(two[name], float)
            and abs(one[name] - two[name]) < 0.02
        )
        for name in one
    )
    return near and msgspec.structs.replace(event, score=other.score) == other


def _nats(path: Path) -> npt.NDArray[np.float64]:
    """The surprisals of a score log, a row a line."""
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        names = [name for name in rows.fieldnames or [] if name.endswith("_nats")]
        return np.array([[float(row[name] or "nan") for name in names] for row in rows])
