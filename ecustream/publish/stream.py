"""The PUB socket, which never waits for a subscriber and counts when one falls behind."""

import zmq
from zmq.utils.monitor import parse_monitor_message

__all__ = ["ConnectionCounter", "Stream"]

# Messages kept for a subscriber that does not read; it loses what comes after and heals by a replay.
PUB_QUEUE_MESSAGES = 4000


class Stream:
    """Sends to all subscribers; what finds a subscriber's queue full is lost to that one alone.

    libzmq tells nobody what it drops. It would rather refuse a message for all (`ZMQ_XPUB_NODROP`), so a
    message is offered that way first and, where refused, counted and sent all the same. `queue_full`
    is therefore exact in how often a queue became full. It says nothing of how many more messages the
    same subscriber lost until half of its queue was sent: libzmq no longer considers it before that.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.queue_full = 0
        self.socket = context.socket(zmq.PUB)
        self.socket.sndhwm = PUB_QUEUE_MESSAGES
        self.socket.setsockopt(zmq.XPUB_NODROP, 1)

    def send(self, topic: bytes, body: bytes) -> None:
        """Sends one message of two frames, without waiting."""
        try:
            self.socket.send_multipart((topic, body), zmq.NOBLOCK)
        except zmq.Again:
            self.queue_full += 1
            self.socket.setsockopt(zmq.XPUB_NODROP, 0)
            self.socket.send_multipart((topic, body))
            self.socket.setsockopt(zmq.XPUB_NODROP, 1)


class ConnectionCounter:
    """Counts the connections of a bound socket: `open` ones now, and those `refused` so far.

    Refused is what did not finish the handshake in time or had no allowed key. To be made before the
    socket is bound and closed before it, in the thread that uses it.
    """

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.open = 0
        self.refused = 0
        self._observed = socket
        failed = (
            zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
        )
        self._failed = failed
        self.socket = socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | failed)

    def count_all(self) -> None:
        """Takes over all that libzmq has reported by now."""
        while self.socket.poll(0):
            event = parse_monitor_message(self.socket.recv_multipart())["event"]
            self.open += (event == zmq.EVENT_ACCEPTED) - (event == zmq.EVENT_DISCONNECTED)
            self.refused += bool(event & self._failed)

    def close(self) -> None:
        """Stops counting."""
        self._observed.disable_monitor()
        self.socket.close(0)
