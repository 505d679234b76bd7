"""Scored lines as they go from the scoring to what judges them, also into another process."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecustream.scores import ScoreBlock
from ecustream.traffic import Line, Stream

__all__ = ["Packed", "Packer", "Scored", "Unpacker"]


class Scored(NamedTuple):
    """The next lines: their scores, why they do not follow the ones before ("" where they do), bytes read."""

    block: ScoreBlock
    gap: str
    bytes_read: int


class Packed(NamedTuple):
    """The same as arrays: a tenth of the work of pickling one line after the other.

    Attributes:
        streams: those that come for the first time.
        numbers: of each line: number, frame, time in ns, stream, state, delta in ns (-1: none), shape (6, n).
        scores: the fields of `ScoreBlock` after its lines.
        gap: see `Scored`.
        bytes_read: see `Scored`.
    """

    streams: list[Stream]
    numbers: npt.NDArray[np.int64]
    scores: tuple[
        npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]
    ]
    gap: str
    bytes_read: int


class Packer:
    """Packs the lines of one trace."""

    def __init__(self) -> None:
        self._number_of: dict[int, int] = {}

    def __call__(self, scored: Scored) -> Packed:
        """The next lines."""
        block, new = scored.block, []
        streams = []
        for line in block.lines:
            index = line.stream.index
            number = self._number_of.get(index)
            if number is None:
                number = self._number_of[index] = len(self._number_of)
                new.append(line.stream)
            streams.append(number)
        columns = [
            [line.number for line in block.lines],
            [line.frame for line in block.lines],
            [line.time_ns for line in block.lines],
            streams,
            [line.state for line in block.lines],
            [-1 if line.delta_ns is None else line.delta_ns for line in block.lines],
        ]
        scores = block.field_nats, block.tokens, block.expected, block.warming
        return Packed(new, np.array(columns, np.int64), scores, scored.gap, scored.bytes_read)


class Unpacker:
    """Unpacks the lines of one trace; those of one stream share one object again."""

    def __init__(self) -> None:
        self._streams: list[Stream] = []

    def __call__(self, packed: Packed) -> Scored:
        """The next lines."""
        self._streams += packed.streams
        streams = self._streams
        lines = [
            Line(number, frame, time_ns, streams[stream], state, None if delta_ns < 0 else delta_ns)
            for number, frame, time_ns, stream, state, delta_ns in packed.numbers.T.tolist()
        ]
        return Scored(ScoreBlock(lines, *packed.scores), packed.gap, packed.bytes_read)
