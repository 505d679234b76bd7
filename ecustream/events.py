"""The messages on the event socket, as msgspec structs; DESIGN of schema version 1."""

from typing import Literal

import msgspec

__all__ = [
    "EVENT_KINDS",
    "EVENT_SCHEMA",
    "Event",
    "EventPdu",
    "EventScore",
    "Evidence",
    "Kind",
    "Phase",
    "event_topic",
]

EVENT_SCHEMA = "ecustream.event/1"
Kind = Literal["anomaly", "silence", "unknown_pdu", "capture_gap"]
Phase = Literal["open", "update", "close"]
Evidence = Literal["late", "early", "missing", "burst", "order", "field", "unknown", "gap"]
EVENT_KINDS: tuple[Kind, ...] = ("anomaly", "silence", "unknown_pdu", "capture_gap")


class EventPdu(msgspec.Struct, frozen=True, kw_only=True):
    """A PDU that takes part in an event, with how many of its lines did and which fields stood out."""

    name: str
    lines: int
    fields: list[str]


class EventScore(msgspec.Struct, frozen=True, kw_only=True):
    """How strange the strangest line was.

    `perplexity` is exp(mean nats a token) of that line and `surprisal` its nats in sum, both null where
    no line was scored (a PDU that did not come). `evidence` is the rarity in nats, -ln of the estimated
    probability of something as rare in clean traffic, on which the decision was made, and `threshold`
    what it had to exceed.
    """

    perplexity: float | None
    surprisal: float | None
    evidence: float
    threshold: float


class Event(msgspec.Struct, kw_only=True):
    """One message about one episode: it opens, is updated, and closes under one stable `id`.

    Times are nanoseconds since 1970 in capture time: `start_ns` and `end_ns` bound the episode,
    `decided_ns` is when this message became known. `published_ns` is wall time, null in offline runs,
    which are deterministic. `frames` is the first and last frame number, or null without frames.
    A silence has the last frame before it. `seq` counts all events of a run from 1, `kind_seq` those of
    its kind. `trace` names the trace, and is there only where a run reads several.
    """

    schema: str = EVENT_SCHEMA
    run: str
    seq: int
    kind_seq: int
    id: str
    kind: Kind
    phase: Phase
    source: str
    start_ns: int
    end_ns: int | None
    decided_ns: int
    published_ns: int | None
    frames: tuple[int, int] | None
    lines: int
    pdus: list[EventPdu]
    evidence: Evidence
    score: EventScore
    reason: str
    wireshark: str | None = None
    trace: str | msgspec.UnsetType = msgspec.UNSET


def event_topic(event: Event) -> str:
    """The PUB topic of an event, `event/<kind>/<source>/`."""
    return f"event/{event.kind}/{event.source}/"
