"""The answers of the reply socket, without a socket."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.publish.history import MAX_REQUEST_BYTES, PAGE_BYTES, History, Record
from ecustream.publish.journal import Journal
from ecustream.publish.messages import encode, json_schemas
from tests.publish.examples import RUN, make_event, make_status
from tests.publish.journals import segments, small_disk


def filled(count: int, capacity: int = 100) -> History:
    """A history of `count` events, each the opening of its own episode."""
    history = History(RUN, capacity)
    history.extend([Record.of(make_event(seq)) for seq in range(1, count + 1)])
    return history


def journalled(folder: Path, run: str, count: int, capacity: int = 3) -> History:
    """A history with a journal, of `count` events handed over one by one."""
    history = History(run, capacity, Journal(folder, max_bytes=1_000_000, max_age_s=3600))
    for seq in range(1, count + 1):
        history.extend([Record.of(make_event(seq, run=run))])
    return history


def seqs(answer: Any) -> list[int]:
    """The `seq` of each event in a decoded answer."""
    return [event["seq"] for event in answer["events"]]


def ask(history: History, **request: Any) -> Any:
    """The decoded answer to a request."""
    return msgspec.json.decode(history.answer(msgspec.json.encode(request), make_status()))


def test_replay_gives_the_published_bytes() -> None:
    """What is replayed is byte for byte what was published, even if the event object changed since."""
    history = History(RUN, 10)
    event = make_event(1)
    history.extend([Record.of(event)])
    event.reason = "changed"
    answer = history.answer(b'{"op":"replay","run":"%b","after":0}' % RUN.encode(), make_status())
    assert answer == b'{"run":"%b","events":[%b],"complete":true,"next_run":null}' % (
        RUN.encode(),
        encode(make_event(1)),
    )


@given(count=st.integers(0, 30), capacity=st.integers(1, 12), after=st.integers(-2, 33))
@settings(deadline=None, max_examples=150)
def test_replay_is_complete_or_says_so(count: int, capacity: int, after: int) -> None:
    """A replay holds exactly the events after `after`; where it cannot, it says which is the oldest."""
    answer = ask(filled(count, capacity), op="replay", run=RUN, after=after)
    oldest = max(1, count - capacity + 1)
    if not 0 <= after <= count:
        assert answer["error"] == "bad_request"
    elif after + 1 < oldest:
        assert answer == {"error": "too_old", "oldest": oldest}
        healed = ask(filled(count, capacity), op="replay", run=RUN, after=answer["oldest"] - 1)
        assert seqs(healed) == list(range(oldest, count + 1))
    else:
        assert list(answer) == ["run", "events", "complete", "next_run"]
        assert seqs(answer) == list(range(after + 1, count + 1))
        assert answer["complete"] is True


@given(count=st.integers(0, 30), limit=st.integers(1, 12))
@settings(deadline=None, max_examples=60)
def test_pages_join_without_a_seam(count: int, limit: int) -> None:
    """Asked page by page, a replay gives every event once, and only the last page is complete."""
    history = filled(count)
    got: list[int] = []
    complete = False
    while not complete:
        answer = ask(history, op="replay", run=RUN, after=len(got), limit=limit)
        assert len(answer["events"]) <= limit
        got += seqs(answer)
        complete = answer["complete"]
        assert complete == (len(got) == count)
    assert got == list(range(1, count + 1))


def test_an_answer_is_bounded_in_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever limit is asked for, an answer holds no more events than the contract says."""
    monkeypatch.setattr("ecustream.publish.history.PAGE_EVENTS", 3)
    answer = ask(filled(5), op="replay", run=RUN, after=1, limit=10**6)
    assert (seqs(answer), answer["complete"]) == ([2, 3, 4], False)


