"""Whether capture loses anything while the scorer cannot keep up."""

import time
from pathlib import Path

from tests.reliability.live_command import capturing, stop
from tests.reliability.network import cores, own_cable
from tests.reliability.player import play
from tests.reliability.row import Row, Scale, amount
from tests.reliability.vehicle import drive

__all__ = ["measure"]

FRAMES_PER_S = 20_000
SECONDS: dict[Scale, float] = {"short": 1.5, "long": 60.0}


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`: more lines come than can be scored; they are skipped, and no frame is lost."""
    cores()
    seconds = SECONDS[scale]
    trace = drive(folder / "clean.pcap", 60)
    # A small ring in the short form, so that lines are skipped within its seconds.
    keys = ["--set", "ring.lines=5000"] if scale == "short" else []
    with own_cable("scoring"), capturing(folder, *keys) as service:
        played = play("a0", trace, seconds, frames_per_s=FRAMES_PER_S)
        time.sleep(0.1)
        stopped_s = time.monotonic()
        ended = stop(service)
        drained_s = time.monotonic() - stopped_s
    frames, lines = ended.books["frames"], ended.books["lines"]
    dropped = frames.get("kernel_dropped", 0)
    skipped = lines.get("overwritten{backlog}", 0)
    exact = played.frames == frames["entered"] and ended.balanced
    return Row(
        "more traffic than can be scored",
        f"`ecustream run --interface` with the shipped bundle, {played.frames_per_s:,.0f} frames/s for "
        f"{seconds:g} s; two cores for sender, capture and scoring",
        f"{amount(dropped)} of {played.frames:,} frames lost; of {lines['entered']:,} lines "
        f"{lines['scored']:,} "
        f"scored ({lines['scored'] / (played.seconds + drained_s):,.0f}/s), {skipped:,} skipped and counted; "
        f"sender {100 * played.cpu_s / played.seconds:.0f} % of a core; "
        + ("the ledger balances" if exact else f"COUNTS DIFFER: {ended.books}"),
        exact and not dropped and skipped > 0 and ended.code == 0,
    )
