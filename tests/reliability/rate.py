"""How many frames a second are captured and decoded to lines without a loss."""

import time
from pathlib import Path
from typing import NamedTuple

from tests.reliability.network import cores, own_cable
from tests.reliability.reader import Read, read_by, reading
from tests.reliability.row import Row, Scale, amount
from tests.reliability.sender import Sent, send_paced

__all__ = ["Trial", "measure", "try_rate"]

RATES: dict[Scale, tuple[int, ...]] = {
    "short": (20_000,),
    "long": (20_000, 50_000, 100_000, 150_000, 200_000),
}
SECONDS: dict[Scale, float] = {"short": 2.0, "long": 60.0}
PROMISED_PER_S = 20_000
LINES_A_FRAME = 3


class Trial(NamedTuple):
    """A rate that was tried."""

    rate: int
    sent: Sent
    read: Read

    @property
    def exact(self) -> bool:
        """Whether sender, kernel and ledger count the same, and each frame that came gave its lines."""
        same = self.sent.frames == self.read.kernel_frames == self.read.entered
        lines = sum(self.read.names.values())
        return same and self.read.balanced and lines == LINES_A_FRAME * (self.sent.frames - self.read.dropped)

    @property
    def reached(self) -> bool:
        """Whether the sender came to the rate."""
        return self.sent.frames_per_s > 0.98 * self.rate

    def __str__(self) -> str:
        came = "" if self.reached else f" (sender came to {self.sent.frames_per_s:,.0f})"
        cpu = f"{100 * self.read.cpu_s / self.sent.seconds:.0f} % of a core"
        counts = (
            ""
            if self.exact
            else (
                f", COUNTS DIFFER: sent {self.sent.frames:,}, kernel {self.read.kernel_frames:,}, "
                f"entered {self.read.entered:,}, lines {sum(self.read.names.values()):,}"
            )
        )
        lost = f"{amount(self.read.dropped)} of {self.sent.frames:,} lost"
        return f"{self.rate:,}/s{came}: {lost}, {cpu}{counts}"


def try_rate(rate: int, seconds: float) -> Trial:
    """Send at a rate for so long, on one core, and capture and decode on another."""
    read_on, send_on = cores()
    with own_cable("rate"), reading("b0", read_on) as reader:
        sent = send_paced("a0", rate, seconds, core=send_on)
        # What is on its way is handed over by then.
        time.sleep(0.1)
        return Trial(rate, sent, read_by(reader))


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`."""
    trials = [try_rate(rate, SECONDS[scale]) for rate in RATES[scale]]
    kept = [trial.sent.frames_per_s for trial in trials if not trial.read.dropped]
    best = f"highest rate without a loss {max(kept):,.0f} frames/s; " if kept and len(trials) > 1 else ""
    holds = all(trial.exact for trial in trials) and all(
        trial.reached and not trial.read.dropped for trial in trials if trial.rate <= PROMISED_PER_S
    )
    return Row(
        "traffic at a high rate, captured and decoded but not scored",
        f"UDP frames of 90 bytes with three PDUs each, {SECONDS[scale]:g} s at each rate; one core sends, "
        f"another one captures and decodes; promised: none lost at {PROMISED_PER_S:,} frames/s",
        best + "; ".join(map(str, trials)),
        holds,
    )
