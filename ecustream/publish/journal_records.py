"""The line format of the journal: one JSON array a line, a checksum and the record.

    ["1c291ca3",{"schema":"ecustream.event/1","run":"01JD…","seq":311,…}]

A segment file is JSON Lines, so that people can read it with what they have: `grep ESC_03 events-*.jsonl`,
`jq -c '.[1]' events-*.jsonl`. The record's bytes are those that were published, from byte 12 to the `]`;
the checksum is their CRC-32 (as in zlib and gzip) in eight lower-case hexadecimal digits. A line is whole
if it ends in a line feed and its checksum is right, whatever a crash or a bad disk made of its neighbours.
A checksum beside the line, in a second file, would have to be kept in step with the first over a kill.

A record is an event, or the start of a run: `{"schema":"ecustream.journal/1","run":R,"wall_ns":T}`.
"""

from collections.abc import Iterator
from typing import Annotated, BinaryIO, NamedTuple
from zlib import crc32

import msgspec

__all__ = ["JOURNAL_SCHEMA", "Found", "pack", "run_start", "scan", "unpack"]

JOURNAL_SCHEMA = "ecustream.journal/1"
# No event comes near; bounds the memory that a damaged file without line feeds can take.
MAX_LINE_BYTES = 4 << 20


class _Head(msgspec.Struct):
    run: str
    seq: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)] | None = None


class Found(NamedTuple):
    """What stands in bytes `offset` to `end` of a segment; `payload` is empty where that is damaged.

    `seq` is None for the start of a run.
    """

    offset: int
    end: int
    run: str
    seq: int | None
    payload: bytes


_heads = msgspec.json.Decoder(_Head)


def pack(payload: bytes) -> bytes:
    """The line of a record; `payload` is JSON without a line feed."""
    return b'["%08x",%b]\n' % (crc32(payload), payload)


def unpack(line: bytes) -> bytes | None:
    """The record of a line, or None where the line is torn or damaged."""
    payload = line[12:-2]
    return payload if payload and line == pack(payload) else None


def run_start(run: str, wall_ns: int) -> bytes:
    """The record that a run began, so that a run without an event is known too."""
    return msgspec.json.encode({"schema": JOURNAL_SCHEMA, "run": run, "wall_ns": wall_ns})


def scan(file: BinaryIO, start: int, stop: int) -> Iterator[Found]:
    """Every line from byte `start`, where one begins, to byte `stop`; holds one line at a time."""
    file.seek(start)
    offset = start
    while offset < stop:
        line = file.readline(MAX_LINE_BYTES)
        if not line:
            return
        end = offset + len(line)
        yield _found(offset, end, unpack(line))
        offset = end


def _found(offset: int, end: int, payload: bytes | None) -> Found:
    if payload is not None:
        try:
            head = _heads.decode(payload)
            return Found(offset, end, head.run, head.seq, payload)
        except msgspec.MsgspecError:
            pass
    return Found(offset, end, "", None, b"")
