"""Traffic for a long time: does the process grow?"""

import time
from pathlib import Path

from tests.reliability.command import ask, running, wait_for
from tests.reliability.left import printed_ledger
from tests.reliability.listener import listening
from tests.reliability.memory import median_slope_per_h, sampled, slope_per_h
from tests.reliability.row import Row, Scale
from tests.reliability.traces import SOURCE, demo_packets, repeated, write_pcap

__all__ = ["measure"]

SECONDS: dict[Scale, float] = {"short": 3.0, "long": 900.0}
WARM_UP: float = 0.2
"""The share of the time at the beginning that is not looked at."""
SPEED = 5
MOST_MIB_PER_H = 16.0
"""Of the median slope in a quarter of an hour; in seconds it says nothing."""


def measure(scale: Scale, folder: Path) -> Row:
    """See `Measure`."""
    seconds = SECONDS[scale]
    times = 2 + round(seconds * SPEED / 60)
    trace = write_pcap(folder / "trace.pcap", repeated(demo_packets(), times))
    given = [
        *("--pcap", trace, "--source", SOURCE, "--speed", SPEED, "--events", folder / "events.jsonl"),
        # Memory for events is meant to fill up, so there is little of it.
        *("--journal", folder / "journal", "--set", "publish.history_events=50"),
    ]
    with running(folder, *given) as run, listening(run.pub, run.reply) as heard:
        wait_for(run, lambda status: status["state"] == "running")
        with sampled(run.process.pid, min(5.0, seconds / 20)) as samples:
            time.sleep(seconds)
            lines_per_s = (ask(run) or {}).get("lines_per_s", 0.0)
            seen = samples()
        run.process.terminate()
        code = run.process.wait(60)
        heard.wait()
        books = printed_ledger(run.out.read_text())
    warm_up_s = WARM_UP * seconds
    settled = [sample for sample in seen if sample.at_s - seen[0].at_s >= warm_up_s]
    slope = slope_per_h(seen, warm_up_s=warm_up_s)
    median = median_slope_per_h(seen, warm_up_s=warm_up_s)
    descriptors = {sample.descriptors for sample in settled}
    threads = {sample.threads for sample in settled}
    complete = heard.all_of_one_run(books["events"]["published"]) and not heard.lost
    grows = scale == "long" and median > MOST_MIB_PER_H
    rate = (
        f"{slope:+.1f} MiB/h by least squares, median slope {median:+.1f}"
        if scale == "long"
        else "too short for a slope"
    )
    return Row(
        "traffic for a long time",
        f"{seconds / 60:g} min of the demo trace, again and again, at {SPEED} times real time, "
        f"{lines_per_s:,.0f} lines/s, with journal, event log, subscriber; without the first {WARM_UP:.0%}",
        f"memory {settled[0].rss_mib:.0f} to {settled[-1].rss_mib:.0f} MiB, {rate}; "
        f"{_range(descriptors)} descriptors, {_range(threads)} threads; {len(heard.events):,} events, "
        f"{'none' if complete else 'SOME'} lost; the ledger balances; exit code {code}",
        code == 130
        and complete
        and not grows
        and max(descriptors) <= min(descriptors) + 2
        and len(threads) == 1,
    )


def _range(counts: set[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"
