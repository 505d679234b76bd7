"""Measures the time from a line's arrival to its score, at an even rate of lines."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ecustream.ledger import Ledger
from ecustream.run.batching import Batcher
from ecustream.run.ring import Ring, RingCancelled
from ecustream.traffic import STATE_NORMAL, Line, Stream

__all__ = ["pace", "percentiles_ms"]

_STREAM = Stream(0, "bench", "bench", "ETH1", "10.0.0.1", 42994, "239.0.0.1", 42557)
_FIRST_AFTER_S = 0.02


def pace(
    score: Callable[[int], None],
    lines_per_s: float,
    seconds: float,
    *,
    chunk_lines: int,
    max_wait_ms: float = 5.0,
) -> dict[str, Any]:
    """Have lines arrive at an even rate, and score what has arrived.

    They come from a thread of their own through the service's ring, each due at a moment fixed in advance,
    from which its time counts: what comes late because the machine was busy is late. The service's batcher
    says when a call begins.

    Args:
        score: scores the next so many lines.
        lines_per_s: the rate.
        seconds: how long lines arrive.
        chunk_lines: lines of the largest call.
        max_wait_ms: how long the first line of a call waits for others.

    Returns:
        `lines_per_s` (wanted), `lines`, `seconds` (until the last score), `calls`, `p50_ms`, `p99_ms`
        and `max_ms`.
    """
    count = max(1, round(lines_per_s * seconds))
    due_ns = (np.arange(count) / lines_per_s * 1e9).astype(np.int64).tolist()
    changed = threading.Condition()
    ring = Ring(count, "wait", Ledger(), changed)
    batcher = Batcher(chunk_lines, round(max_wait_ms * 1e6))
    begin_ns = time.monotonic_ns() + round(_FIRST_AFTER_S * 1e9)
    lines = [Line(i, 0, begin_ns + due, _STREAM, STATE_NORMAL, None) for i, due in enumerate(due_ns)]
    arrival = threading.Thread(target=_arrive, args=(ring, lines), name="arrival", daemon=True)
    arrival.start()
    latencies_ns: list[int] = []
    calls = 0
    try:
        while len(latencies_ns) < count:
            _wait(ring, batcher, changed)
            arrived, _ = ring.take(chunk_lines)
            score(len(arrived))
            now_ns = time.monotonic_ns()
            latencies_ns += [now_ns - line.time_ns for line in arrived]
            calls += 1
    finally:
        ring.cancel()
        arrival.join()
    return {
        "lines_per_s": lines_per_s,
        "lines": count,
        "seconds": (time.monotonic_ns() - begin_ns) / 1e9,
        "calls": calls,
        **percentiles_ms(np.asarray(latencies_ns)),
    }


def percentiles_ms(latencies_ns: npt.NDArray[np.int64]) -> dict[str, float]:
    """`p50_ms`, `p99_ms` and `max_ms` of times in nanoseconds."""
    p50, p99, most = (float(p) / 1e6 for p in np.percentile(latencies_ns, (50, 99, 100)))
    return {"p50_ms": p50, "p99_ms": p99, "max_ms": most}


def _wait(ring: Ring, batcher: Batcher, changed: threading.Condition) -> None:
    with changed:
        while (wait := batcher.wait([ring.waiting()], time.monotonic_ns())).ns != 0:
            ring.wake_at(wait.lines)
            changed.wait(None if wait.ns is None else wait.ns / 1e9)


def _arrive(ring: Ring, lines: list[Line]) -> None:
    first = 0
    try:
        while first < len(lines):
            now_ns = time.monotonic_ns()
            if (wait_ns := lines[first].time_ns - now_ns) > 0:
                time.sleep(wait_ns / 1e9)
                continue
            last = first + 1
            while last < len(lines) and lines[last].time_ns <= now_ns:
                last += 1
            ring.put(lines[first:last])
            first = last
    except RingCancelled:
        return
    ring.close()
