"""The scores of one source or trace: peaks over time, and the last lines one by one."""

from collections import deque
from collections.abc import Collection
from typing import NamedTuple

from ecustream.dashboard.series import PeakSeries
from ecustream.publish.messages import ScoreBatch

__all__ = ["RANGES_NS", "ScoredLine", "SourceScores", "thinned"]

_SECOND_NS = 1_000_000_000
_BUCKETS = 600
_LAST_LINES = 20_000
_CLOCK_STEP_NS = _SECOND_NS
RANGES_NS = (120 * _SECOND_NS, 1800 * _SECOND_NS, 8 * 3600 * _SECOND_NS)
"""How far back the plots reach: two minutes, half an hour, a shift."""


class ScoredLine(NamedTuple):
    """One line and its score, as in a `ScoreBatch`."""

    time_ns: int
    pdu: str
    perplexity: float
    surprisal: float


class SourceScores:
    """What is kept of the scores of one source or trace; lines that were scored while warming are left out.

    Attributes:
        series: one for each of `RANGES_NS`.
        last_ns: capture time of the newest line; 0 before the first.
        begun_anew: whether everything was forgotten because time went back; the reader resets it.
    """

    def __init__(self) -> None:
        self.series = [PeakSeries(reach // _BUCKETS, _BUCKETS) for reach in RANGES_NS]
        self.last_ns = 0
        self.begun_anew = False
        self._lines: deque[ScoredLine] = deque(maxlen=_LAST_LINES)

    def take(self, batch: ScoreBatch) -> None:
        """Takes the lines of a batch."""
        if batch.times_ns and batch.times_ns[0] < self.last_ns - _CLOCK_STEP_NS:
            self.clear()
        rows = zip(batch.times_ns, batch.pdus, batch.perplexity, batch.surprisal, batch.warming, strict=False)
        for time_ns, pdu, perplexity, surprisal, warming in rows:
            self.last_ns = max(self.last_ns, time_ns)
            if warming:
                continue
            self._lines.append(ScoredLine(time_ns, pdu, perplexity, surprisal))
            for series in self.series:
                series.add(time_ns, perplexity, pdu)

    def clear(self) -> None:
        """Forgets everything."""
        for series in self.series:
            series.clear()
        self._lines.clear()
        self.last_ns = 0
        self.begun_anew = True

    def lines_of(self, pdus: Collection[str], first_ns: int, last_ns: int) -> list[ScoredLine]:
        """The lines of some PDUs between two times, oldest first, as far back as they are held."""
        found = []
        for line in reversed(self._lines):
            if line.time_ns < first_ns:
                break
            if line.time_ns <= last_ns and line.pdu in pdus:
                found.append(line)
        return found[::-1]


def thinned(lines: list[ScoredLine], most: int) -> list[ScoredLine]:
    """At most `most` of the lines: of equal stretches the line with the highest perplexity."""
    if len(lines) <= most:
        return lines
    count = len(lines)
    stretches = [lines[i * count // most : (i + 1) * count // most] for i in range(most)]
    return [max(stretch, key=lambda line: line.perplexity) for stretch in stretches]
