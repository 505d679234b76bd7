"""How large a burst the kernel's ring takes while nobody reads."""

import time
from pathlib import Path

from tests.reliability.network import cores, own_cable
from tests.reliability.reader import Read, read_by, reading
from tests.reliability.row import Row, Scale, amount
from tests.reliability.sender import Sent, send_paced

__all__ = ["measure"]

_LINE_RATE = 1e7
"""More than any sender comes to."""
_SHARE = 0.75
RING_MIB: dict[Scale, int] = {"short": 4, "long": 64}
FLOOD_S: dict[Scale, float] = {"short": 1.0, "long": 8.0}


def _burst(rate: float, seconds: float, ring_mib: int) -> tuple[Sent, Read]:
    """Send while the reader takes nothing out; then let it take what there is."""
    read_on, send_on = cores()
    with own_cable("burst"), reading("b0", read_on, ring_mib, idle=True) as reader:
        sent = send_paced("a0", rate, seconds, core=send_on)
        time.sleep(0.1)
        return sent, read_by(reader)


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`: a flood tells how much there is room for; a burst of three quarters is taken."""
    ring_mib = RING_MIB[scale]
    flood, full = _burst(_LINE_RATE, FLOOD_S[scale], ring_mib)
    room = full.entered - full.dropped
    overflowed = full.dropped > 0
    # As fast as the flood went. Where the sender is held up, a block is handed over that is not full.
    sent, read = _burst(flood.frames_per_s, _SHARE * room / flood.frames_per_s, ring_mib)
    exact = all(
        sender.frames == reader.entered == reader.kernel_frames and reader.balanced
        for sender, reader in ((flood, full), (sent, read))
    )
    return Row(
        "a burst while the process is held up and reads nothing",
        f"frames of 90 bytes as fast as one core sends them, into the kernel's ring of {ring_mib} MiB; "
        "promised: each lost frame counted, and of three quarters of what fits at most 1 in 10,000 lost",
        f"room for {room:,} frames ({room / flood.frames_per_s:.1f} s at {flood.frames_per_s:,.0f}/s); of a "
        f"burst of {sent.frames:,} {amount(read.dropped)} lost; of a flood of {flood.frames:,} "
        f"{full.dropped:,} lost, " + ("each one counted" if exact else "COUNTS DIFFER"),
        # The kernel now and then drops a single frame although there is room.
        exact and overflowed and read.dropped <= sent.frames / 10_000,
    )
