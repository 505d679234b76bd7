"""The two forms of a message: JSON, and MessagePack with the same keys in the same order."""

from types import ModuleType
from typing import Any

import msgspec

__all__ = ["format_of", "to_json", "to_msgpack"]


def format_of(body: bytes | msgspec.Raw) -> ModuleType:
    """`msgspec.json` or `msgspec.msgpack`, which decodes `body`: only a JSON object begins with a brace."""
    return msgspec.json if bytes(memoryview(body)[:1]) == b"{" else msgspec.msgpack


def to_json(body: bytes) -> bytes:
    """A message or answer as JSON, whichever form it came in.

    Raises:
        msgspec.MsgspecError: it begins like neither.
        TypeError: it holds what JSON cannot.
    """
    if format_of(body) is msgspec.json:
        return body
    return msgspec.json.encode(msgspec.msgpack.decode(body, type=dict[str, Any]))


def to_msgpack(json: bytes) -> bytes:
    """A JSON message or answer as MessagePack."""
    return msgspec.msgpack.encode(msgspec.json.decode(json))
