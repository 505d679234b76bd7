"""Clean traffic from a known generator, and scores as a model might give them."""

from collections.abc import Mapping, Sequence

import numpy as np

from ecustream.scores import ScoreBlock
from ecustream.traffic import STATE_NORMAL, Line, Stream
from training.calibrate import IntervalLearner

MS = 1_000_000
START_NS = 1_700_000_000_000_000_000


def stream(index: int, name: str, source: str = "ETH1") -> Stream:
    """A stream whose key is its name."""
    return Stream(index, name, name, source, "10.0.0.1", 42994, "239.0.0.1", 42557)


def lines_of(times_ns: Mapping[str, Sequence[int]], source: str = "ETH1") -> list[Line]:
    """The lines of PDUs that came at these times."""
    streams = {name: stream(i, name, source) for i, name in enumerate(times_ns)}
    came = sorted((t, name) for name, times in times_ns.items() for t in times)
    last: dict[str, int] = {}
    lines = []
    for number, (t, name) in enumerate(came):
        delta = t - last[name] if name in last else None
        last[name] = t
        lines.append(Line(number, number + 1, t, streams[name], STATE_NORMAL, delta))
    return lines


def raster(
    rng: np.random.Generator, cycle_ms: float, seconds: float, jitter: float = 0.02, start_ns: int = START_NS
) -> list[int]:
    """Send times on a raster with a random phase and normal jitter in shares of the cycle."""
    cycle_ns = cycle_ms * MS
    count = int(seconds * 1e9 / cycle_ns)
    times = rng.uniform(0, cycle_ns) + cycle_ns * (np.arange(count) + jitter * rng.standard_normal(count))
    return [start_ns + int(t) for t in np.sort(times)]


CYCLES_MS = (10, 10, 20, 20, 20, 50, 50, 100, 100, 100)


def drive(rng: np.random.Generator, seconds: float, start_ns: int = START_NS) -> list[Line]:
    """Ten cyclic PDUs, `P0` to `P9`."""
    return lines_of(
        {f"P{i}": raster(rng, cycle, seconds, start_ns=start_ns) for i, cycle in enumerate(CYCLES_MS)}
    )


def blocks_of(rng: np.random.Generator, lines: list[Line], size: int = 512) -> list[ScoreBlock]:
    """Scores in blocks; the surprisal of name and delta time is exponential with mean 1 nat."""
    blocks = []
    for i in range(0, len(lines), size):
        part = lines[i : i + size]
        nats = rng.exponential(size=(len(part), 3)).astype(np.float32)
        nats[:, 2] = np.nan
        n = len(part)
        blocks.append(ScoreBlock(part, nats, np.full(n, 2), np.full((n, 3), -1), np.zeros(n, dtype=np.bool_)))
    return blocks


def learned(*pieces: list[Line]) -> IntervalLearner:
    """A learner that has seen these pieces of traffic."""
    learner = IntervalLearner()
    for piece in pieces:
        learner.add(piece)
        learner.end_piece()
    return learner
