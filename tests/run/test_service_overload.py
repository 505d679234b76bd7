"""A run for which traffic comes too fast: it says so, skips what it must, and stays exact."""

import csv
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from ecustream.config import load_config
from ecustream.run.outcome import Outcome
from ecustream.run.ring import Ring
from ecustream.scores import ScoreBlock
from ecustream.scoring.scorer import Scorer
from ecustream.service import Run
from tests.running import OFFLINE, run_offline

ANY = {"publish.pub": "tcp://127.0.0.1:*", "publish.reply": "tcp://127.0.0.1:*"}
SLOW = {"scoring.speed": 8, "scoring.chunk_lines": 128, "ring.lines": 2048}


def scores(path: Path) -> dict[int, list[float]]:
    """Nats of the fields of each line that was not warming, by its number."""
    with path.open() as file:
        return {
            int(row["number"]): [float(row[key] or "nan") for key in row if key.endswith("_nats")]
            for row in csv.DictReader(file)
            if row["warming"] == "0"
        }


def assert_same_scores(path: Path, whole: Path) -> int:
    """Each score that is not warming is that of the whole run, within 1e-4 nats; how many there were."""
    some, every = scores(path), scores(whole)
    assert set(some) <= set(every)
    numbers = sorted(some)
    np.testing.assert_allclose([some[n] for n in numbers], [every[n] for n in numbers], atol=1e-4, rtol=0)
    return len(numbers)


def slow_down(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The first passes of the scorer take a tenth of a second each."""
    passes, score = iter(range(count)), Scorer.score

    def slowed(self: Scorer, batch: Any) -> list[ScoreBlock]:
        if next(passes, None) is not None:
            time.sleep(0.1)
        return score(self, batch)

    monkeypatch.setattr(Scorer, "score", slowed)


def watched_run(work: Run) -> tuple[Outcome, list[dict[str, Any]]]:
    """The outcome of a run and all its statuses."""
    assert work.pub_url is not None
    outcomes: list[Outcome] = []
    statuses: list[dict[str, Any]] = []
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.subscribe(b"status/")
        socket.rcvtimeo = 20_000
        socket.connect(work.pub_url)
        statuses.append(json.loads(socket.recv_multipart()[1]))
        thread = threading.Thread(target=lambda: outcomes.append(work.execute()))
        thread.start()
        while statuses[-1]["state"] != "done":
            statuses.append(json.loads(socket.recv_multipart()[1]))
        thread.join()
    return outcomes[0], statuses


def stall_until_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass of the scorer takes until the first lines were skipped, however fast the machine is."""
    dropped, score, drop = threading.Event(), Scorer.score, Ring._drop_for
    passes = iter(range(10))

    def noted(self: Ring, coming: int) -> int:
        of_coming = drop(self, coming)
        if self._gap:
            dropped.set()
        return of_coming

    def stalled(self: Scorer, batch: Any) -> list[ScoreBlock]:
        if next(passes, None) is None:
            assert dropped.wait(20)
        return score(self, batch)

    monkeypatch.setattr(Ring, "_drop_for", noted)
    monkeypatch.setattr(Scorer, "score", stalled)


def test_skips_says_so_and_recovers(
    clean_trace: Path, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines are skipped and counted, statuses tell of overload and its end, no episode comes of it."""
    settings = load_config(None, ANY | SLOW | {"ring.lines": 1024, "ring.when_full": "skip"})
    log, events = tmp_path / "skip.csv", tmp_path / "events.jsonl"
    work = Run(settings, clean_trace, bundle_path, score_log=log, events=str(events))
    stall_until_skipped(monkeypatch)
    outcome, statuses = watched_run(work)
    skipped = outcome.ledger.ends["lines"]["overwritten{backlog}"]
    assert skipped >= 512
    assert outcome.ledger.balanced()
    assert 2.0 < outcome.overloaded_s < outcome.seconds

    states = [status["state"] for status in statuses]
    first = states.index("overloaded")
    assert "lines were skipped so far" in statuses[first]["reason"]
    assert "running" in states[first:]
    assert statuses[-1]["reason"] is None

    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert {event["kind"] for event in told} == {"capture_gap"}
    counts = [int(event["reason"].split()[0].replace(",", "")) for event in told if event["phase"] == "open"]
    assert sum(counts) == skipped
    assert outcome.episodes["capture_gap"] == len(counts) <= skipped // 512

    Run(load_config(None, OFFLINE), clean_trace, bundle_path, score_log=tmp_path / "all.csv").execute()
    scored = outcome.ledger.ends["lines"]["scored"]
    assert assert_same_scores(log, tmp_path / "all.csv") > 0.5 * scored


def test_waits_and_says_so(
    faulty_trace: Path, bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default nothing is skipped: the replay falls behind, which is overload, and scores stay exact."""
    slow_down(monkeypatch, 30)
    log = tmp_path / "wait.csv"
    work = Run(load_config(None, ANY | SLOW), faulty_trace, bundle_path, score_log=log)
    outcome, statuses = watched_run(work)
    assert "overloaded" in [status["state"] for status in statuses]
    assert max(status["lag_s"] for status in statuses) > 5
    assert outcome.ledger.ends["lines"]["scored"] == outcome.ledger.entered["lines"]
    assert outcome.overloaded_s > 0
    Run(load_config(None, OFFLINE), faulty_trace, bundle_path, score_log=tmp_path / "all.csv").execute()
    assert assert_same_scores(log, tmp_path / "all.csv") == len(scores(tmp_path / "all.csv"))


def test_a_machine_that_is_fast_enough_is_not_overloaded(
    faulty_trace: Path, bundle_path: Path, tmp_path: Path
) -> None:
    """A replay that scoring keeps up with skips nothing and gives the events of full speed."""
    settings = load_config(None, OFFLINE | {"scoring.speed": 15, "ring.when_full": "skip"})
    summary, events = run_offline(faulty_trace, bundle_path, tmp_path / "paced.jsonl", settings)
    assert isinstance(summary, Outcome)
    assert summary.overloaded_s == 0
    _, expected = run_offline(faulty_trace, bundle_path, tmp_path / "max.jsonl")
    assert [(e.phase, e.kind, e.start_ns) for e in events] == [
        (e.phase, e.kind, e.start_ns) for e in expected
    ]
