"""How far the stream has come, by which a run that is begun again shows."""

from typing import Literal

from ecustream.client.wire import Message
from ecustream.publish.messages import ScoreBatch, Status

__all__ = ["StreamPlace"]


class StreamPlace:
    """The run that the stream shows, the highest `seq` it has shown of that, and whether that has ended."""

    def __init__(self) -> None:
        self._run = ""
        self._seq = 0
        self._ended = False

    def take(self, message: Message) -> Literal["next_run", "again"] | None:
        """What a message shows: that another run than before has begun, or the same one again.

        Within a run the stream never goes back. So a status is of a new start if it tells of fewer events
        than the stream has shown, or that the run goes on after it had ended. An event that goes back may
        be a duplicate, and a status follows it soon.
        """
        if message.run != self._run:
            self._run, self._seq, self._ended = message.run, 0, False
            self._move_to(message)
            return "next_run"
        ended = isinstance(message, Status) and message.state == "done"
        if isinstance(message, Status) and (message.seq < self._seq or (self._ended and not ended)):
            self._seq, self._ended = message.seq, ended
            return "again"
        self._move_to(message)
        return None

    def _move_to(self, message: Message) -> None:
        if not isinstance(message, ScoreBatch):
            self._seq = max(self._seq, message.seq)
        if isinstance(message, Status):
            self._ended = message.state == "done"
