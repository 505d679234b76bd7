"""Captures that end anywhere."""

import gzip
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ecustream.capture.files import open_capture
from ecustream.errors import InputError
from ecustream.ledger import Ledger
from tests.reliability.command import run_to_end
from tests.reliability.row import Row, Scale
from tests.reliability.traces import DEMO_TRACE, SOURCE, demo_packets, write_pcap

__all__ = ["Cut", "Whole", "in_pcap", "in_pcapng", "measure"]

FILE_BYTES = 20_000
STEP_BYTES: dict[Scale, int] = {"short": 71, "long": 1}
COMMANDS: dict[Scale, int] = {"short": 1, "long": 20}
"""So many of the cuts of each file are given to the whole command."""

_ENHANCED_PACKET = 6


class Cut(NamedTuple):
    """What came of a file that was cut.

    Attributes:
        packets: those that were read; None where the file was refused.
        sentences: about damage, or the refusal.
    """

    packets: int | None
    sentences: list[str]


class Whole(NamedTuple):
    """What a file has: its whole packets, and whether it ends where one ends."""

    packets: int
    sound: bool


def in_pcap(data: bytes) -> Whole:
    """What stands in a little-endian pcap."""
    at, count = 24, 0
    while at + 16 <= len(data):
        at += 16 + struct.unpack_from("<I", data, at + 8)[0]
        count += at <= len(data)
    return Whole(count, at == len(data))


def in_pcapng(data: bytes) -> Whole:
    """What stands in a little-endian pcapng."""
    at, count = 0, 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<II", data, at)
        at += size
        count += kind == _ENHANCED_PACKET and at <= len(data)
    return Whole(count, at == len(data))


def _in_gzip(data: bytes) -> Whole:
    return Whole(in_pcapng(zlib.decompressobj(wbits=31).decompress(data)).packets, False)


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`."""
    chance = random.Random(37)
    told: list[str] = []
    wrong: list[str] = []
    cuts = 0
    # A start takes seconds, so that the short form has one.
    files = _files(folder)
    commanded = [name for name, _, _ in files[-1 if scale == "short" else 0 :]]
    step = "byte" if STEP_BYTES[scale] == 1 else f"{STEP_BYTES[scale]} bytes"
    for name, data, count in files:
        path = folder / name
        refused = 0
        lengths = range(0, len(data) + 1, STEP_BYTES[scale])
        for length in lengths:
            path.write_bytes(data[:length])
            cut, whole = _read(path), count(data[:length])
            cuts += 1
            refused += cut.packets is None
            if (cut.packets or 0) != whole.packets or not _fine(cut, whole, path):
                wrong.append(f"{name} cut at {length}: {cut}, but {whole}")
        for length in chance.sample(lengths, COMMANDS[scale] if name in commanded else 0):
            path.write_bytes(data[:length])
            wrong += _command(path, count(data[:length]).packets)
        told.append(f"{name} {len(lengths):,} cuts, {refused} refused")
    return Row(
        "capture files that end anywhere",
        f"a pcap, a pcapng and a pcapng in gzip, each of {FILE_BYTES:,} bytes before compression, cut after "
        f"every {step}; `ecustream run` on {len(commanded) * COMMANDS[scale]} of them",
        f"{', '.join(told)}: {cuts - len(wrong):,} of {cuts:,} gave each whole packet before the cut and, "
        f"where something is lost, one sentence" + "".join(f"; {what}" for what in wrong[:3]),
        not wrong,
    )


def _files(folder: Path) -> list[tuple[str, bytes, Callable[[bytes], Whole]]]:
    packets = demo_packets()[:400]
    pcap = write_pcap(folder / "whole.pcap", packets).read_bytes()[:FILE_BYTES]
    pcapng = gzip.decompress(DEMO_TRACE.read_bytes())[:FILE_BYTES]
    return [
        ("cut.pcap", pcap, in_pcap),
        ("cut.pcapng", pcapng, in_pcapng),
        ("cut.pcapng.gz", gzip.compress(pcapng, mtime=0), _in_gzip),
    ]


def _read(path: Path) -> Cut:
    ledger = Ledger()
    try:
        with open_capture(path, ledger) as reader:
            packets = sum(map(len, reader))
            return Cut(packets, reader.damage)
    except InputError as error:
        return Cut(None, [str(error)])


def _fine(cut: Cut, whole: Whole, path: Path) -> bool:
    """Whether there is one sentence, which names the file, just where it is refused or has lost something."""
    named = all(sentence.startswith(f"{path}: ") and "\n" not in sentence for sentence in cut.sentences)
    return named and len(cut.sentences) == (cut.packets is None or not whole.sound)


def _command(path: Path, packets: int) -> list[str]:
    done = run_to_end("--no-publish", "--quiet", "--source", SOURCE, "--pcap", path)
    said = done.stderr.strip()
    codes = (0, 2) if packets else (2,)
    if (
        done.returncode in codes
        and "Traceback" not in said
        and (not done.returncode or said.count("\n") == 0)
    ):
        return []
    return [f"run of {path.name} with {packets} packets: exit code {done.returncode}, {said[-200:]!r}"]
