"""The two sockets of a subscriber: the stream, and requests one at a time."""

import contextlib
import socket as posix
from collections.abc import Iterator
from typing import Any

import zmq

from ecustream.client.asker import Request
from ecustream.client.refusals import RefusalWatch
from ecustream.client.wire import Answer, Message, decode_answer, decode_message
from ecustream.errors import ConfigError

__all__ = ["CurveKeys", "Sockets"]

MESSAGES_A_TURN = 10_000


class CurveKeys:
    """The keys of an encrypted connection, as 40 characters of Z85 each.

    Args:
        server: the publisher's public key.
        public: the reader's own key, which the publisher may know it by; None for one of the moment.
        secret: belongs to `public`.

    Raises:
        ConfigError: a key is missing or malformed.
    """

    def __init__(self, server: str | bytes, public: str | bytes | None, secret: str | bytes | None) -> None:
        if (public is None) != (secret is None):
            raise ConfigError("public_key and secret_key belong together; give both or neither")
        if public is None or secret is None:
            public, secret = zmq.curve_keypair()
        self.server = _key(server, "server_key")
        self.public = _key(public, "public_key")
        self.secret = _key(secret, "secret_key")


class Sockets:
    """SUB and DEALER, both connected; a request given up is forgotten along with its socket.

    Args:
        connect: address of the PUB socket.
        reply: address of the ROUTER socket.
        topics: prefixes to subscribe to.
        keys: for CURVE; None for plain sockets.

    Raises:
        ConfigError: an address is malformed, or a key is no curve point.
    """

    def __init__(self, connect: str, reply: str, topics: list[bytes], keys: CurveKeys | None) -> None:
        self._stream_url = connect
        self._reply_url = reply
        self._topics = topics
        self._keys = keys
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._wake_in, self._wake_out = posix.socketpair()
        self._waiting: Request | None = None
        try:
            self._stream = self._open_stream()
            self._requests = self._open_requests()
        except BaseException:
            self.close()
            raise

    def register(self, poller: zmq.Poller) -> None:
        """Has a poller wait for messages, answers, a refusal and `wake`."""
        for socket in (*self._all(), self._wake_in):
            poller.register(socket, zmq.POLLIN)

    def descriptors(self) -> list[int]:
        """What becomes readable when `ready` may have become true, and with `wake`."""
        return [*(socket.fd for socket in self._all()), self._wake_in.fileno()]

    def ready(self) -> bool:
        """Whether messages, an answer or a refusal have come."""
        return any(socket.events & zmq.POLLIN for socket in self._all())

    def send(self, request: Request) -> None:
        """Sends a request without waiting; one that waits for its answer is given up."""
        if self._waiting is not None:
            # An answer bears no mark of its request, so a late one must not find the socket.
            self._requests.close(0)
            self._requests = self._open_requests()
        self._waiting = request
        # After a failed handshake libzmq may have nowhere to put it. Then it stays without an answer, as one
        # that is lost does, and is asked again on a new socket.
        with contextlib.suppress(zmq.Again):
            self._requests.send(request.ask.encode(), zmq.NOBLOCK)

    def reconnect(self) -> None:
        """Connects the stream anew."""
        # Not left to libzmq's heartbeats: they make 4.3.5 abort where a reader is slow (its issue 3937).
        self._refusals.close()
        self._stream.close(0)
        self._stream = self._open_stream()

    def refusal(self) -> str | None:
        """Why the publisher has refused the stream since this was last asked; None where it has not."""
        return self._refusals.why()

    def messages(self) -> Iterator[Message | None]:
        """What has come on the stream, up to 10,000 messages; None for one that cannot be read."""
        with contextlib.suppress(zmq.Again):
            for _ in range(MESSAGES_A_TURN):
                yield decode_message(self._stream.recv_multipart(zmq.NOBLOCK))

    def answer(self) -> tuple[int, Answer | None] | None:
        """The answer to the last request with its number; None while it has not come."""
        try:
            *_, body = self._requests.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        request, self._waiting = self._waiting, None
        return None if request is None else (request.number, decode_answer(request.ask, body))

    def wake(self) -> None:
        """Ends a poller's wait, now or when it comes; safe from any thread."""
        with contextlib.suppress(OSError):  # closed by whoever was to be woken
            self._wake_out.send(b"!")

    def close(self) -> None:
        """Closes everything at once."""
        self._context.destroy(linger=0)
        self._wake_in.close()
        self._wake_out.close()

    def _all(self) -> tuple[Any, ...]:
        return self._stream, self._requests, self._refusals.socket

    def _open_stream(self) -> zmq.Socket[bytes]:
        socket = self._socket(zmq.SUB)
        self._refusals = RefusalWatch(socket)
        for topic in self._topics:
            socket.subscribe(topic)
        _connect(socket, self._stream_url, "connect")
        return socket

    def _open_requests(self) -> zmq.Socket[bytes]:
        socket = self._socket(zmq.DEALER)
        _connect(socket, self._reply_url, "reply")
        return socket

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.linger = 0
        if self._keys is not None:
            try:
                socket.curve_serverkey = self._keys.server
                socket.curve_publickey = self._keys.public
                socket.curve_secretkey = self._keys.secret
            except zmq.ZMQError as error:
                raise ConfigError(f"a CURVE key cannot be used: {error.strerror}") from error
        return socket


def _connect(socket: zmq.Socket[bytes], url: str, argument: str) -> None:
    socket.ipv6 = "[" in url
    try:
        socket.connect(url)
    except zmq.ZMQError as error:
        raise ConfigError(f'{argument} "{url}" is no socket address: {error.strerror}') from error


def _key(key: str | bytes, argument: str) -> bytes:
    try:
        binary = key.encode("ascii") if isinstance(key, str) else key
    except UnicodeEncodeError:
        binary = b""
    if len(binary) != 40:
        raise ConfigError(f"{argument} must be 40 characters of Z85, as zmq.curve_keypair() makes them")
    return binary
