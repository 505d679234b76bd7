"""Latency at a pace: every line counted, from the time at which it was due."""

import threading
import time

import numpy as np
import pytest

from ecustream.bench.pace import pace, percentiles_ms


def test_percentiles_are_right() -> None:
    """Of 0 to 100 ms the median is 50 ms, the 99th percentile 99 ms, the most 100 ms."""
    shuffled = np.random.default_rng(0).permutation(101) * 1_000_000
    assert percentiles_ms(shuffled) == pytest.approx({"p50_ms": 50, "p99_ms": 99, "max_ms": 100})


def test_paced_lines_are_all_scored_and_none_before_it_is_there() -> None:
    """Lines come at their rate, are scored in chunks of what has come, and take no less than a call."""
    begin_s = time.monotonic()
    counts: list[int] = []

    def score(lines: int) -> None:
        counts.append(lines)
        assert sum(counts) <= (time.monotonic() - begin_s) * 500 + 1
        time.sleep(0.004)

    row = pace(score, 500, 0.4, chunk_lines=64, max_wait_ms=10)
    assert sum(counts) == row["lines"] == 200
    assert len(counts) == row["calls"]
    assert max(counts) <= 64
    assert min(counts) >= 1
    assert row["seconds"] >= 0.39
    # A call waits for 10 ms, or until 64 lines came, and takes 4 ms.
    assert 4 <= row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
    assert row["calls"] < 100


def test_a_stall_counts_for_every_line_that_came_meanwhile() -> None:
    """Times count from the moment a line was due, so a stall of 0.3 s is seen by many lines, not by one."""
    stalls = iter([0.3])

    def score(lines: int) -> None:
        time.sleep(next(stalls, 0))

    row = pace(score, 500, 0.5, chunk_lines=256)
    assert row["max_ms"] >= 295
    # Those of the first 0.3 s waited for 150 ms in the mean, so more than half of all waited for 50 ms.
    assert row["p50_ms"] >= 45


def test_an_error_in_scoring_ends_the_pacing() -> None:
    """The error passes through at once, and no thread is left that would go on for a minute."""

    def score(lines: int) -> None:
        raise RuntimeError("broken")

    before = threading.active_count()
    begin_s = time.monotonic()
    with pytest.raises(RuntimeError, match="broken"):
        pace(score, 100, 60, chunk_lines=8)
    assert time.monotonic() - begin_s < 30
    assert threading.active_count() == before