@pytest.mark.parametrize("journal", [False, True])
def test_an_answer_is_bounded_in_bytes(tmp_path: Path, journal: bool) -> None:
    """However many events are asked for, an answer holds some megabytes, and says that there is more."""
    big = make_event(1)
    big.reason = "x" * (PAGE_BYTES // 4)
    kept = Journal(tmp_path, max_bytes=100_000_000, max_age_s=3600) if journal else None
    history = History(RUN, 1 if journal else 9, kept)
    for seq in range(1, 10):
        history.extend([Record.of(msgspec.structs.replace(big, seq=seq))])
    answer = ask(history, op="replay", run=RUN, after=0)
    assert seqs(answer) == [1, 2, 3, 4]
    assert answer["complete"] is False
    history.close()


@given(
    count=st.integers(0, 30), capacity=st.integers(1, 12), after=st.integers(0, 30), limit=st.integers(1, 40)
)
@settings(deadline=None, max_examples=60)
def test_a_journal_takes_over_where_memory_ends(
    tmp_path_factory: pytest.TempPathFactory, count: int, capacity: int, after: int, limit: int
) -> None:
    """With a journal, however little memory holds, pages reach back to the first event."""
    history = journalled(tmp_path_factory.mktemp("journal"), RUN, count, capacity)
    after = min(after, count)
    got: list[int] = []
    complete = False
    while not complete:
        answer = ask(history, op="replay", run=RUN, after=after + len(got), limit=limit)
        assert answer["events"] or after + len(got) == count
        got += seqs(answer)
        complete = answer["complete"]
    assert got == list(range(after + 1, count + 1))
    assert ask(history, op="snapshot")["oldest"] == 1
    history.close()


def test_runs_follow_each_other(tmp_path: Path) -> None:
    """From any run a reader comes to the next one, also over a run without an event, up to the present."""
    for run, count in (("a", 5), ("b", 0), ("c", 2)):
        journalled(tmp_path, run, count).close()
    history = journalled(tmp_path, "now", 4)
    assert ask(history, op="runs") == {
        "runs": [
            {"run": "a", "first_seq": 1, "last_seq": 5},
            {"run": "b", "first_seq": 1, "last_seq": 0},
            {"run": "c", "first_seq": 1, "last_seq": 2},
            {"run": "now", "first_seq": 1, "last_seq": 4},
        ]
    }
    run, after, seen = "a", 3, []
    while run is not None:
        answer = ask(history, op="replay", run=run, after=after, limit=1)
        seen += [(run, seq) for seq in seqs(answer)]
        run, after = (answer["next_run"], 0) if answer["complete"] else (run, after + 1)
    assert seen == [("a", 4), ("a", 5), ("c", 1), ("c", 2), ("now", 1), ("now", 2), ("now", 3), ("now", 4)]
    assert ask(history, op="replay", run="never", after=0) == {"error": "other_run", "run": "now"}
    assert ask(history, op="replay", run="a", after=-1)["error"] == "bad_request"
    # Who saw more of an ended run than is known of it has missed nothing of it.
    assert ask(history, op="replay", run="a", after=9)["complete"] is True
    history.close()


def test_what_is_lost_is_named(tmp_path: Path) -> None:
    """Where somebody deleted the files, a reader is told up to where events are gone, and can go on."""
    journalled(tmp_path, "a", 5).close()
    history = journalled(tmp_path, "now", 9, capacity=4)
    for path in segments(tmp_path):
        path.unlink()
    assert ask(history, op="replay", run="a", after=2) == {"error": "too_old", "oldest": 6}
    assert ask(history, op="replay", run="a", after=5)["next_run"] == "now"
    assert ask(history, op="replay", run="now", after=0) == {"error": "too_old", "oldest": 6}
    assert seqs(ask(history, op="replay", run="now", after=5)) == [6, 7, 8, 9]
    history.close()


def test_a_gap_in_the_journal_may_be_in_memory(tmp_path: Path) -> None:
    """While the journal cannot be written, replays go from its last event on into memory, or name the gap."""
    history = journalled(tmp_path, RUN, 5, capacity=4)
    with small_disk(10):
        for seq in range(6, 9):
            history.extend([Record.of(make_event(seq))])
        assert ask(history, op="snapshot")["oldest"] == 1
        assert seqs(ask(history, op="replay", run=RUN, after=1)) == [2, 3, 4, 5]
        assert seqs(ask(history, op="replay", run=RUN, after=5)) == [6, 7, 8]
        for seq in range(9, 11):
            history.extend([Record.of(make_event(seq))])
        assert ask(history, op="snapshot")["oldest"] == 7
        assert ask(history, op="replay", run=RUN, after=5) == {"error": "too_old", "oldest": 7}
        assert ask(history, op="runs")["runs"] == [{"run": RUN, "first_seq": 1, "last_seq": 10}]
    history.close()


def test_a_history_without_a_journal_knows_one_run() -> None:
    """Without a journal there is the present run, as far as memory reaches."""
    history = filled(9, capacity=4)
    assert ask(history, op="runs") == {"runs": [{"run": RUN, "first_seq": 6, "last_seq": 9}]}
    assert ask(history, op="snapshot")["oldest"] == 6
    assert ask(filled(0), op="snapshot")["oldest"] == 1
    assert history.journal_status() is None


def test_other_run() -> None:
    """A client that knows the run before a restart is told the present one."""
    assert ask(filled(3), op="replay", run="before", after=2) == {"error": "other_run", "run": RUN}


def test_snapshot_holds_the_open_episodes() -> None:
    """Open episodes are in the snapshot with their last message, closed ones are not, however old."""
    history = History(RUN, 2)
    for seq, (phase, episode) in enumerate(
        [("open", 1), ("open", 2), ("open", 3), ("update", 1), ("close", 2), ("update", 1)], start=1
    ):
        history.extend([Record.of(make_event(seq, phase=phase, episode=episode))])  # type: ignore[arg-type]
    answer = ask(history, op="snapshot")
    assert (answer["run"], answer["seq"]) == (RUN, 6)
    assert [(event["id"][-1], event["seq"]) for event in answer["open"]] == [("1", 6), ("3", 3)]


def test_status_and_schema() -> None:
    """The last status and the schemas are to be had on request."""
    assert ask(filled(1), op="status") == msgspec.to_builtins(make_status())
    assert ask(filled(1), op="schema") == json_schemas()


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (b"", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b'{"op":"\xff"}', ""),
        (b"[]", "object"),
        (b"{}", "op"),
        (b'{"op":3}', "str"),
        (b'{"op":"reboot"}', "snapshot, replay, runs, status, pdus, schema"),
        (b'{"op":"replay","run":"r","after":1,"limit":0}', "limit"),
        (b'{"op":"replay","run":"r","after":1,"limit":null}', "limit"),
        (b'{"op":"replay"}', "run"),
        (b'{"op":"replay","run":"r","after":"1"}', "int"),
        (b'{"op":"replay","run":"r","after":1e99}', "int"),
        (b'{"a":' + b"[" * 3000, "deep"),
        (b'{"op":"status","pad":"' + b"x" * MAX_REQUEST_BYTES + b'"}', f"{MAX_REQUEST_BYTES} bytes"),
    ],
)
def test_bad_requests(request_: bytes, why: str) -> None:
    """Whatever is no request gets an answer that says why."""
    answer = msgspec.json.decode(filled(1).answer(request_, make_status()))
    assert answer["error"] == "bad_request"
    assert why in answer["why"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
OPS = st.sampled_from(["snapshot", "replay", "runs", "status", "schema", "x"])


@given(
    st.binary(max_size=60)
    | JSON.map(msgspec.json.encode)
    | st.fixed_dictionaries(
        {"op": OPS}, optional={"run": JSON | st.just(RUN), "after": JSON | st.integers(0, 2), "limit": JSON}
    ).map(msgspec.json.encode)
)
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_answered(request_: bytes) -> None:
    """No request whatever raises, and every answer is a JSON object."""
    answer = msgspec.json.decode(filled(2).answer(request_, make_status()))
    assert isinstance(answer, dict)
