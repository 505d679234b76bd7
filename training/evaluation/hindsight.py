"""Thresholds that are chosen on the clean traces that are judged: what a score alone could do at best."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from training.baselines import threshold_spans
from training.evaluation.candidates import PAPER_LINES
from training.evaluation.results import Told, TraceResult, Triple, as_triples

__all__ = ["MOST_CLEAN_EPISODES", "best_rows", "quiet_episodes"]

MOST_CLEAN_EPISODES = 2
_GRID = tuple(1.2**i for i in range(64, -8, -1))
_SCORES = (
    ("perplexity", 1),
    ("perplexity", PAPER_LINES),
    ("delta surprisal", 1),
    ("name surprisal", 1),
)
"""Single scores and how many consecutive lines must exceed a threshold."""

Columns = Mapping[str, npt.NDArray[np.float32]]
Times = npt.NDArray[np.int64]


def quiet_episodes(times_ns: Times, columns: Columns, join_ns: int) -> dict[str, list[list[Triple]]]:
    """Episodes of a clean trace at each threshold from the highest down, until there are too many.

    Args:
        times_ns: shape (lines,).
        columns: scores, shape (lines,) each.
        join_ns: episodes at most so far apart are one.
    """
    quiet: dict[str, list[list[Triple]]] = {}
    for column, width in _SCORES:
        kept = quiet[_key(column, width)] = []
        scores = columns[column].astype(np.float64)
        for threshold in _GRID:
            spans = threshold_spans(times_ns, scores, threshold, width, join_ns)
            if len(spans) > MOST_CLEAN_EPISODES:
                break
            kept.append(as_triples(spans))
    return quiet


def best_rows(
    results: Sequence[TraceResult], arrays: Mapping[str, tuple[Times, Columns]], join_ns: int
) -> list[tuple[str, str, dict[str, Told]]]:
    """For each score the lowest threshold that gives no clean trace too many episodes.

    That is a choice made on the test, in favour of these scores, which the others do not have.

    Args:
        results: of all traces.
        arrays: times and scores of the traces with labels, by name.
        join_ns: as for `quiet_episodes`.

    Returns:
        Name of the row, its score, and its episodes by trace; nothing without a clean trace.
    """
    clean = [result for result in results if result.quiet]
    rows = []
    for column, width in _SCORES if clean else ():
        key = _key(column, width)
        step = min(len(result.quiet[key]) for result in clean) - 1
        if step < 0:
            continue
        threshold = _GRID[step]
        told = {result.name: Told(result.quiet[key][step]) for result in clean}
        for name, (times_ns, columns) in arrays.items():
            spans = threshold_spans(times_ns, columns[column].astype(np.float64), threshold, width, join_ns)
            told[name] = Told(as_triples(spans))
        lines = "1 line" if width == 1 else f"{width} lines"
        rows.append((f"{column} > {threshold:.3g}, {lines}, best", column, told))
    return rows


def _key(column: str, width: int) -> str:
    return f"{column}, {width}"
