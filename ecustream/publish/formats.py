"""The two forms of a message: JSON, and MessagePack with the same keys in the same order."""

from types import ModuleType

import msgspec

__all__ = ["format_of", "to_msgpack"]


def format_of(body: bytes | msgspec.Raw) -> ModuleType:
    """`msgspec.json` or `msgspec.msgpack`, which decodes `body`: only a JSON object begins with a brace."""
    return msgspec.json if bytes(memoryview(body)[:1]) == b"{" else msgspec.msgpack


def to_msgpack(json: bytes) -> bytes:
    """A JSON message or answer as MessagePack."""
    return msgspec.msgpack.encode(msgspec.json.decode(json))
