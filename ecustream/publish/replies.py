"""The ROUTER socket: one answer to one request, whoever asks whatever and reads or not."""

import time
from collections.abc import Callable

import msgspec
import zmq

from ecustream.publish.history import bad_request, is_bad_request

__all__ = ["Replies"]

# A replay is megabytes, so few of them are kept for a client that asks and does not read.
REPLY_QUEUE_ANSWERS = 16
# A client asks one thing at a time; more of its requests wait in its own machine.
REQUEST_QUEUE = 16
# libzmq hangs up on larger frames before they use memory; those between are refused in words.
HANG_UP_REQUEST_BYTES = 1 << 20
# Then events go first again; one page of a replay takes longer at times.
ANSWERING_A_TURN_S = 0.01


class Replies:
    """Answers requests and counts them: `requests`, of which `bad_requests` are refused in words.

    `answers_dropped` are those for a client that does not read or has gone.

    Args:
        context: the socket is made in it, not bound.
        answer: the JSON answer to a request of one frame.
        convert: makes of the JSON answer what is sent.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        answer: Callable[[bytes], bytes],
        convert: Callable[[bytes], bytes],
    ) -> None:
        self.requests = 0
        self.bad_requests = 0
        self.answers_dropped = 0
        self._answer = answer
        self._convert = convert
        self.socket = context.socket(zmq.ROUTER)
        self.socket.sndhwm = REPLY_QUEUE_ANSWERS
        self.socket.rcvhwm = REQUEST_QUEUE
        self.socket.maxmsgsize = HANG_UP_REQUEST_BYTES
        # So that an answer which cannot be sent is an error, and not lost in silence.
        self.socket.router_mandatory = True

    def answer_some(self) -> None:
        """Answers the requests that have come, as far as a turn of some milliseconds allows."""
        end_s = time.monotonic() + ANSWERING_A_TURN_S
        while time.monotonic() < end_s:
            try:
                *envelope, request = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.requests += 1
            if any(envelope[1:]):  # a REQ socket puts one empty frame there, a DEALER none
                answer = msgspec.json.encode(bad_request("a request is one frame"))
            else:
                answer = self._answer(request)
            self.bad_requests += is_bad_request(answer)
            try:
                self.socket.send_multipart([*envelope, self._convert(answer)], zmq.NOBLOCK)
            except zmq.ZMQError as error:
                if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                    raise
                self.answers_dropped += 1
