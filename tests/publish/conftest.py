"""Sockets for tests which fail, rather than hang, when something does not come."""

from collections.abc import Callable, Iterator

import pytest
import zmq

from ecustream.publish.messages import encode, topic
from ecustream.publish.socket import Publisher
from tests.publish.examples import make_status

TIMEOUT_MS = 5000
LAST_PROBE = 1_000_000

Socket = zmq.Socket[bytes]
Subscribe = Callable[..., Socket]
Ask = Callable[[str, bytes], bytes]


@pytest.fixture
def context() -> Iterator[zmq.Context[Socket]]:
    """A context whose sockets time out; that it terminates shows that no socket was left behind."""
    context: zmq.Context[Socket] = zmq.Context()
    for option in (zmq.RCVTIMEO, zmq.SNDTIMEO):
        context.setsockopt(option, TIMEOUT_MS)
    context.setsockopt(zmq.LINGER, 0)
    yield context
    context.destroy(linger=0)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    """A publisher on free loopback ports."""
    with Publisher("tcp://127.0.0.1:*", "tcp://127.0.0.1:*", make_status()) as publisher:
        yield publisher


@pytest.fixture
def subscribe(context: zmq.Context[Socket]) -> Subscribe:
    """Connects a SUB socket and returns it once the publisher knows its subscription."""

    def subscribe(publisher: Publisher, prefix: bytes = b"event/", rcvhwm: int = 1000) -> Socket:
        socket = context.socket(zmq.SUB)
        socket.rcvhwm = rcvhwm
        socket.connect(publisher.pub_url)
        socket.subscribe(prefix)
        # Subscriptions of one socket take effect in order: once a status comes, the prefix is known.
        socket.subscribe(b"status/")
        for _ in range(TIMEOUT_MS // 10):
            publisher.publish_status(make_status())
            if socket.poll(10):
                break
        publisher.publish_status(make_status(LAST_PROBE))
        last = [topic(make_status()), encode(make_status(LAST_PROBE))]
        while socket.recv_multipart() != last:
            pass
        socket.unsubscribe(b"status/")
        return socket

    return subscribe


@pytest.fixture
def ask(context: zmq.Context[Socket]) -> Ask:
    """Sends one request and returns the answer."""

    def ask(url: str, request: bytes) -> bytes:
        with context.socket(zmq.REQ) as socket:
            socket.connect(url)
            socket.send(request)
            return socket.recv()

    return ask
