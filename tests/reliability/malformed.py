"""Frames that are changed, cut, or nothing but noise."""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from ecustream.capture.files import open_capture
from ecustream.decode.lines import LineBuilder
from ecustream.decode.packets import PacketDecoder
from ecustream.decode.state import ActivityState
from ecustream.ledger import Ledger
from ecustream.traffic import Frame
from tests.reliability.memory import touched_mib
from tests.reliability.row import Row, Scale
from tests.reliability.traces import SOURCE, Packet, demo_packets, write_pcap

__all__ = ["malformed", "measure"]

FRAMES: dict[Scale, int] = {"short": 18_000, "long": 1_008_000}
TURN_FRAMES = 18_000
SOUND_EVERY = 10
LARGEST_GROWTH_MIB = 256.0
"""All that is remembered of flows, shortcuts, streams and fragments has a bound; this is above their sum."""

# Lengths, offsets and types that decide how the rest is read: VLAN, IPv6, jumbo, logger formats.
_TYPES = (
    b"\x81\x00",
    b"\x88\xa8",
    b"\x86\xdd",
    b"\x08\x00",
    b"\x99\xfe",
    b"\x2f\xff",
    b"\x08\x06",
    b"\x00\x20",
)
_WORDS = (b"\x00\x00", b"\xff\xff", b"\x00\x01", b"\x7f\xff", b"\x80\x00", b"\x20\x00")


def malformed(sound: Sequence[bytes], chance: random.Random) -> bytes:
    """A frame that is not as it should be, made of a sound one or of noise."""
    return chance.choice(_WAYS)(bytearray(chance.choice(sound)), chance)


def _flipped(frame: bytearray, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 8)):
        frame[chance.randrange(len(frame))] = chance.randrange(256)
    return bytes(frame)


def _flipped_header(frame: bytearray, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 4)):
        frame[chance.randrange(12, min(60, len(frame)))] = chance.randrange(256)
    return bytes(frame)


def _cut(frame: bytearray, chance: random.Random) -> bytes:
    return bytes(frame[: chance.randrange(len(frame))])


def _extreme(frame: bytearray, chance: random.Random) -> bytes:
    at = 2 * chance.randrange(6, min(32, len(frame) // 2))
    frame[at : at + 2] = chance.choice(_WORDS)
    return bytes(frame)


def _retyped(frame: bytearray, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 4)):
        frame[12:12] = chance.choice(_TYPES) + chance.randbytes(2) * chance.randrange(2)
    return bytes(frame)


def _spliced(frame: bytearray, chance: random.Random) -> bytes:
    at = chance.randrange(len(frame))
    return bytes(frame[at:] + frame[:at]) * chance.randint(1, 3)


def _fragment(frame: bytearray, chance: random.Random) -> bytes:
    # The field of flags and offset of an IPv4 header without a VLAN tag, and an identification.
    frame[18:22] = chance.randbytes(4)
    return bytes(frame)


def _noise(frame: bytearray, chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(1600))


_WAYS: tuple[Callable[[bytearray, random.Random], bytes], ...] = (
    *(_flipped, _flipped_header, _cut, _extreme, _retyped, _spliced, _fragment, _noise),
)


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`."""
    chance = random.Random(20_000)
    sound = [packet.data for packet in demo_packets()[:2000]]
    ledger = Ledger()
    decoder = PacketDecoder(ledger)
    builder = LineBuilder(ledger, state=ActivityState())
    wanted, got, bad, written = 0, 0, 0, 0
    seconds = 0.0
    start_mib = most_mib = 0.0
    for turn in range(FRAMES[scale] // TURN_FRAMES + 1):
        # The first file is sound, so that the streams are known whose lines are counted.
        frames = [
            chance.choice(sound) if not turn or i % SOUND_EVERY == 0 else malformed(sound, chance)
            for i in range(TURN_FRAMES * SOUND_EVERY // (SOUND_EVERY - 1))
        ]
        packets = [Packet(1_700_000_000_000_000_000 + i * 100_000, data) for i, data in enumerate(frames)]
        path = write_pcap(folder / "frames.pcap", packets)
        lines_of: Counter[int] = Counter()
        began_s = time.perf_counter()
        with open_capture(path, ledger, SOURCE) as reader:
            for batch in reader:
                lines_of.update(line.frame for line in builder.build(decoder.decode(batch)))
        seconds += (time.perf_counter() - began_s) * bool(turn)
        written += len(frames)
        numbers = range(1, len(frames) + 1, SOUND_EVERY)
        bad += (len(frames) - len(numbers)) * bool(turn)
        wanted += sum(map(_lines_in, (frames[number - 1] for number in numbers)))
        got += sum(lines_of[number] for number in numbers)
        most_mib = max(most_mib, touched_mib(os.getpid()))
        start_mib = start_mib or most_mib
    decoder.flush()
    balanced = ledger.balanced(["frames", "pdus"]) and ledger.entered["frames"] == written
    grown_mib = most_mib - start_mib
    ends = ledger.ends["frames"]
    parts = {end: ledger.ended("frames", end) for end in ("decoded", "filtered", "unreadable")}
    return Row(
        "malformed frames in a capture file",
        f"{bad:,} frames changed, cut, spliced or random, with a sound one after every nine; read and "
        "decoded "
        "to lines",
        f"no crash; the books {'balance' if balanced else 'DO NOT BALANCE'} "
        f"({', '.join(f'{count:,} {end}' for end, count in parts.items())}, {len(ends)} ends); "
        f"{got:,} of {wanted:,} lines of the sound ones came out; memory grew by {grown_mib:.0f} MiB; "
        f"{bad / seconds:,.0f} frames/s",
        balanced and got == wanted and grown_mib < LARGEST_GROWTH_MIB,
    )


_LINES: dict[bytes, int] = {}


def _lines_in(frame: bytes) -> int:
    """How many lines a sound frame has, read alone."""
    if frame not in _LINES:
        ledger = Ledger()
        alone = Frame(1, 1, SOURCE, 1, frame, len(frame))
        _LINES[frame] = len(LineBuilder(ledger).build(PacketDecoder(ledger).decode([alone])))
    return _LINES[frame]
