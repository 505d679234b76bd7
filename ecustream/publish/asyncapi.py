"""Both sockets as an AsyncAPI 3.0 document, for code generators and for reading."""

from typing import Any

import msgspec

from ecustream import __version__
from ecustream.config import PublishConfig
from ecustream.events import EVENT_KINDS, Event
from ecustream.publish.messages import ScoreBatch, Status, schema_definitions
from ecustream.publish.questions import ANSWERS, REQUESTS

__all__ = ["asyncapi_document"]

FORMATS = ["application/json", "application/msgpack"]
_SOURCE = {"source": {"description": "The bus, as in the messages; of a status the buses, joined by commas."}}
_KIND = {"kind": {"description": "The kind of event.", "enum": list(EVENT_KINDS)}}
_STREAM: dict[str, tuple[type[msgspec.Struct], str, dict[str, Any]]] = {
    "event": (Event, "event/{kind}/{source}/", _KIND | _SOURCE),
    "status": (Status, "status/{source}/", _SOURCE),
    "score": (ScoreBatch, "score/{source}/", _SOURCE),
}


def asyncapi_document() -> dict[str, Any]:
    """The document, from the publisher's point of view: it sends the stream and receives requests.

    AsyncAPI knows no ZeroMQ, so socket types and frames stand in `x-zmq`.
    """
    answers = {struct for structs in ANSWERS.values() for struct in structs}
    structs = [struct for struct, _, _ in _STREAM.values()]
    structs += [struct for struct in (*REQUESTS.values(), *answers) if struct not in structs]
    structs.sort(key=lambda struct: struct.__name__)
    messages = {struct.__name__: _message(struct) for struct in structs}
    # The one answer that no struct describes.
    messages["JsonSchema"] = {"name": "JsonSchema", "payload": {"type": "object"}}
    of_requests = sorted([*(struct.__name__ for struct in (*REQUESTS.values(), *answers)), "JsonSchema"])
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ecustream events",
            "version": __version__,
            "description": "Events are numbered without gaps; what the stream loses is replayed on request.",
        },
        "defaultContentType": FORMATS[0],
        "servers": {
            "stream": _server(PublishConfig().pub, "PUB", ["SUB"], ["topic", "message"]),
            "replies": _server(PublishConfig().reply, "ROUTER", ["DEALER", "REQ"], ["request or answer"]),
        },
        "channels": {
            **{name: _topic(*topic) for name, topic in _STREAM.items()},
            "replies": {
                "address": None,
                "description": "Answers come in the order of the requests and bear no mark of them.",
                "servers": [_ref("servers", "replies")],
                "messages": {
                    name: _ref("components", "messages", name)
                    for name in sorted([*of_requests, "JsonSchema"])
                },
            },
        },
        "operations": {
            **{f"send_{name}": _sending(name, struct) for name, (struct, _, _) in _STREAM.items()},
            **{f"answer_{op}": _answering(op) for op in REQUESTS},
        },
        "components": {
            "messages": messages,
            "schemas": schema_definitions(structs, "#/components/schemas/{name}"),
        },
    }


def _server(url: str, socket: str, clients: list[str], frames: list[str]) -> dict[str, Any]:
    return {
        "host": url.removeprefix("tcp://"),
        "protocol": "zmq",
        "description": f"{url} unless configured otherwise; ipc as well.",
        "x-zmq": {"socket": socket, "clients": clients, "frames": frames, "contentTypes": FORMATS},
    }


def _message(struct: type[msgspec.Struct]) -> dict[str, Any]:
    summary = (struct.__doc__ or "").partition("\n")[0]
    payload = _ref("components", "schemas", struct.__name__)
    return {"name": struct.__name__, "summary": summary, "payload": payload}


def _topic(struct: type[msgspec.Struct], address: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "address": address,
        "servers": [_ref("servers", "stream")],
        "parameters": parameters,
        "messages": {struct.__name__: _ref("components", "messages", struct.__name__)},
    }


def _sending(channel: str, struct: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": _ref("channels", channel),
        "messages": [_ref("channels", channel, "messages", struct.__name__)],
    }


def _answering(op: str) -> dict[str, Any]:
    names = [struct.__name__ for struct in ANSWERS[op]] or ["JsonSchema"]
    return {
        "action": "receive",
        "channel": _ref("channels", "replies"),
        "messages": [_ref("channels", "replies", "messages", REQUESTS[op].__name__)],
        "reply": {
            "channel": _ref("channels", "replies"),
            "messages": [_ref("channels", "replies", "messages", name) for name in names],
        },
    }


def _ref(*path: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(path)}
