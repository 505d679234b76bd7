"""The AsyncAPI document: its structure by the rules of AsyncAPI 3.0, and that it tells the truth."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from ecustream.publish.asyncapi import asyncapi_document
from ecustream.publish.history import OPS
from ecustream.publish.messages import topic
from tests.publish.golden_messages import MESSAGES, bodies

DOCUMENT = asyncapi_document()


def refs(node: Any) -> Iterator[str]:
    """Every reference in the document."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from refs(value)


def resolve(ref: str) -> Any:
    """What a reference points to."""
    node: Any = DOCUMENT
    for part in ref.removeprefix("#/").split("/"):
        node = node[part]
    return node


def test_required_and_known_fields() -> None:
    """Each object has the fields that AsyncAPI 3.0 requires, and none that it does not know."""
    assert re.fullmatch(r"3\.0\.\d+", DOCUMENT["asyncapi"])
    assert {"title", "version"} <= set(DOCUMENT["info"])
    sections = {"servers", "channels", "operations", "components"}
    assert (
        {"asyncapi", "info"} <= set(DOCUMENT) <= {"asyncapi", "id", "info", "defaultContentType"} | sections
    )
    for server in DOCUMENT["servers"].values():
        assert {"host", "protocol"} <= set(server) <= {"host", "protocol", "description", "x-zmq"}
    for channel in DOCUMENT["channels"].values():
        assert set(channel) <= {"address", "description", "servers", "parameters", "messages"}
        names = set(re.findall(r"\{(\w+)\}", channel["address"] or ""))
        assert names == set(channel.get("parameters", {}))
        for parameter in channel.get("parameters", {}).values():
            assert set(parameter) <= {"enum", "default", "description", "examples", "location"}
    for operation in DOCUMENT["operations"].values():
        assert {"action", "channel"} <= set(operation) <= {"action", "channel", "messages", "reply"}
        assert operation["action"] in ("send", "receive")
        assert set(operation.get("reply", {})) <= {"channel", "messages", "address"}
    for message in DOCUMENT["components"]["messages"].values():
        assert set(message) <= {"name", "summary", "payload"}
    for section in ("messages", "schemas"):
        assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", name) for name in DOCUMENT["components"][section])


def test_references_lead_somewhere() -> None:
    """Every reference resolves; an operation's messages are among those of its channel, as is required."""
    assert all(resolve(ref) for ref in refs(DOCUMENT))
    for operation in DOCUMENT["operations"].values():
        for part in (operation, operation.get("reply", operation)):
            prefix = part["channel"]["$ref"] + "/messages/"
            assert all(message["$ref"].startswith(prefix) for message in part["messages"])


@pytest.mark.parametrize("name", MESSAGES)
def test_channels_are_the_topics(name: str) -> None:
    """The topic of each message fits the address of its channel, and its parameters."""
    channel = DOCUMENT["channels"][name.split("_")[0]]
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", channel["address"])
    match = re.fullmatch(pattern, topic(MESSAGES[name]).decode())
    assert match
    for parameter, value in match.groupdict().items():
        assert value in channel["parameters"][parameter].get("enum", [value])


def test_every_request_is_an_operation() -> None:
    """All that the reply socket answers is there, with its request and its answers."""
    assert {f"answer_{op}" for op in OPS} <= set(DOCUMENT["operations"])
    for op in OPS:
        operation = DOCUMENT["operations"][f"answer_{op}"]
        request = resolve(resolve(operation["messages"][0]["$ref"])["$ref"])
        assert resolve(request["payload"]["$ref"])["properties"]["op"] == {"enum": [op]}
        assert operation["reply"]["messages"]


def test_payloads_describe_what_is_written() -> None:
    """The schema of each message has exactly the fields that are written, where all of them are."""
    written = {name: msgspec.json.decode(body) for name, body in bodies().items()}
    for name, schema in (
        ("event_traced", "Event"),
        ("status_full", "Status"),
        ("score_traced", "ScoreBatch"),
        ("answer_snapshot", "SnapshotAnswer"),
        ("answer_replay", "ReplayAnswer"),
        ("answer_runs", "RunsAnswer"),
        ("answer_pdus", "PduTable"),
        ("answer_too_old", "TooOld"),
        ("answer_other_run", "OtherRun"),
        ("answer_bad_request", "BadRequest"),
    ):
        described = DOCUMENT["components"]["schemas"][schema]
        assert set(described["required"]) <= set(written[name]) == set(described["properties"])
