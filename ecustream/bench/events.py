"""Measures how long events take to their readers, and that all arrive: real sockets, a process each."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ecustream.bench.machine import machine_line
from ecustream.bench.trial import Transport, Trial

__all__ = ["bench_events", "render_events"]

Row = dict[str, Any]


def bench_events(seconds: float = 7.0, readers: int = 50) -> dict[str, Any]:
    """Measure the time from `publish()` to the loop of the reader, for one reader and for many.

    The publisher and each reader are processes of their own on this machine. Events have the size of real
    ones and come at an even rate.

    Args:
        seconds: for how long events are published, for each row.
        readers: how many there are in the last rows.

    Returns:
        `machine`: a line about the processor and Python; `load`: processes that wanted to run in the
        minute before (load average); and `rows`, each with `name`, `readers`, `events` (published),
        `seconds` (wall, of publishing), `events_per_s`, `lost` (events of which a reader was told that they
        are gone), `missing` (others not read exactly once and in order), `requests` (replays that readers
        needed), `queue_full` (how often a reader's queue became full), and `p50_us`, `p99_us` and
        `max_us`, in microseconds. Counts are those of all readers together.
    """
    load = os.getloadavg()[0]
    plan: list[tuple[Transport, int, int]] = [
        (transport, 1, rate) for rate in (100, 1000) for transport in ("tcp", "ipc")
    ]
    plan += [("tcp", readers, 1000), ("ipc", readers, 1000)]
    return {"machine": machine_line(), "load": load, "rows": [_measure(*each, seconds) for each in plan]}


def render_events(report: dict[str, Any]) -> Table:
    """A table for the terminal from what `bench_events` returned."""
    caption = f"{report['machine']}; load average before: {report['load']:.1f}"
    table = Table(title="Events: publish() to the reader's loop", caption=caption)
    table.add_column("what", no_wrap=True)
    for column in ("lost", "missing", "requests", "p50 ms", "p99 ms", "max ms"):
        table.add_column(column, justify="right")
    for row in report["rows"]:
        counts = (f"{row[key]:,}" for key in ("lost", "missing", "requests"))
        times = (f"{row[key] / 1000:,.2f}" for key in ("p50_us", "p99_us", "max_us"))
        table.add_row(row["name"], *counts, *times)
    return table


def _measure(transport: Transport, readers: int, events_per_s: int, seconds: float) -> Row:
    events = round(events_per_s * seconds)
    with tempfile.TemporaryDirectory() as folder, Trial(Path(folder), transport, readers, events) as trial:
        trial.begin(events_per_s)
        outcome = trial.end(timeout_s=60)
    latencies_ns = np.concatenate([np.asarray(report.latencies_ns) for report in outcome.readers])
    p50_us, p99_us, max_us = (float(p) / 1000 for p in np.percentile(latencies_ns, (50, 99, 100)))
    return {
        "name": f"{transport}, {events_per_s:,}/s to {readers}",
        "readers": readers,
        "events": events,
        "seconds": outcome.seconds,
        "events_per_s": events / outcome.seconds,
        "lost": sum(report.lost for report in outcome.readers),
        "missing": sum(events - report.read - report.lost + report.extra for report in outcome.readers),
        "requests": outcome.requests,
        "queue_full": outcome.queue_full,
        "p50_us": p50_us,
        "p99_us": p99_us,
        "max_us": max_us,
    }
