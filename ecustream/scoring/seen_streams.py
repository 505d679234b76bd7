"""What a tokenizer knows of each stream, looked up for a whole chunk of lines at once."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ecustream.traffic import Line, Stream

__all__ = ["SeenStreams"]


class SeenStreams:
    """Facts about streams as integers, found out once for each `Stream.index` of a run.

    Args:
        facts: the facts about a stream.
        count: how many they are.
    """

    def __init__(self, facts: Callable[[Stream], tuple[int, ...]], count: int) -> None:
        self._facts = facts
        self._seen = np.zeros(0, dtype=np.bool_)
        self._table = np.zeros((count, 0), dtype=np.int64)

    def of(self, lines: Sequence[Line]) -> npt.NDArray[np.int64]:
        """The facts about each line's stream, shape (facts, lines); there is at least one line."""
        streams = np.array([line.stream.index for line in lines])
        # A stream first seen in lines that were skipped has a lower index than some that came before it.
        if int(streams.max()) >= len(self._seen) or not self._seen[streams].all():
            self._learn(lines, int(streams.max()))
        return np.take(self._table, streams, axis=1)

    def _learn(self, lines: Sequence[Line], highest: int) -> None:
        if highest >= len(self._seen):
            new = max(highest + 1, 2 * len(self._seen)) - len(self._seen)
            self._seen = np.pad(self._seen, (0, new))
            self._table = np.pad(self._table, ((0, 0), (0, new)))
        for index, stream in {line.stream.index: line.stream for line in lines}.items():
            if not self._seen[index]:
                self._seen[index] = True
                self._table[:, index] = self._facts(stream)
