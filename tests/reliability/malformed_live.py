"""Malformed frames by the hundred thousand on a wire on which good ones pass."""

import random
import time
from pathlib import Path
from struct import pack

from ecustream.traffic import Frame
from tests.reliability.network import own_cable
from tests.reliability.player import play
from tests.reliability.reader import read_by, reading
from tests.reliability.row import Row, Scale, amount
from tests.reliability.sender import frame_of
from tests.reliability.vehicle import drive, frames_of, write_frames

__all__ = ["damaged", "measure"]

FRAMES: dict[Scale, int] = {"short": 30_000, "long": 600_000}
FRAMES_PER_S = 15_000
_DAMAGED_OF = 5
"""Of so many frames all but one are damaged."""
_GOOD_IDS = (0x101, 0x102, 0x103)
_SEED = 20
_KINDS = 4000


def damaged(data: bytes, random_: random.Random) -> bytes:
    """A frame with something wrong in it: bits, lengths, cut off, made longer, or a piece of a datagram."""
    changed = bytearray(data)
    kind = random_.randrange(5)
    if kind == 0:
        for _ in range(random_.randint(1, 8)):
            changed[random_.randrange(14, len(changed))] ^= 1 << random_.randrange(8)
    elif kind == 1:
        # Lengths, header lengths and types lie there.
        at = random_.randrange(12, min(66, len(changed) - 2))
        changed[at : at + 2] = random_.choice([b"\0\0", b"\xff\xff", random_.randbytes(2)])
    elif kind == 2:
        del changed[random_.randrange(14, len(changed)) :]
    elif kind == 3:
        changed += random_.randbytes(random_.randint(1, 200))
    else:
        start = random_.randrange(14, len(changed))
        changed[start:] = random_.randbytes(len(changed) - start)
    return bytes(changed)


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`: the good frames have PDU ids of their own, by which they are counted."""
    random_ = random.Random(_SEED)
    # Of both IP versions, with and without a VLAN tag, and none with an id of the good ones.
    foreign = frame_of(200)
    for id_ in _GOOD_IDS:
        foreign = foreign.replace(pack(">I", id_), pack(">I", id_ ^ 0x5AA5_A55A))
    originals = [frame.data for frame in frames_of(drive(folder / "clean.pcap", 5))]
    originals += [foreign] * (len(originals) // 4)
    good = frame_of(90)
    contents = [
        damaged(random_.choice(originals), random_) if i % _DAMAGED_OF else good for i in range(_KINDS)
    ]
    frames = [Frame(i, i, "", 1, data, len(data)) for i, data in enumerate(contents, 1)]
    write_frames(folder / "mixed.pcap", frames)
    with own_cable("malformed"), reading("b0") as reader:
        seconds = FRAMES[scale] / FRAMES_PER_S
        played = play("a0", folder / "mixed.pcap", seconds, frames_per_s=FRAMES_PER_S)
        time.sleep(0.1)
        read = read_by(reader)
    sent_good = -(-played.frames // _DAMAGED_OF)
    ends = read.books["frames"]
    unreadable = sum(count for end, count in ends.items() if end.startswith("unreadable"))
    reasons = sum(end.startswith("unreadable") for book in ("frames", "pdus") for end in read.books[book])
    came_good = [read.names.get(f"PDU_0x{id_:08X}", 0) for id_ in _GOOD_IDS]
    return Row(
        "malformed frames on the wire",
        f"{played.frames - sent_good:,} damaged frames ({len(set(contents)) - 1:,} different ones) among "
        f"{sent_good:,} good ones at {played.frames_per_s:,.0f} frames/s, captured and decoded",
        f"no crash; {min(came_good):,} of {sent_good:,} good ones came out; {unreadable:,} frames "
        f"counted as unreadable, for {reasons} reasons; {amount(read.dropped)} lost by the kernel; "
        + ("the ledger balances" if read.balanced else "THE LEDGER DOES NOT BALANCE"),
        set(came_good) == {sent_good} and read.balanced and not read.dropped and unreadable > 0,
    )
