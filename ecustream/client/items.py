"""What a subscriber hands to its reader besides events: notices, and the position in the stream."""

from typing import NamedTuple

import msgspec

from ecustream.events import Event
from ecustream.publish.messages import ScoreBatch, Status

__all__ = ["START", "Alive", "Denied", "Item", "Lost", "NewRun", "Notice", "Position", "Stale", "Synced"]


class Position(NamedTuple):
    """The event up to which a reader has read; (run, 0) is before the first event of `run`."""

    run: str
    seq: int


START = Position("", 0)
"""Before the first event that can be had of any run."""


class Notice(msgspec.Struct, frozen=True, tag_field="notice", tag=str.lower):
    """Base of all notices; as JSON the field `notice` tells them apart."""


class Synced(Notice, frozen=True):
    """Every event up to `seq` of `run` was handed out or named as lost, and these episodes are open.

    Comes at the start and after each `NewRun`, after `Lost` events of the current run, and after a
    silence. `open_episodes` holds the last message of each open episode, in the order of opening.
    """

    run: str
    seq: int
    open_episodes: list[Event]


class NewRun(Notice, frozen=True):
    """The publisher has started anew: the events that follow are those of `new`, from its first on.

    `new` equals `old` where the same trace is scored again: the same events come once more, with the same
    numbers, to a reader who is there to see it begin.
    """

    old: str
    new: str


class Lost(Notice, frozen=True):
    """The events `first_seq` to `last_seq` of `run` cannot be had any more, or not be read by this version.

    `last_seq` is None where the run has ended and nobody knows its last event: everything from
    `first_seq` on, which may be nothing.
    """

    run: str
    first_seq: int
    last_seq: int | None


class Stale(Notice, frozen=True):
    """Nothing has come on the stream since `since_ns` (nanoseconds since 1970, by the reader's clock)."""

    since_ns: int


class Alive(Notice, frozen=True):
    """The stream, which was stale, brings messages again."""


class Denied(Notice, frozen=True):
    """The publisher at `url` does not let this reader in, and why; comes once until something is heard.

    The reader goes on trying, so that a key which is added to the publisher's list lets it in.
    """

    url: str
    why: str


Item = Event | Status | ScoreBatch | Synced | NewRun | Lost | Stale | Alive | Denied
