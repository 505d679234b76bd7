"""The requests and answers of the reply socket as structs, for their schema and for readers of it."""

from typing import Annotated, Literal

import msgspec

from ecustream.events import Event
from ecustream.publish.history import PAGE_EVENTS
from ecustream.publish.journal_index import RunRange
from ecustream.publish.messages import Status
from ecustream.publish.pdus import PduTable

__all__ = [
    "ANSWERS",
    "REQUESTS",
    "BadRequest",
    "OtherRun",
    "ReplayAnswer",
    "ReplayRequest",
    "RunsAnswer",
    "SnapshotAnswer",
    "TooOld",
]


class SnapshotRequest(msgspec.Struct, kw_only=True):
    """What is open at present, and where the stream is."""

    op: Literal["snapshot"]


class ReplayRequest(msgspec.Struct, kw_only=True):
    """The events of `run` with a `seq` above `after`, at most `limit` of them."""

    op: Literal["replay"]
    run: str
    after: Annotated[int, msgspec.Meta(ge=0)]
    limit: Annotated[int, msgspec.Meta(ge=1)] = PAGE_EVENTS


class RunsRequest(msgspec.Struct, kw_only=True):
    """Which runs can be replayed."""

    op: Literal["runs"]


class StatusRequest(msgspec.Struct, kw_only=True):
    """The last status."""

    op: Literal["status"]


class PdusRequest(msgspec.Struct, kw_only=True):
    """What is known and seen of every PDU."""

    op: Literal["pdus"]


class SchemaRequest(msgspec.Struct, kw_only=True):
    """The JSON Schema of events, status and scores."""

    op: Literal["schema"]


class SnapshotAnswer(msgspec.Struct, kw_only=True):
    """The current run, its last event, the oldest that can be replayed, the last event of open episodes."""

    run: str
    seq: int
    oldest: int
    open: list[Event]


class ReplayAnswer(msgspec.Struct, kw_only=True):
    """Events in order; not `complete`: ask again; `next_run` followed, null where this is the current one."""

    run: str
    events: list[Event]
    complete: bool
    next_run: str | None


class RunsAnswer(msgspec.Struct, kw_only=True):
    """What can be replayed, oldest run first, the current one last."""

    runs: list[RunRange]


class TooOld(msgspec.Struct, kw_only=True):
    """The events asked for are gone; `oldest` is the next one that is still held."""

    error: Literal["too_old"]
    oldest: int


class OtherRun(msgspec.Struct, kw_only=True):
    """Nothing of the run asked for is held; `run` is the current one."""

    error: Literal["other_run"]
    run: str


class BadRequest(msgspec.Struct, kw_only=True):
    """The request cannot be understood, and why."""

    error: Literal["bad_request"]
    why: str


REQUESTS: dict[str, type[msgspec.Struct]] = {
    "snapshot": SnapshotRequest,
    "replay": ReplayRequest,
    "runs": RunsRequest,
    "status": StatusRequest,
    "pdus": PdusRequest,
    "schema": SchemaRequest,
}
ANSWERS: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "snapshot": (SnapshotAnswer,),
    "replay": (ReplayAnswer, TooOld, OtherRun, BadRequest),
    "runs": (RunsAnswer,),
    "status": (Status,),
    "pdus": (PduTable,),
    "schema": (),
}
"""What each request may be answered with; a JSON Schema is no struct."""
