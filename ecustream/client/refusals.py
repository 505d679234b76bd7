"""Whether a publisher refuses a connection, of which ZeroMQ tells nobody who does not ask."""

from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

__all__ = ["RefusalWatch"]

_WHY = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "is your key on its list?",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "only one of you uses keys",
}


class RefusalWatch:
    """Watches the connection of one socket; to be made before it connects and closed before it.

    A connection that just ends tells nothing: the publisher may have died or have another key.
    """

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._observed = socket
        self.socket: Any = socket.get_monitor_socket(sum(_WHY))

    def why(self) -> str | None:
        """Why the connection was refused, in words; None where it was not, or was told before."""
        why = None
        while self.socket.poll(0):
            message = parse_monitor_message(self.socket.recv_multipart())
            event = zmq.Event(message["event"])
            # Other errors of the protocol come from who speaks no ZeroMQ.
            if (
                event == zmq.EVENT_HANDSHAKE_FAILED_AUTH
                or message["value"] == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
            ):
                why = _WHY[event]
        return why

    def close(self) -> None:
        """Ends the watch."""
        self._observed.disable_monitor()
        self.socket.close(0)
