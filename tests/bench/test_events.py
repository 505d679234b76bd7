"""The bench of events measures what it says: every event read by every reader, and times that are true."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from ecustream.bench import events as bench_events
from ecustream.bench.trial import Transport, Trial
from ecustream.cli import app
from ecustream.errors import ConfigError

SECONDS = 0.3


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process stands still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """A short run of the bench."""
    return bench_events.bench_events(seconds=SECONDS, readers=3)


def test_every_row_has_its_figures(report: dict[str, Any]) -> None:
    """Both transports at both rates, with one reader and with many; nothing is missing or asked for again."""
    rows = report["rows"]
    assert [row["name"] for row in rows] == [
        "tcp, 100/s to 1",
        "ipc, 100/s to 1",
        "tcp, 1,000/s to 1",
        "ipc, 1,000/s to 1",
        "tcp, 1,000/s to 3",
        "ipc, 1,000/s to 3",
    ]
    for row in rows:
        assert row["events"] == (30 if " 100/s" in row["name"] else 300)
        assert row["seconds"] >= SECONDS
        assert row["events_per_s"] == pytest.approx(row["events"] / row["seconds"])
        assert [row[count] for count in ("lost", "missing", "requests", "queue_full")] == [0, 0, 0, 0]
        assert 10 < row["p50_us"] <= row["p99_us"] <= row["max_us"] < 20e6
    assert "Python" in report["machine"]
    assert report["load"] >= 0


def test_the_table_shows_every_row_and_the_machine(report: dict[str, Any]) -> None:
    """On a terminal of usual width: each measurement once, the machine, and its load."""
    console = Console(file=io.StringIO(), width=80)
    console.print(bench_events.render_events(report))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for row in report["rows"]:
        assert text.count(f"{row['name']} ") == 1
    assert report["machine"].split(",")[0] in text
    assert f"load average before: {report['load']:.1f}" in text
    assert "…" not in text


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_a_time_is_from_publish_to_the_loop(tmp_path: Path, transport: Transport) -> None:
    """The events that a reader slept through took it as long as it still slept."""
    asleep_s = 0.5
    with Trial(tmp_path, transport, 2, 1000) as trial:
        reader = trial.reader_pids[0]
        trial.begin(1000)
        time.sleep(0.1)
        with stopped(reader):
            time.sleep(asleep_s)
        outcome = trial.end(timeout_s=20)
    assert [report[:3] for report in outcome.readers] == [(1000, 0, 0)] * 2
    slept, awake = (np.asarray(report.latencies_ns) / 1e9 for report in outcome.readers)
    assert slept.max() > asleep_s - 0.1
    assert np.median(awake) < asleep_s / 2
    assert np.all(slept > 0)
    assert outcome.peak_bytes > 10_000_000


def test_a_reader_that_does_not_end_is_an_error(tmp_path: Path) -> None:
    """A trial whose reader stands still raises, and leaves no process behind."""
    with Trial(tmp_path, "ipc", 1, 10) as trial:
        os.kill(trial.reader_pids[0], signal.SIGSTOP)
        trial.begin(1000)
        with pytest.raises(TimeoutError, match="1 readers do not have all events"):
            trial.end(timeout_s=0.3)
    assert not Path(f"/proc/{trial.publisher_pid}").exists()
    assert not Path(f"/proc/{trial.reader_pids[0]}").exists()


def test_nothing_outlives_who_began_the_trial(tmp_path: Path) -> None:
    """Killed in the middle of a trial, it leaves no process behind, also none that waits for events."""
    program = (
        "import time; from pathlib import Path; from ecustream.bench.trial import Trial\n"
        f"trial = Trial(Path({str(tmp_path)!r}), 'ipc', 1, 10)\n"
        "print(trial.publisher_pid, *trial.reader_pids, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = process.stdout.readline().split()
        assert len(pids) == 2
        process.kill()
    deadline_s = time.monotonic() + 20
    while any(Path("/proc", pid).exists() for pid in pids):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_the_command_prints_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, report: dict[str, Any]
) -> None:
    """`bench events` prints the table, with --json the report; another name is refused with what there is."""
    monkeypatch.setattr(bench_events, "bench_events", lambda: report)
    run = CliRunner().invoke
    assert "tcp, 100/s to 1" in run(app, ["bench", "events"]).output
    assert json.loads(run(app, ["bench", "events", "--json"]).output) == report
    refused = run(app, ["bench", "nonsense"]).exception
    assert isinstance(refused, ConfigError)
    assert str(refused).endswith("choose capture, score, events or all")
