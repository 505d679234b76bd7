"""What every baseline finds in traces, at thresholds from clean traffic: scores of lines, and episodes."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from training.baselines.columns import Columns, Floats, Labelled
from training.baselines.drawn import BLOCK_LINES
from training.baselines.episodes import Moments, join_by_bus, threshold_for
from training.baselines.protocol import Baseline, DeadlineFitted, DeadlineScoring, Fitted, Scoring
from training.metrics import Span

__all__ = ["BaselineRow", "baseline_rows"]

Pieces = Sequence[Columns]
Progress = Callable[[float, str], None]


class BaselineRow(NamedTuple):
    """One baseline on all traces.

    Attributes:
        name: of the baseline.
        threshold: what a score must exceed.
        scores: for each trace, of its lines, pieces one after the other, shape (lines,).
        spans: for each trace, its episodes, sorted by start.
        fit_s: how long it learned, in s.
        lines_per_s: how fast it scored, everything included that it does with a line.
    """

    name: str
    threshold: float
    scores: list[Floats]
    spans: list[list[Span]]
    fit_s: float
    lines_per_s: float


def baseline_rows(
    baselines: Sequence[Baseline],
    clean: Pieces,
    labelled: Sequence[Labelled],
    held_out: Sequence[Pieces],
    traces: Sequence[Pieces],
    sources: Sequence[str],
    *,
    false_alarms_per_hour: float = 1.0,
    join_ns: int = 500_000_000,
    progress: Progress = lambda share, name: None,
) -> Iterator[BaselineRow]:
    """Fit, find the threshold, and judge the traces, one baseline after the other.

    Lines above the threshold are joined to episodes as the detector joins findings, bus by bus. A baseline
    that knows deadlines tells what is missing at its deadline.

    Args:
        baselines: those that need labels are left out where there are none.
        clean: pieces of clean traffic to learn from.
        labelled: pieces with an annotator's labels to learn from.
        held_out: other clean traces, in which thresholds are found.
        traces: to be judged.
        sources: bus of each PDU, by number.
        false_alarms_per_hour: budget on the clean traffic that is held out.
        join_ns: the detector's.
        progress: is told the share of all work that is done, 0 to 1, and what is being done.

    Raises:
        InputError: there is too little to learn from.
    """
    chosen = [baseline for baseline in baselines if labelled or not baseline.needs_labels]
    total = sum(len(piece.time_ns) for trace in (*held_out, *traces) for piece in trace)
    for number, baseline in enumerate(chosen):
        meter = _Meter(len(chosen), number, total, baseline.name, progress)
        started = time.perf_counter()
        fitted = baseline.fit(clean, labelled)
        fit_s = time.perf_counter() - started
        moments = [_moments(fitted, piece, meter) for trace in held_out for piece in trace]
        threshold = threshold_for(moments, sources, false_alarms_per_hour, join_ns)
        scores, spans = [], []
        for trace in traces:
            of_trace = _scores(fitted, trace, meter)
            scores.append(of_trace)
            if isinstance(fitted, DeadlineFitted):
                spans.append(_watched(fitted, trace, threshold, sources, join_ns))
            else:
                spans.append(_above(trace, of_trace, threshold, sources, join_ns))
        yield BaselineRow(baseline.name, threshold, scores, spans, fit_s, meter.lines_per_s)


class _Meter:
    """Counts lines and seconds of scoring."""

    def __init__(self, rows: int, row: int, lines: int, name: str, progress: Progress) -> None:
        self._rows, self._row, self._lines = rows, row, max(lines, 1)
        self._name = name
        self._progress = progress
        self._done = 0
        self._seconds = 0.0
        progress(row / rows, name)

    @property
    def lines_per_s(self) -> float:
        """Of all lines so far; 0 before the first."""
        return self._done / self._seconds if self._seconds else 0.0

    def count(self, lines: int, seconds: float) -> None:
        """So many lines more were scored."""
        self._done += lines
        self._seconds += seconds
        self._progress((self._row + self._done / self._lines) / self._rows, self._name)


def _scores(fitted: Fitted, trace: Pieces, meter: _Meter) -> Floats:
    scoring = fitted.begin()
    parts = [np.zeros(0)]
    for number, piece in enumerate(trace):
        if number:
            scoring.gap()
        parts.append(_timed(scoring, piece, meter))
    return np.concatenate(parts)


def _moments(fitted: Fitted, piece: Columns, meter: _Meter) -> Moments:
    """Scores of a clean piece; what never comes back in it counts as if it came with the last line."""
    scoring = fitted.begin()
    times, pdus, scores = piece.time_ns, piece.pdu, _timed(scoring, piece, meter)
    if isinstance(scoring, DeadlineScoring) and len(times):
        overdue, more = scoring.overdue(int(times.max()))
        times = np.concatenate([times, np.full(len(overdue), times.max())])
        pdus = np.concatenate([pdus, overdue.astype(np.int32)])
        scores = np.concatenate([scores, more])
    return Moments(times, pdus, scores)


def _timed(scoring: Scoring, piece: Columns, meter: _Meter) -> Floats:
    parts = [np.zeros(0)]
    for lines in piece.parts(BLOCK_LINES):
        started = time.perf_counter()
        parts.append(scoring.scores(lines))
        meter.count(len(lines.time_ns), time.perf_counter() - started)
    return np.concatenate(parts)


def _watched(
    fitted: DeadlineFitted, trace: Pieces, threshold: float, sources: Sequence[str], join_ns: int
) -> list[Span]:
    watch = fitted.watch(threshold, sources)
    for number, piece in enumerate(trace):
        if number:
            watch.gap()
        for lines in piece.parts(BLOCK_LINES):
            watch.add(lines)
    return watch.spans(join_ns)


def _above(
    trace: Pieces, scores: Floats, threshold: float, sources: Sequence[str], join_ns: int
) -> list[Span]:
    rows = np.flatnonzero(scores > threshold)
    times = np.concatenate([np.zeros(0, np.int64), *(piece.time_ns for piece in trace)])
    pdus = np.concatenate([np.zeros(0, np.int32), *(piece.pdu for piece in trace)])
    return join_by_bus(times[rows], pdus[rows], sources, join_ns)
