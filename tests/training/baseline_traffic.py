"""Periodic traffic with injected faults, as columns, and baselines that have learned it."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ecustream.traffic import Line
from tests.training.clean_traffic import MS, START_NS, lines_of, raster
from training.baselines.columns import Columns, Floats, Labelled, PduNumbers
from training.baselines.protocol import Baseline, Scoring
from training.baselines.rival import Rival, RivalRun, thresholds_of
from training.metrics import Span

CYCLES_MS = {"A": 10, "B": 20, "C": 20, "D": 50, "E": 100}
JOIN_NS = 500_000_000
NUMBERS = PduNumbers()
"""Of A to E and what else tests bring, 0 to 4 in this order."""
NUMBERS.columns(lines_of({name: [START_NS] for name in CYCLES_MS}))


def times(seed: int, seconds: float = 30.0) -> dict[str, list[int]]:
    """Send times in ns of each PDU, with a jitter of 2 % of its cycle."""
    rng = np.random.default_rng(seed)
    return {name: raster(rng, cycle, seconds) for name, cycle in CYCLES_MS.items()}


def columns(lines: Sequence[Line]) -> Columns:
    """Lines as columns."""
    return NUMBERS.columns(lines)


def clean(seed: int, seconds: float = 30.0) -> Columns:
    """Clean traffic."""
    return columns(lines_of(times(seed, seconds)))


def at_ns(seconds: float) -> int:
    """Capture time so many seconds after the start."""
    return START_NS + round(seconds * 1e9)


def injected(fault: str, seed: int = 9, at_s: float = 10.0, pdu: str = "C") -> tuple[Columns, int, int]:
    """Traffic in which one PDU has a fault after 10 s; when it starts and ends, in ns.

    `late`: a message comes 0.7 cycles too late; `missing`: one is lost; `silent`: all from then on; `burst`:
    six more within 3 ms; `drift`: 60 intervals are 4 % too long.
    """
    sent = times(seed)
    cycle = CYCLES_MS[pdu] * MS
    own = np.array(sent[pdu])
    first = int(np.searchsorted(own, at_ns(at_s)))
    start = end = int(own[first])
    if fault == "late":
        own[first] += round(0.7 * cycle)
        end = int(own[first])
    elif fault == "missing":
        own = np.delete(own, first)
        end = int(own[first])
    elif fault == "silent":
        own = own[:first]
        end = at_ns(30)
    elif fault == "burst":
        more = start + MS // 2 * np.arange(1, 7)
        own = np.sort(np.append(own, more))
        end = int(more[-1]) + cycle
    elif fault == "drift":
        slow = np.minimum(np.maximum(np.arange(len(own)) - first, 0), 60)
        own = own + (0.04 * cycle * slow).astype(np.int64)
        end = int(own[first + 60])
    sent[pdu] = own.tolist()
    return columns(lines_of(sent)), start, end


def labelled(seed: int, faults: int = 40) -> Labelled:
    """Traffic in which messages of C are late, each labelled."""
    sent = times(seed, 60.0)
    own = np.array(sent["C"])
    late = np.linspace(100, len(own) - 100, faults).astype(int)
    own[late] += 14 * MS
    sent["C"] = own.tolist()
    lines = lines_of(sent)
    moved = set(own[late].tolist())
    labels = [line.stream.name == "C" and line.time_ns in moved for line in lines]
    return Labelled(columns(lines), np.array(labels))


def in_parts(scoring: Scoring, lines: Columns, cuts: Sequence[int]) -> Floats:
    """Scores of lines that are given in parts, cut at these places."""
    edges = [0, *sorted(min(cut, len(lines.time_ns)) for cut in cuts), len(lines.time_ns)]
    parts = [scoring.scores(lines.part(a, b)) for a, b in pairwise(edges)]
    return np.concatenate(parts)


def judged(
    baseline: Baseline,
    learn: Sequence[Columns],
    labels: Sequence[Labelled],
    held_out: Sequence[Columns],
    traces: Sequence[Sequence[Columns]],
) -> tuple[Rival, list[tuple[Floats, list[Span]]]]:
    """A baseline that has learned, and its scores and episodes of traces at one false alarm an hour."""
    fitted = baseline.fit(learn, labels)
    rival = Rival(
        baseline.name, fitted, thresholds_of(fitted, held_out, NUMBERS.sources, [1.0], JOIN_NS), frozenset()
    )
    found = []
    for pieces in traces:
        run = RivalRun(rival, NUMBERS.sources, JOIN_NS, ranked=True)
        for number, piece in enumerate(pieces):
            if number:
                run.gap()
            run.add(piece)
        scores, spans = run.finish()
        found.append((scores.astype(np.float64), spans[1.0]))
    return rival, found
