"""How a run on an interface ends, where more waits than can be scored."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ecustream.config import load_config
from ecustream.run.outcome import Outcome
from ecustream.scores import ScoreBlock
from ecustream.scoring.scorer import Scorer
from ecustream.service import Run
from ecustream.supervisor import Supervisor
from ecustream.systemd import Notifier
from tests.namespaces import cable, needs_network, sender, wait_for
from tests.run.test_live_lanes import frames_of
from tests.run.test_live_service import captures

pytestmark = needs_network

LINES_WAIT = 3000


@pytest.fixture(autouse=True)
def network() -> Iterator[str]:
    """A cable with the ends `a0` and `b0`."""
    with cable("stop") as name:
        yield name


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass of the scorer takes a fifth of a second."""
    score = Scorer.score

    def slowed(self: Scorer, batch: Any) -> list[ScoreBlock]:
        time.sleep(0.2)
        return score(self, batch)

    monkeypatch.setattr(Scorer, "score", slowed)


class Busy:
    """A run to which thousands of lines came at once, and what it has said of trouble."""

    def __init__(self, trace: Path, bundle: Path, **options: Any) -> None:
        self.said: list[tuple[str, str]] = []
        self.outcomes: list[Outcome] = []
        settings = {"publish.enabled": False, "input.source": "ETH1", "scoring.chunk_lines": 64}
        frames = frames_of(trace)
        self.run = Run(
            load_config(None, settings),
            [],
            bundle,
            interfaces=["b0"],
            say=lambda level, words: self.said.append((level, words)) if level != "info" else None,
            **options,
        )
        self._thread = threading.Thread(target=lambda: self.outcomes.append(self.run.execute()))
        self._thread.start()
        wait_for(captures, 60)
        with sender("a0") as wire:
            for frame in frames[:LINES_WAIT]:
                wire.send(frame.data)
        ledger = self.run._lanes[0].ledger
        wait_for(lambda: ledger.entered["lines"] > LINES_WAIT // 2)

    def end(self) -> Outcome:
        """The outcome, when it has ended."""
        self._thread.join(60)
        (outcome,) = self.outcomes
        assert outcome.ledger.balanced()
        return outcome


@pytest.mark.usefixtures("slow")
def test_what_cannot_be_scored_in_time_is_dropped(clean_trace: Path, bundle_path: Path) -> None:
    """The rest is counted, a sentence tells of it, and the run counts as interrupted."""
    busy = Busy(clean_trace, bundle_path, longest_drain_s=0.5)
    busy.run.stop()
    outcome = busy.end()
    assert outcome.ledger.ends["lines"]["unscored{cancelled}"] > 0
    assert outcome.interrupted
    assert busy.said == [
        (
            "warning",
            "not all that waited could be scored within 0.5 s of the stop; see lines unscored{cancelled}",
        )
    ]


def test_what_can_be_scored_in_time_is_scored(clean_trace: Path, bundle_path: Path) -> None:
    """Then nobody is told of anything, and it is the ordinary end."""
    busy = Busy(clean_trace, bundle_path)
    busy.run.stop()
    outcome = busy.end()
    assert set(outcome.ledger.ends["lines"]) == {"scored"}
    assert not outcome.interrupted
    assert busy.said == []


@pytest.mark.usefixtures("slow")
def test_stopped_twice_it_drops_what_waits(clean_trace: Path, bundle_path: Path) -> None:
    """At once, and without a sentence: it was asked for."""
    busy = Busy(clean_trace, bundle_path)
    busy.run.stop()
    busy.run.stop()
    outcome = busy.end()
    assert outcome.ledger.ends["lines"]["unscored{cancelled}"] > LINES_WAIT // 3
    assert outcome.interrupted
    assert busy.said == []


@pytest.mark.usefixtures("slow")
def test_a_run_that_ends_takes_no_other_bundle(clean_trace: Path, bundle_path: Path, tmp_path: Path) -> None:
    """What it still scores would only wait for it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        with Supervisor(notifier=notifier) as supervisor:
            busy = Busy(clean_trace, bundle_path, supervisor=supervisor, longest_drain_s=1)
            while manager.recv(4096) != b"READY=1":
                pass
            busy.run.stop()
            busy.run.reload()
            busy.end()
        told = []
        with suppress(BlockingIOError):
            while True:
                told.append(manager.recv(4096))
    assert b"STOPPING=1" in told
    assert not any(words.startswith(b"RELOADING=1") for words in told)
    assert [level for level, _ in busy.said] == ["warning"]


def test_a_hangup_before_it_is_up_is_a_reload(bundle_path: Path, tmp_path: Path) -> None:
    """By default it would end the process, and systemd calls that a clean end and starts nothing again."""
    command = [sys.executable, "-m", "ecustream", "run", "--interface", "b0", "--source", "ETH1"]
    command += ["--model", str(bundle_path), "--no-publish"]
    said = tmp_path / "said"
    with said.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        # Before that it is still the interpreter that starts.
        wait_for(lambda: handles(process.pid, signal.SIGHUP), 60)
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: "the bundle was replaced" in said.read_text() or process.poll() is not None, 60)
    finally:
        process.terminate()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said.read_text()
    assert "the ledger balances" in out


def test_it_ends_with_its_terminal(bundle_path: Path, tmp_path: Path) -> None:
    """Else it would capture for ever, unseen, and hold the sockets; the events so far are kept."""
    events = tmp_path / "events.jsonl"
    command = [sys.executable, "-m", "ecustream", "run", "--interface", "b0", "--source", "ETH1"]
    command += ["--model", str(bundle_path), "--no-publish", "--events", str(events)]
    ours, theirs = os.openpty()
    command = ["setsid", "--ctty", *command]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        wait_for(lambda: captures() or process.poll() is not None, 60)
        assert process.poll() is None
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert process.poll() is None, "with a terminal it is a reload as ever"
        os.close(ours)
        process.wait(20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode != -signal.SIGKILL


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) & 1 << (number - 1))
    return False
