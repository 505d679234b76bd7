"""What a scorer that stands still costs, and how soon it has caught up."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from ecustream.scores import ScoreBlock
from ecustream.scoring.scorer import ScoredStream, Scorer
from ecustream.traffic import Line
from tests.namespaces import wait_for
from tests.reliability.live_run import live_run
from tests.reliability.network import own_cable
from tests.reliability.player import playing, stopped
from tests.reliability.row import Row, Scale, amount
from tests.reliability.vehicle import drive

__all__ = ["Gate", "measure", "scorer_behind"]

FRAMES_PER_S = 3300
"""5,000 PDUs a second."""
RING_LINES: dict[Scale, int] = {"short": 5000, "long": 65_536}
STALLS_S: dict[Scale, tuple[float, float]] = {"short": (0.5, 2.0), "long": (5.0, 30.0)}
_CAUGHT_UP_NS = 200_000_000


class Gate:
    """Stands in front of the scorer, shut for a while where it is told so.

    Attributes:
        behind_ns: by how much the oldest line of the last pass was late when it had been scored.
    """

    def __init__(self) -> None:
        self.behind_ns = 0
        self._shut = threading.Event()
        self._opened = threading.Event()
        self._opened.set()

    def pass_through(self, lines: Sequence[Line], until_scored: bool) -> None:
        """Called before and after the scorer."""
        if until_scored:
            self.behind_ns = time.time_ns() - lines[0].time_ns
        elif self._shut.is_set():
            self._shut.clear()
            self._opened.wait(120)

    def stall(self, seconds: float) -> float:
        """Hold the scorer up for so long; how long it took after that until it had caught up, in s."""
        self._opened.clear()
        self._shut.set()
        try:
            time.sleep(seconds)
            self.behind_ns = round(seconds * 1e9)
        finally:
            # Also where this is interrupted: the run ends only once its scorer goes on.
            opened_s = time.monotonic()
            self._opened.set()
        wait_for(lambda: self.behind_ns < _CAUGHT_UP_NS, 90)
        return time.monotonic() - opened_s


@contextmanager
def scorer_behind(gate: Gate) -> Iterator[None]:
    """Every scorer goes through the gate."""
    score = Scorer.score

    def gated(self: Scorer, batch: Sequence[tuple[ScoredStream, Sequence[Line]]]) -> list[ScoreBlock]:
        gate.pass_through(batch[0][1], False)
        blocks = score(self, batch)
        gate.pass_through(batch[0][1], True)
        return blocks

    with mock.patch.object(Scorer, "score", gated):
        yield


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`: a stall that the lines' ring has room for, and one that it has not."""
    trace = drive(folder / "clean.pcap", 60)
    gate = Gate()
    short_s, long_s = STALLS_S[scale]
    with own_cable("stall"), scorer_behind(gate), live_run(folder, ring_lines=RING_LINES[scale]) as run:
        with playing("a0", trace, 600, frames_per_s=FRAMES_PER_S) as player:
            wait_for(lambda: gate.behind_ns)
            time.sleep(0.3)
            short_caught_up_s = gate.stall(short_s)
            lost_by_then = sum(lane.ledger.ended("lines", "overwritten") for lane in run.run._lanes)
            time.sleep(0.2)
            long_caught_up_s = gate.stall(long_s)
            played = stopped(player)
        time.sleep(0.1)
        outcome = run.stop()
    books = outcome.ledger
    lost = books.ended("lines", "overwritten")
    told = sum(event.kind == "capture_gap" and event.phase == "open" for event in run.events())
    per_s = books.entered["pdus"] / played.seconds
    exact = played.frames == books.entered["frames"] and books.balanced()
    room = RING_LINES[scale]
    return Row(
        "the scorer stands still under traffic",
        f"{per_s:,.0f} PDU/s, room for {room:,} lines (`ring.lines`); the scorer is stopped for "
        f"{short_s:g} s, then for {long_s:g} s",
        f"{short_s:g} s: {amount(lost_by_then)} skipped, caught up in {short_caught_up_s:.2f} s; "
        f"{long_s:g} s: {lost - lost_by_then:,} of {books.entered['lines']:,} skipped, each one counted, "
        f"told by {told} capture_gap, caught up in {long_caught_up_s:.2f} s; "
        f"{amount(books.ended('frames', 'kernel_dropped'))} of {played.frames:,} frames lost; "
        + ("the ledger balances" if exact else "COUNTS DIFFER"),
        exact
        and lost_by_then == 0
        and not books.ended("frames", "kernel_dropped")
        and 0 < lost < per_s * long_s
        and told == 1,
    )
