"""Has the last status said again where no new one comes, so that silence means trouble."""

import msgspec

from ecustream.publish.messages import PublishStatus, Status

__all__ = ["INTERVAL_NS", "Heartbeat"]

# A run says something once a second, or a little later; that must not count as silence.
INTERVAL_NS = 1_500_000_000


class Heartbeat:
    """The last status on the stream, and when it is to be said again.

    Time is given, in nanoseconds of any clock that does not run backwards.

    Args:
        status: what is said until there is another one.
        now_ns: the time.
    """

    def __init__(self, status: Status, now_ns: int) -> None:
        self.take(status, now_ns)

    def take(self, status: Status, now_ns: int) -> None:
        """`status` was sent at that time."""
        self.status = status
        self.due_ns = now_ns + INTERVAL_NS

    def renewed(self, seq: int, wall_ns: int, publish: PublishStatus) -> Status:
        """The last status with what is known anew: the last event sent, the wall clock, the counts."""
        return msgspec.structs.replace(
            self.status, seq=max(seq, self.status.seq), wall_ns=wall_ns, publish=publish
        )
