"""How many messages of a PDU came within a window, against what clean traffic has: an empirical band.

Counts in windows beat densities of intervals on injections (Blevins et al. 2021, arXiv 2101.05781).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from training.baselines.columns import Columns, Floats, Ints, Labelled
from training.baselines.occurrences import Came, Occurrences
from training.baselines.rhythm import Rhythm, learn_rhythms

__all__ = ["WindowCounts"]

_FEWEST_CYCLES, _MOST_CYCLES = 2, 10
_WINDOW_NS = 500_000_000
_MOST_IN_BAND = 3.0


class _Band(NamedTuple):
    """Counts of one PDU: the window in ns, the lowest count of clean traffic, scores from there on up."""

    window_ns: int
    lowest: int
    in_band: Floats

    def scores(self, counts: Ints) -> Floats:
        """Score of each count, shape (n,)."""
        at = counts - self.lowest
        width = len(self.in_band) - 1
        outside = np.maximum(np.maximum(-at, at - width), 0) / max(width, 1)
        scores: Floats = self.in_band[np.clip(at, 0, width)] + outside
        return scores


class WindowCounts:
    """Rarity of how many of a PDU's messages came in the window before each of its lines.

    The window is 2.5 to 10.5 typical intervals, about 0.5 s: the half keeps a message that is a little late
    from leaving the window. A count that clean traffic has scores -log10 of its share of counts as low, or
    as high, at most 3. One outside of that band scores as its edge and one more for every width of the band
    (at least one message) beyond. A line whose window is not full yet, as after the start of the trace,
    scores 0, and so does an unknown PDU.

    It sees messages that are lost, sent twice or too often, the former when the next one comes, and for as
    long as the window reaches back. A delay of less than half a cycle does not change a count.
    """

    name = "window counts"
    needs_labels = False

    def fit(self, clean: Sequence[Columns], labelled: Sequence[Labelled]) -> "FittedCounts":
        """Learn windows and bands.

        Raises:
            InputError: no PDU comes often enough.
        """
        windows = {pdu: _window_ns(rhythm) for pdu, rhythm in learn_rhythms(clean).items()}
        counts: dict[int, list[Ints]] = {}
        for piece in clean:
            for came in Occurrences(lambda pdu: windows.get(pdu, 0)).add(piece):
                if came.pdu in windows:
                    full = _is_full(came, windows[came.pdu])
                    counts.setdefault(came.pdu, []).append(came.within(windows[came.pdu])[full])
        bands = {}
        for pdu, parts in counts.items():
            all_counts = np.concatenate(parts)
            if len(all_counts):
                bands[pdu] = _band(windows[pdu], all_counts)
        return FittedCounts(bands)


class FittedCounts:
    """The bands of each PDU, by number."""

    def __init__(self, bands: dict[int, _Band]) -> None:
        self._bands = bands

    def begin(self) -> "CountScoring":
        """A fresh scoring."""
        return CountScoring(self._bands)


class CountScoring:
    """Scores one trace."""

    def __init__(self, bands: dict[int, _Band]) -> None:
        self._bands = bands
        self._occurrences = Occurrences(lambda pdu: bands[pdu].window_ns if pdu in bands else 0)

    def scores(self, lines: Columns) -> Floats:
        """How rare the count in the window before each line is, shape (lines,)."""
        scores = np.zeros(len(lines.time_ns))
        for came in self._occurrences.add(lines):
            band = self._bands.get(came.pdu)
            if band is not None:
                full = _is_full(came, band.window_ns)
                scores[came.rows[full]] = band.scores(came.within(band.window_ns)[full])
        return scores

    def gap(self) -> None:
        """Windows have to fill again."""
        self._occurrences.forget()


def _window_ns(rhythm: Rhythm) -> int:
    cycles = min(max(_WINDOW_NS // rhythm.typical_ns, _FEWEST_CYCLES), _MOST_CYCLES)
    return int((cycles + 0.5) * rhythm.typical_ns)


def _is_full(came: Came, window_ns: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.asarray(came.now_ns - came.first_ns >= window_ns)


def _band(window_ns: int, counts: Ints) -> _Band:
    lowest = int(counts.min())
    histogram = np.bincount(counts - lowest)
    as_low = np.cumsum(histogram)
    as_high = np.cumsum(histogram[::-1])[::-1]
    rarity = -np.log10(np.minimum(as_low, as_high) / len(counts))
    return _Band(window_ns, lowest, np.minimum(rarity, _MOST_IN_BAND))
