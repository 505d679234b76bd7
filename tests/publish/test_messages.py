"""What is on the wire."""

import msgspec
import numpy as np
import pytest

from ecustream.events import Event
from ecustream.publish.messages import ScoreBatch, Status, encode, json_schemas, score_batches, topic
from ecustream.scores import ScoreBlock
from ecustream.traffic import STATE_NORMAL, Line, Stream
from tests.publish.examples import make_event, make_scores, make_status

GOLDEN_EVENT_1 = (
    b'{"schema":"ecustream.event/1","run":"01JD5Z0000000000000000000A","seq":7,"kind_seq":7,'
    b'"id":"01JD5Z0000000000000000000A-7","kind":"anomaly","phase":"open","source":"eth1",'
    b'"start_ns":1700000095772264000,"end_ns":null,"decided_ns":1700000095774000007,"published_ns":null,'
    b'"frames":[120331,120344],"lines":4,'
    b'"pdus":[{"name":"ESC_03","lines":3,"fields":["deltaTime"]}],"evidence":"late",'
    b'"score":{"perplexity":4.1,"surprisal":11.2,"evidence":9.3,"threshold":7.9},'
    b'"reason":"ESC_03 came 31.5 ms after its last occurrence, expected 10.0 ms (9.6 to 10.5)",'
    b'"wireshark":"frame.number >= 120331 && frame.number <= 120344"}'
)


def test_golden_event() -> None:
    """An event of schema 1 is these bytes, and they are read back as that event, in every later version."""
    assert encode(make_event(7)) == GOLDEN_EVENT_1
    assert msgspec.json.decode(GOLDEN_EVENT_1, type=Event) == make_event(7)


def test_new_fields_do_no_harm() -> None:
    """A reader of schema 1 ignores fields that a later version adds."""
    later = GOLDEN_EVENT_1[:-1] + b',"bench":{"name":"B7"}}'
    assert msgspec.json.decode(later, type=Event) == make_event(7)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (make_event(1), b"event/anomaly/eth1/"),
        (make_status(), b"status/eth1/"),
        (make_scores([1.0]), b"score/eth1/"),
    ],
)
def test_topics(message: Event | Status | ScoreBatch, expected: bytes) -> None:
    """Topics end in a slash, so that a subscription to eth1 does not get eth10."""
    assert topic(message) == expected


@pytest.mark.parametrize("message", [make_event(1), make_status(), make_scores([1.0, 2.0])])
def test_schema_describes_what_is_written(message: Event | Status | ScoreBatch) -> None:
    """Every key written is in the schema, only `trace` may be left out, and `schema` is that constant."""
    document = json_schemas()
    written = msgspec.json.decode(encode(message))
    described = document["$defs"][type(message).__name__]
    assert set(described["required"]) <= set(written) <= set(described["properties"])
    assert set(described["properties"]) - set(written) <= {"trace"}
    assert "schema" in described["required"]
    assert described["properties"]["schema"] == {"const": written["schema"]}
    assert {"$ref": f"#/$defs/{type(message).__name__}"} in document["anyOf"]


def test_score_batches_by_source() -> None:
    """A block of lines of two buses becomes a batch for each; a line without a token has no score."""
    streams = [
        Stream(i, f"P{i}", f"P{i}", source, "a", 1, "b", 2) for i, source in enumerate(("eth1", "eth2"))
    ]
    lines = [Line(n, n, n * 1000, streams[n % 2], STATE_NORMAL, None) for n in range(4)]
    nats = np.array([[1, 2, np.nan], [0, 1, np.nan], [np.nan, np.nan, np.nan], [3, 1, 2]], np.float32)
    block = ScoreBlock(
        lines=lines,
        field_nats=nats,
        tokens=np.array([2, 2, 0, 3]),
        expected=np.zeros((4, 3), np.int64),
        warming=np.array([True, False, False, False]),
    )
    first, second = score_batches("R", block)
    assert first == ScoreBatch(
        run="R",
        source="eth1",
        times_ns=[0],
        pdus=["P0"],
        perplexity=[pytest.approx(np.exp(1.5))],  # type: ignore[list-item]
        surprisal=[3.0],
        warming=[True],
    )
    assert (second.source, second.times_ns, second.surprisal) == ("eth2", [1000, 3000], [1.0, 6.0])
