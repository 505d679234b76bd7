"""The wire form of everything on the PUB socket: topics, JSON bytes, JSON Schema."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
import numpy as np

from ecustream.events import EVENT_SCHEMA, Event, event_topic
from ecustream.scores import ScoreBlock

__all__ = [
    "SCORE_SCHEMA",
    "STATUS_SCHEMA",
    "JournalStatus",
    "PublishStatus",
    "ScoreBatch",
    "State",
    "Status",
    "TraceStatus",
    "encode",
    "json_schemas",
    "schema_definitions",
    "score_batches",
    "topic",
]

STATUS_SCHEMA = "ecustream.status/1"
SCORE_SCHEMA = "ecustream.score/1"
State = Literal["starting", "warming", "running", "overloaded", "draining", "done", "degraded"]


class JournalStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the journal is doing.

    `journalled` events of this run are in it and `missing` are not: they wait for a disk with room, or are
    out of memory by now. `torn` ends of a segment were cut off when it was read back, `damaged` lines in
    it are left out. `size_bytes` is that of all segments, `problem` why nothing can be written at present.
    """

    journalled: int
    missing: int
    torn: int
    damaged: int
    write_errors: int
    size_bytes: int
    problem: str | None = None


class PublishStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the publisher has counted since its start; only `subscribers` is of the moment.

    `subscribers` are the connections to the event socket. `queue_full` is how often the queue of one or
    more of them became full: that message and maybe many after it are lost to those, and only they can
    tell how many, by `seq`. `scores_dropped` lines were never sent because this machine was short of time.
    Of `requests`, `bad_requests` were refused in words; `answers_dropped` were for a client that does not
    read or has gone. `refused` connections had no allowed key or did not finish the handshake.
    """

    subscribers: int
    queue_full: int
    scores_dropped: int
    requests: int
    bad_requests: int
    answers_dropped: int
    refused: int


class TraceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far one of several traces is: its scored `lines`, its `lag_s`, and whether it has `ended`."""

    trace: str
    lines: int
    lag_s: float
    ended: bool


class Status(msgspec.Struct, kw_only=True):
    """How the run is doing, once a second.

    `seq` is that of the last event (0 before the first), so that a subscriber sees a gap at the tail.
    `lag_s` is how far scoring is behind capture, `wall_ns` the wall clock in nanoseconds since 1970,
    `ledger` what `Ledger.as_dict` gives, `reason` why the state is `degraded` or `overloaded`,
    `journal` null where events are not journalled, `publish` how publishing is doing, `traces` how each
    trace is doing where there are several, else null; `lag_s` is then the largest of theirs.
    """

    schema: str = STATUS_SCHEMA
    run: str
    source: str
    state: State
    seq: int
    lines_per_s: float
    lag_s: float
    wall_ns: int
    ledger: Mapping[str, Mapping[str, int]]
    reason: str | None = None
    journal: JournalStatus | None = None
    publish: PublishStatus | None = None
    traces: list[TraceStatus] | None = None


class ScoreBatch(msgspec.Struct, kw_only=True):
    """Scores of lines of one source, oldest first, as parallel lists with one entry a line.

    `perplexity` is exp(mean nats a token), `surprisal` nats in sum; `warming` is true while the model has
    not yet seen enough lines for the score to count. Batches may be thinned out, but never lose a peak.
    `trace` names the trace, and is there only where a run reads several.
    """

    schema: str = SCORE_SCHEMA
    run: str
    source: str
    times_ns: list[int]
    pdus: list[str]
    perplexity: list[float]
    surprisal: list[float]
    warming: list[bool]
    trace: str | msgspec.UnsetType = msgspec.UNSET


_SCHEMAS: dict[type[msgspec.Struct], str] = {
    Event: EVENT_SCHEMA,
    Status: STATUS_SCHEMA,
    ScoreBatch: SCORE_SCHEMA,
}
_encoder = msgspec.json.Encoder()


def encode(message: Event | Status | ScoreBatch) -> bytes:
    """One JSON object in UTF-8 without a line feed; the fields keep the order of the struct."""
    return _encoder.encode(message)


def topic(message: Event | Status | ScoreBatch) -> bytes:
    """The PUB topic: `event/<kind>/<source>/`, `status/<source>/` or `score/<source>/`."""
    if isinstance(message, Event):
        return event_topic(message).encode()
    kind = "status" if isinstance(message, Status) else "score"
    return f"{kind}/{message.source}/".encode()


def score_batches(run: str, block: ScoreBlock) -> list[ScoreBatch]:
    """A block of scores as one batch a source; lines without a token have no score and are left out."""
    sources = [line.stream.source for line in block.lines]
    surprisal = block.surprisal_nats()
    with np.errstate(invalid="ignore"):
        perplexity = np.exp(surprisal / block.tokens)
    batches = []
    for source in dict.fromkeys(sources):
        lines, columns = block.lines, (perplexity, surprisal, block.warming)
        chosen = block.tokens > 0
        if sources.count(source) < len(sources):
            chosen &= np.array([other == source for other in sources])
        if not chosen.all():
            lines = [lines[i] for i in np.flatnonzero(chosen).tolist()]
            columns = (perplexity[chosen], surprisal[chosen], block.warming[chosen])
        if lines:
            batches.append(
                ScoreBatch(
                    run=run,
                    source=source,
                    times_ns=[line.time_ns for line in lines],
                    pdus=[line.stream.name for line in lines],
                    perplexity=columns[0].tolist(),
                    surprisal=columns[1].tolist(),
                    warming=columns[2].tolist(),
                )
            )
    return batches


def json_schemas() -> dict[str, Any]:
    """JSON Schema (2020-12) of events, status and scores in one document; `schema` tells them apart."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ecustream messages",
        "anyOf": [{"$ref": f"#/$defs/{struct.__name__}"} for struct in _SCHEMAS],
        "$defs": schema_definitions(_SCHEMAS, "#/$defs/{name}"),
    }


def schema_definitions(structs: Iterable[type[msgspec.Struct]], ref_template: str) -> dict[str, Any]:
    """JSON Schema of the structs and of what they consist of, by name."""
    _, definitions = msgspec.json.schema_components(structs, ref_template=ref_template)
    for struct, schema in _SCHEMAS.items():
        definition = definitions[struct.__name__]
        # A reader takes any text here, to read what later versions send; what is written is this text.
        definition["properties"]["schema"] = {"const": schema}
        definition["required"] = ["schema", *definition["required"]]
    return definitions
