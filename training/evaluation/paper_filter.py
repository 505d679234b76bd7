"""The paper's filter over a whole trace at once.

`ecustream run --filter perplexity` tells line by line; where a model's perplexity is hardly ever below the
threshold, that costs more than all other detectors together. Here lines are flags, and flags become episodes
at the end.
"""

import numpy as np
import numpy.typing as npt

from ecustream.scores import ScoreBlock
from training.measures.intervals import Bools
from training.metrics import Span

__all__ = ["PaperFilter", "filtered"]

_Flags = tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], Bools]


class PaperFilter:
    """Collects scored lines; episodes as `ecustream.detect.perplexity.PerplexityFilter` has them.

    One difference: a pause of a bus as long as `join_ns` always ends its episode, there only if the filter
    has closed meanwhile; with several buses one often pauses while others keep the filter open.

    Args:
        threshold: perplexity that a line must exceed.
        width: how many lines in a row, of any PDU, open the filter, and how many below it close it.
        join_ns: findings of a bus less than this apart are one episode.
    """

    def __init__(self, threshold: float, width: int, join_ns: int) -> None:
        self._threshold = threshold
        self._width = width
        self._join_ns = join_ns
        self._pieces: list[list[_Flags]] = [[]]
        self._number_of: dict[str, int] = {}
        self._names: list[str] = []
        self._sources: list[str] = []

    def add(self, block: ScoreBlock) -> None:
        """Take the next lines."""
        above = ~block.warming & (block.perplexity() > self._threshold)
        streams = [line.stream for line in block.lines]
        for stream in streams:
            if stream.key not in self._number_of:
                self._number_of[stream.key] = len(self._names)
                self._names.append(stream.name)
                self._sources.append(stream.source)
        pdus = np.array([self._number_of[stream.key] for stream in streams], np.int32)
        times_ns = np.array([line.time_ns for line in block.lines], np.int64)
        self._pieces[-1].append((times_ns, pdus, above))

    def gap(self) -> None:
        """The next lines do not follow the ones before."""
        self._pieces.append([])

    def finish(self) -> list[tuple[Span, frozenset[str]]]:
        """Episodes with the names of their PDUs, sorted by start."""
        episodes: list[tuple[Span, frozenset[str]]] = []
        sources = np.array(self._sources)
        for parts in self._pieces:
            if not parts:
                continue
            times_ns, pdus, above = (np.concatenate(column) for column in zip(*parts, strict=True))
            told, at, open_from = filtered(above, self._width)
            # Lines that overtook each other are told at the latest time so far.
            now_ns = np.maximum.accumulate(times_ns)
            for source in sorted(set(self._sources)):
                own = told & (sources[pdus] == source)
                found = self._joined(times_ns[own], now_ns[at][own], pdus[own])
                # What is conspicuous until the traffic ends lasts until then.
                if own.any() and at[own][-1] >= open_from:
                    span, names = found[-1]
                    found[-1] = span._replace(end_ns=int(now_ns[-1])), names
                episodes += found
        return sorted(episodes, key=lambda episode: episode[0])

    def _joined(
        self,
        times_ns: npt.NDArray[np.int64],
        told_ns: npt.NDArray[np.int64],
        pdus: npt.NDArray[np.int32],
    ) -> list[tuple[Span, frozenset[str]]]:
        if not len(times_ns):
            return []
        starts = np.flatnonzero(np.diff(told_ns, prepend=told_ns[0] - self._join_ns - 1) >= self._join_ns)
        stops = np.append(starts[1:], len(told_ns))
        return [
            (
                Span(int(times_ns[a:b].min()), int(told_ns[b - 1]), int(told_ns[a])),
                frozenset(self._names[pdu] for pdu in np.unique(pdus[a:b]).tolist()),
            )
            for a, b in zip(starts.tolist(), stops.tolist(), strict=True)
        ]


def filtered(above: Bools, width: int) -> tuple[Bools, npt.NDArray[np.int64], int]:
    """Which lines the filter tells, and at which line it does.

    It opens with the `width`-th line above in a row, tells those and every further one above, and closes with
    the `width`-th line below in a row.

    Args:
        above: whether a line is above the threshold, shape (lines,).
        width: at least 1.

    Returns:
        Told or not, and the row at which each line would be told, shape (lines,) each; and from which row on
        the filter is open up to the end, the number of lines where it is not.
    """
    lines = len(above)
    rows = np.arange(lines)
    if not lines:
        return above.copy(), rows, 0
    begins = np.flatnonzero(np.diff(above, prepend=~above[0]))
    run = np.repeat(np.arange(len(begins)), np.diff(begins, append=lines))
    since = rows - begins[run]
    # The newest run that was long enough, of either kind, says whether the filter is open.
    turned = np.maximum.accumulate(np.where(since == width - 1, rows, -1))
    is_open = (turned >= 0) & above[turned]
    # A run that opens it is told from its beginning.
    opens = np.append(begins[1:], lines)[run] - begins[run] >= width
    first = begins[run] + width - 1
    told: Bools = above & (is_open | opens)
    was_open = np.concatenate([[False], is_open[:-1]])
    at_opening = above & opens & ~was_open[begins[run]] & (rows < first)
    shut = np.flatnonzero(~is_open)
    open_from = int(shut[-1]) + 1 if len(shut) else 0
    return told, np.where(at_opening, first, rows), open_from
