"""Several traces scored together, each as if it were alone."""

import json
import random
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from ecustream.config import load_config
from ecustream.errors import BundleError, InputError
from ecustream.run.outcome import Outcome
from ecustream.run.ring import Ring
from ecustream.scores import ScoreBlock
from ecustream.scoring.scorer import Scorer
from ecustream.service import Run
from ecustream.traffic import Line
from tests.run.test_service_overload import ANY, assert_same_scores, scores, watched_run
from tests.running import OFFLINE

OWN = ("run", "seq", "kind_seq", "id", "trace", "score")
"""Fields that differ between a run of one trace and of several; the score does by rounding."""


@pytest.fixture(scope="module")
def traces(clean_trace: Path, faulty_trace: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A clean trace, one with faults, and one that breaks off in the middle of a packet."""
    cut = tmp_path_factory.mktemp("cut") / "cut.pcapng"
    content = faulty_trace.read_bytes()
    cut.write_bytes(content[: len(content) // 2 + 3])
    return [clean_trace, faulty_trace, cut]


def run(
    traces: Path | list[Path], bundle: Path, folder: Path, **keys: Any
) -> tuple[Outcome, list[dict[str, Any]]]:
    """The outcome and the events of a run; its logs stand in `folder`."""
    folder.mkdir()
    settings = load_config(None, OFFLINE | {key.replace("__", "."): value for key, value in keys.items()})
    events = folder / "events.jsonl"
    outcome = Run(settings, traces, bundle, events=str(events), score_log=folder / "scores.csv").execute()
    return outcome, [json.loads(line) for line in events.read_bytes().splitlines()]


def without(event: dict[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in fields}


@pytest.mark.parametrize("speed", ["max", "15"])
def test_each_trace_is_judged_as_if_alone(
    traces: list[Path], bundle_path: Path, tmp_path: Path, speed: str
) -> None:
    """Events and scores of each trace are those of a run of it alone; ids and numbers are unique."""
    outcome, events = run(traces, bundle_path, tmp_path / "all", scoring__speed=speed)
    assert list(outcome.traces) == ["clean.pcapng", "faulty.pcapng", "cut.pcapng"]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert {event["run"] for event in events} == {outcome.run}
    opened = [event["id"] for event in events if event["phase"] == "open"]
    assert len(opened) == len(set(opened)) > 8
    lines = 0
    for trace in traces:
        alone, expected = run(trace, bundle_path, tmp_path / trace.stem)
        mine = [event for event in events if event["trace"] == trace.name]
        assert [without(event, OWN) for event in mine] == [without(event, OWN) for event in expected]
        for event, other in zip(mine, expected, strict=True):
            assert event["score"]["evidence"] == pytest.approx(other["score"]["evidence"], abs=2e-2)
        logs = (tmp_path / "all" / f"scores.{trace.name}.csv", tmp_path / trace.stem / "scores.csv")
        assert assert_same_scores(*logs) == len(scores(logs[1])) > 5_000
        seen = outcome.traces[trace.name]
        assert seen.ledger.as_dict() == alone.ledger.as_dict() | {"events": {"entered": 0}}
        assert (seen.pdus, seen.episodes) == (alone.pdus, alone.episodes) or speed != "max"
        lines += alone.ledger.ends["lines"]["scored"]
        assert all("trace" not in event for event in expected)
    assert outcome.ledger.ends["lines"]["scored"] == lines
    assert outcome.ledger.ends["events"]["published"] == len(events)
    assert outcome.episodes.total() == len(opened)
    assert outcome.ledger.balanced()
    assert [str(traces[2]) in problem for problem in outcome.problems] == [True]


def test_several_traces_give_the_same_bytes_again(
    traces: list[Path], bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At full speed every log can be repeated to the byte, however the reading of the traces is delayed."""
    run(traces, bundle_path, tmp_path / "a")
    draws, put = random.Random(3), Ring.put

    def delayed(self: Ring, lines: list[Line]) -> None:
        time.sleep(draws.choice([0, 0, 0.05]))
        put(self, lines)

    monkeypatch.setattr(Ring, "put", delayed)
    run(traces, bundle_path, tmp_path / "b")
    names = [path.name for path in sorted((tmp_path / "a").iterdir())]
    assert names == [
        "events.jsonl",
        *(f"scores.{name}.csv" for name in ("clean.pcapng", "cut.pcapng", "faulty.pcapng")),
    ]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() != b""


def test_traces_share_each_pass_of_the_model(
    traces: list[Path], bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While several traces go on, the scorer gets a chunk of each at once."""
    batches, score = [], Scorer.score

    def noted(self: Scorer, batch: Any) -> list[ScoreBlock]:
        batches.append([len(lines) for _, lines in batch])
        return score(self, batch)

    monkeypatch.setattr(Scorer, "score", noted)
    outcome, _ = run(traces, bundle_path, tmp_path / "all", scoring__chunk_lines=100)
    counts = [seen.ledger.ends["lines"]["scored"] for seen in outcome.traces.values()]
    assert batches[0] == [100, 100, 100]
    assert len(batches) == -(-max(counts) // 100)


def test_rings_bound_what_waits(traces: list[Path], bundle_path: Path, tmp_path: Path) -> None:
    """With the smallest rings the traces wait for each other, and nothing is lost."""
    outcome, _ = run(traces, bundle_path, tmp_path / "small", ring__lines=64, scoring__chunk_lines=64)
    assert outcome.ledger.ends["lines"]["scored"] == outcome.ledger.entered["lines"] > 30_000


def test_status_and_pdus_tell_the_traces_apart(traces: list[Path], bundle_path: Path) -> None:
    """The status has a row for each trace and the sums of all; PDUs are told apart by their trace."""
    work = Run(load_config(None, ANY | {"scoring.speed": 15}), traces, bundle_path)
    outcome, statuses = watched_run(work)
    last = statuses[-1]
    assert [row["trace"] for row in last["traces"]] == [trace.name for trace in traces]
    assert sum(row["lines"] for row in last["traces"]) == last["ledger"]["lines"]["scored"] > 30_000
    assert [row["ended"] for row in last["traces"]] == [True] * 3
    # The cut trace ends first.
    ended = [[row["ended"] for row in status["traces"]] for status in statuses if status["traces"]]
    assert any(cut and not clean for clean, _, cut in ended)
    assert last["source"] == "ETH1"
    assert outcome.pdus.keys() == {key for seen in outcome.traces.values() for key in seen.pdus}


def test_a_trace_without_a_line_does_not_stop_the_others(
    traces: list[Path], bundle_path: Path, tmp_path: Path
) -> None:
    """It is named as a problem; only where no trace has a line is the run refused."""
    empty = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path in empty:
        path.write_text("timestamp,pduName,source,sourceIp,sourcePort,destIp,destPort\n")
    outcome, events = run([empty[0], traces[1]], bundle_path, tmp_path / "one")
    assert any(f"{empty[0]}: there is no PDU in this trace" in problem for problem in outcome.problems)
    assert {event["trace"] for event in events} == {"faulty.pcapng"}
    with pytest.raises(InputError, match=r"a\.csv: there is no PDU .*b\.csv: there is no PDU"):
        run(empty, bundle_path, tmp_path / "two")


def test_a_trace_of_another_vehicle_is_named(traces: list[Path], bundle_path: Path, tmp_path: Path) -> None:
    """Traffic that the bundle does not know is refused, and the sentence says which trace it is."""
    other = foreign(tmp_path / "other.csv", 500)
    with pytest.raises(BundleError, match=r"first \d+ lines of other\.csv"):
        run([traces[0], other], bundle_path, tmp_path / "out")


def foreign(path: Path, lines: int) -> Path:
    """A CSV trace whose PDUs no bundle knows."""
    rows = [f"{n * 1000},A{n % 9},ETH1,10.0.0.1,1,10.0.0.2,2" for n in range(lines)]
    path.write_text("timestamp,pduName,source,sourceIp,sourcePort,destIp,destPort\n" + "\n".join(rows))
    return path


def test_a_short_trace_of_another_vehicle_does_not_stop_the_others(
    traces: list[Path], bundle_path: Path, tmp_path: Path
) -> None:
    """It is named as a problem; where no trace is of the bundle's vehicle the run is refused."""
    short, other = foreign(tmp_path / "short.csv", 50), foreign(tmp_path / "other.csv", 60)
    outcome, events = run([short, traces[1]], bundle_path, tmp_path / "one")
    assert ["lines of short.csv" in problem for problem in outcome.problems] == [True]
    mine = [event for event in events if event["trace"] == "faulty.pcapng"]
    assert sorted(event["id"] for event in mine if event["phase"] == "open") == sorted(
        event["id"] for event in mine if event["phase"] == "close"
    )
    with pytest.raises(BundleError, match=r"first 50 lines of short\.csv.*first 60 lines of other\.csv"):
        run([short, other], bundle_path, tmp_path / "two")
    with pytest.raises(BundleError, match="first 50 lines"):
        run(short, bundle_path, tmp_path / "alone")


def test_a_refused_trace_leaves_no_episode_open(
    traces: list[Path], bundle_path: Path, tmp_path: Path
) -> None:
    """Where one trace is refused after a while, the open episodes of the others are closed."""
    other = foreign(tmp_path / "other.csv", 500)
    with pytest.raises(BundleError):
        run([*traces, other], bundle_path, tmp_path / "out", scoring__chunk_lines=2)
    rows = [json.loads(row) for row in (tmp_path / "out" / "events.jsonl").read_bytes().splitlines()]
    assert sum(row["phase"] == "open" for row in rows) == sum(row["phase"] == "close" for row in rows)


@pytest.mark.parametrize("speed", ["max", "15"])
def test_a_trace_that_ends_is_finished_then(
    traces: list[Path], bundle_path: Path, tmp_path: Path, speed: str
) -> None:
    """The events of a trace do not wait for the end of a longer one."""
    _, events = run(traces[1:], bundle_path, tmp_path / "two", scoring__speed=speed)
    last_of_cut = max(event["seq"] for event in events if event["trace"] == "cut.pcapng")
    reached = max(event["decided_ns"] for event in events if event["seq"] <= last_of_cut)
    after = [event for event in events if event["seq"] > last_of_cut]
    assert len(after) > 3
    assert all(event["decided_ns"] > reached - 10**9 for event in after)


def test_the_run_id_tells_traces_by_their_names(
    traces: list[Path], bundle_path: Path, tmp_path: Path
) -> None:
    """Runs whose events bear other names have other ids, one trace is the same under any name."""
    copies = [tmp_path / f"copy{i}.pcapng" for i in range(2)]
    for copy, trace in zip(copies, traces, strict=False):
        copy.write_bytes(trace.read_bytes()[:20_000])
        (tmp_path / f"b{copy.name}").write_bytes(copy.read_bytes())
    settings = load_config(None, OFFLINE)

    def run_id(*names: str) -> str:
        return Run(settings, [tmp_path / name for name in names], bundle_path).execute().run

    one, again = run_id("copy0.pcapng"), run_id("bcopy0.pcapng")
    assert one == again
    two = run_id("copy0.pcapng", "copy1.pcapng")
    assert two == run_id("copy0.pcapng", "copy1.pcapng")
    assert two != run_id("bcopy0.pcapng", "copy1.pcapng")


def test_events_of_several_traces_are_read_by_every_client(
    traces: list[Path], bundle_path: Path, tmp_path: Path
) -> None:
    """The event struct reads the trace's name, and its absence."""
    from ecustream.events import Event

    run(traces[1:], bundle_path, tmp_path / "two")
    run(traces[1], bundle_path, tmp_path / "one")
    for folder, expected in (("two", {"faulty.pcapng", "cut.pcapng"}), ("one", {msgspec.UNSET})):
        rows = (tmp_path / folder / "events.jsonl").read_bytes().splitlines()
        assert {msgspec.json.decode(row, type=Event).trace for row in rows} == expected


def test_scores_on_the_socket_name_their_trace(traces: list[Path], bundle_path: Path) -> None:
    """Each message of scores is of one trace, which it names; none has the lines of two."""
    work = Run(load_config(None, ANY | {"scoring.speed": 30}), traces[:2], bundle_path)
    assert work.pub_url is not None
    seen: dict[str, list[int]] = {}
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.subscribe(b"")
        socket.rcvtimeo = 20_000
        socket.connect(work.pub_url)
        socket.recv_multipart()
        thread = threading.Thread(target=work.execute)
        thread.start()
        state = ""
        while state != "done":
            topic, body = socket.recv_multipart()
            message = json.loads(body)
            state = message.get("state", state)
            if topic.startswith(b"score/"):
                seen.setdefault(message["trace"], []).extend(message["times_ns"])
        thread.join()
    assert set(seen) == {"clean.pcapng", "faulty.pcapng"}
    assert all(times == sorted(times) and len(times) > 500 for times in seen.values())
