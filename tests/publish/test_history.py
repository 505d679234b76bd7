"""The answers of the reply socket, without a socket."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.publish.history import MAX_REQUEST_BYTES, History
from ecustream.publish.messages import encode, json_schemas
from tests.publish.examples import RUN, make_event, make_status


def filled(count: int, capacity: int = 100) -> History:
    """A history of `count` events, each the opening of its own episode."""
    history = History(RUN, capacity)
    for seq in range(1, count + 1):
        history.append(make_event(seq))
    return history


def ask(history: History, **request: Any) -> Any:
    """The decoded answer to a request."""
    return msgspec.json.decode(history.answer(msgspec.json.encode(request), make_status()))


def test_replay_gives_the_published_bytes() -> None:
    """What is replayed is byte for byte what was published, even if the event object changed since."""
    history = History(RUN, 10)
    event = make_event(1)
    published = history.append(event)
    event.reason = "changed"
    answer = history.answer(b'{"op":"replay","run":"%b","after":0}' % RUN.encode(), make_status())
    assert published == encode(make_event(1))
    assert answer == b'{"run":"%b","events":[%b],"complete":true}' % (RUN.encode(), published)


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
        assert [event["seq"] for event in healed["events"]] == list(range(oldest, count + 1))
    else:
        assert list(answer) == ["run", "events", "complete"]
        assert [event["seq"] for event in answer["events"]] == list(range(after + 1, count + 1))


def test_other_run() -> None:
    """A client that knows the run before a restart is told the present one."""
    assert ask(filled(3), op="replay", run="before", after=2) == {"error": "other_run", "run": RUN}


def test_snapshot_holds_the_open_episodes() -> None:
    """Open episodes are in the snapshot with their last message, closed ones are not, however old."""
    history = History(RUN, 2)
    for seq, (phase, episode) in enumerate(
        [("open", 1), ("open", 2), ("open", 3), ("update", 1), ("close", 2), ("update", 1)], start=1
    ):
        history.append(make_event(seq, phase=phase, episode=episode))  # type: ignore[arg-type]
    answer = ask(history, op="snapshot")
    assert (answer["run"], answer["seq"]) == (RUN, 6)
    assert [(event["id"][-1], event["seq"]) for event in answer["open"]] == [("1", 6), ("3", 3)]


def test_status_and_schema() -> None:
    """The last status and the schemas are to be had on request."""
    assert ask(filled(1), op="status") == msgspec.to_builtins(make_status())
    assert ask(filled(1), op="schema") == json_schemas()


@pytest.mark.parametrize(("run", "seq"), [(RUN, 2), (RUN, 4), ("another", 3)])
def test_append_refuses_a_gap(run: str, seq: int) -> None:
    """An event that does not follow the last one is a mistake of the emitter, said at once."""
    history = filled(2)
    event = make_event(seq)
    event.run = run
    with pytest.raises(ValueError, match="does not follow"):
        history.append(event)
    assert history.seq == 2


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (b"", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b'{"op":"\xff"}', ""),
        (b"[]", "object"),
        (b"{}", "op"),
        (b'{"op":3}', "str"),
        (b'{"op":"reboot"}', "snapshot, replay, status, schema"),
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
OPS = st.sampled_from(["snapshot", "replay", "status", "schema", "x"])


@given(
    st.binary(max_size=60)
    | JSON.map(msgspec.json.encode)
    | st.fixed_dictionaries({"op": OPS}, optional={"run": JSON | st.just(RUN), "after": JSON}).map(
        msgspec.json.encode
    )
)
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_answered(request_: bytes) -> None:
    """No request whatever raises, and every answer is a JSON object."""
    answer = msgspec.json.decode(filled(2).answer(request_, make_status()))
    assert isinstance(answer, dict)
