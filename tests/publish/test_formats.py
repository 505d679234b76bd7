"""MessagePack instead of JSON, over real sockets."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecustream.client.items import Synced
from ecustream.client.subscriber import Subscriber
from ecustream.events import Event
from ecustream.publish.formats import format_of, to_msgpack
from ecustream.publish.messages import encode
from ecustream.publish.socket import Publisher
from tests.publish.conftest import Ask, Subscribe
from tests.publish.examples import RUN, make_event, make_scores, make_status
from tests.publish.journals import held, open_journal

ANY = "tcp://127.0.0.1:*"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    """A publisher of MessagePack with a journal."""
    journal = open_journal(tmp_path / "journal")
    with Publisher(ANY, ANY, make_status(), msgpack=True, journal=journal) as publisher:
        yield publisher


def test_stream_and_answers(publisher: Publisher, subscribe: Subscribe, ask: Ask) -> None:
    """Topics are as ever; bodies and answers are the same objects as MessagePack; requests are JSON."""
    with Subscriber(publisher.pub_url, publisher.reply_url, scores=True) as subscriber:
        assert next(item for item in subscriber if isinstance(item, Synced)).seq == 0
        publisher.publish(make_event(1))
        publisher.publish_scores(make_scores([1.5]))
        assert next(item for item in subscriber if isinstance(item, Event)) == make_event(1)
        assert next(item for item in subscriber if item == make_scores([1.5]))
    body = ask(publisher.reply_url, b'{"op":"replay","run":"%s","after":0}' % RUN.encode())
    answer = msgspec.msgpack.decode(body)
    assert answer["events"] == [msgspec.json.decode(encode(make_event(1)))]
    assert msgspec.msgpack.decode(ask(publisher.reply_url, b"garbage"))["error"] == "bad_request"


def test_the_journal_stays_json(publisher: Publisher, tmp_path: Path) -> None:
    """What is on disk does not depend on the format of the sockets."""
    publisher.publish(make_event(1))
    publisher.close()
    with closing(open_journal(tmp_path / "journal")) as again:
        assert len(held(again, RUN)) == 1
    assert b'"schema":"ecustream.event/1"' in b"".join(
        path.read_bytes() for path in (tmp_path / "journal").iterdir() if path.is_file()
    )


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_any_object_survives(value: dict[str, object]) -> None:
    """Every JSON object is the same after a detour over MessagePack, and the forms are never confused."""
    body = msgspec.json.encode(value)
    packed = to_msgpack(body)
    assert (format_of(body), format_of(packed)) == (msgspec.json, msgspec.msgpack)
    assert msgspec.json.encode(format_of(packed).decode(packed)) == body
