"""Follows the events of a running ecustream in a terminal."""

import os
import sys
from datetime import datetime
from typing import Any

import msgspec
import zmq

from ecustream.errors import ConfigError
from ecustream.publish.formats import to_json
from ecustream.publish.keys import KeyPair

__all__ = ["event_line", "tail"]


def tail(
    connect: str = "tcp://127.0.0.1:5556",
    json: bool = False,
    count: int | None = None,
    keys: tuple[bytes, KeyPair] | None = None,
) -> None:
    """Prints one line an event as it comes, until Ctrl-C, a closed pipe, or `count` events.

    Events from before the connection are not shown. Where nothing listens at `connect` yet, it waits.

    Args:
        connect: address of the PUB socket.
        json: print the JSON objects as they are.
        count: how many events to print; None for no end.
        keys: the publisher's public key and the reader's own pair, where the socket is encrypted.

    Raises:
        ConfigError: `connect` is no socket address.
    """
    try:
        _follow(connect, json, count, keys)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Python flushes standard output once more at exit and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _follow(connect: str, json: bool, count: int | None, keys: tuple[bytes, KeyPair] | None) -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        socket.rcvhwm = 0  # a terminal may be slow, for instance while text is selected
        socket.ipv6 = "[" in connect
        socket.subscribe(b"event/")
        if keys is not None:
            server_key, own = keys
            socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = server_key, *own
        try:
            socket.connect(connect)
        except zmq.ZMQError as error:
            raise ConfigError(f'--connect "{connect}" is no socket address: {error.strerror}') from error
        print(f"following {connect}, Ctrl-C ends", file=sys.stderr)
        shown = 0
        while count is None or shown < count:
            _topic, body, *_ = [*socket.recv_multipart(), b""]
            print(_json_line(body) if json else event_line(body), flush=True)
            shown += 1


def _json_line(body: bytes) -> str:
    try:
        return to_json(body).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError):
        return body.decode("utf-8", "replace")


def event_line(body: bytes) -> str:
    """An event for a person: local time, phase, kind, source, PDUs and reason.

    Fields that are missing or new do no harm, so that an older `tail` reads a newer service.
    """
    try:
        event: Any = msgspec.json.decode(to_json(body))
        time_ns = event.get("decided_ns") or event["start_ns"]
        # Integer division first: a float holds nanoseconds of today only to a quarter microsecond.
        clock = datetime.fromtimestamp(time_ns // 1_000_000_000).strftime("%Y-%m-%d %H:%M:%S")
        names = [str(pdu["name"]) for pdu in event.get("pdus", ())]
        words = [
            f"{clock}.{time_ns // 1000 % 1_000_000:06d}",
            f"{event.get('phase', '?'):<6}",
            f"{event.get('kind', '?'):<11}",
            str(event.get("source", "?")),
            ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else ""),
            str(event.get("reason", "")),
        ]
    except (
        msgspec.MsgspecError,
        RecursionError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
    ):
        return f"unreadable event of {len(body)} bytes"
    line = "  ".join(word for word in words if word)
    # A name from the wire must not steer the terminal.
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
