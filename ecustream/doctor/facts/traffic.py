"""Takes some seconds of traffic, from an interface or a trace, and counts what is in it."""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ecustream.config import Config
from ecustream.doctor.facts.link import LinkFacts, read_link
from ecustream.ledger import Ledger
from ecustream.run.live_lanes import LiveLines, open_live_lanes
from ecustream.run.trace_lanes import open_trace
from ecustream.scoring.manifest import BundleInfo
from ecustream.stages import StageClock
from ecustream.traffic import Line

__all__ = ["Seen", "listen", "read_trace"]


@dataclass
class Seen:
    """What was seen of one interface or trace.

    Attributes:
        of: its name.
        seconds: how long.
        lines: how many of each PDU, by key.
        names: of the PDUs, by key.
        buses: of the PDUs, by key.
        frames: frames of UDP that came.
        frame_bytes: bytes of these; 0 of a trace.
        dropped: frames that the kernel dropped because nobody took them in time.
        undecoded: frames and PDUs that were read and gave no line.
        troubles: sentences on outages.
        before: the interface when it began; None of a trace.
        after: and when it was over.
    """

    of: str
    seconds: float = 0.0
    lines: Counter[str] = field(default_factory=Counter)
    names: dict[str, str] = field(default_factory=dict)
    buses: dict[str, str] = field(default_factory=dict)
    frames: int = 0
    frame_bytes: int = 0
    dropped: int = 0
    undecoded: int = 0
    troubles: list[str] = field(default_factory=list)
    before: LinkFacts | None = None
    after: LinkFacts | None = None

    @property
    def count(self) -> int:
        """Lines in all."""
        return self.lines.total()

    @property
    def lines_per_s(self) -> float:
        """Lines a second."""
        return self.count / self.seconds if self.seconds > 0 else 0.0

    def take(self, lines: Iterable[Line]) -> None:
        """Count these lines."""
        for line in lines:
            stream = line.stream
            if not self.lines[stream.key]:
                self.names[stream.key], self.buses[stream.key] = stream.name, stream.source
            self.lines[stream.key] += 1


def listen(config: Config, info: BundleInfo, interfaces: Sequence[str], seconds: float) -> list[Seen]:
    """Capture on all of these interfaces at once, as a run does, for so many seconds.

    Raises:
        EcustreamError: one of them cannot be captured on, or a key is wrong.
    """
    seen = [Seen(name) for name in interfaces]
    said: list[str] = []
    clock = StageClock(enabled=False)
    lanes = open_live_lanes(config, info, interfaces, threading.Condition(), clock, said.append)
    # Of each lane only where its lines come from: nobody scores them here.
    sources = [lane.source for lane in lanes]
    failures: list[BaseException] = []
    threads = [
        threading.Thread(target=_take, args=(part, source, failures), daemon=True)
        for part, source in zip(seen, sources, strict=True)
    ]
    before = [read_link(name) for name in interfaces]
    began_s = time.monotonic()
    for thread in threads:
        thread.start()
    try:
        time.sleep(seconds)
    finally:
        took_s = time.monotonic() - began_s
        for source in sources:
            assert isinstance(source, LiveLines)
            source.capture.stop()
        for thread in threads:
            thread.join()
        after = [read_link(name) for name in interfaces]
        for source in sources:
            source.close()
    if failures:
        raise failures[0]
    for part, lane, link, later in zip(seen, lanes, before, after, strict=True):
        part.seconds, part.before, part.after = took_s, link, later
        part.frame_bytes = lane.source.bytes_read
        part.troubles = [sentence for sentence in said if f"interface {part.of} " in sentence]
        _count(part, lane.ledger)
    return seen


def read_trace(config: Config, info: BundleInfo, path: Path, seconds: float) -> Seen:
    """Read the first so many seconds of a trace.

    Raises:
        EcustreamError: it cannot be read, or a key is wrong.
    """
    seen = Seen(path.name)
    ledger = Ledger()
    trace = open_trace(config, info, path, ledger)
    first_ns = last_ns = 0
    limit_ns = round(seconds * 1e9)
    try:
        for batch in trace:
            if not batch:
                continue
            first_ns = first_ns or batch[0].time_ns
            within = [line for line in batch if line.time_ns - first_ns <= limit_ns]
            seen.take(within)
            last_ns = max(last_ns, *(line.time_ns for line in within), 0)
            if len(within) < len(batch):
                break
    finally:
        trace.close()
    seen.seconds = max(0.0, (last_ns - first_ns) / 1e9)
    _count(seen, ledger)
    return seen


def _take(seen: Seen, source: Iterable[list[Line]], failures: list[BaseException]) -> None:
    try:
        for lines in source:
            seen.take(lines)
    except BaseException as error:  # the thread's root: the caller raises it again
        failures.append(error)


def _count(seen: Seen, ledger: Ledger) -> None:
    seen.frames = ledger.entered["frames"]
    seen.dropped = ledger.ended("frames", "kernel_dropped")
    seen.undecoded = ledger.ended("frames", "unreadable") + ledger.ended("pdus", "unreadable")
