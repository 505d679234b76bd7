"""Bytes of both sockets to structs and requests to bytes; tolerant of what later versions add."""

from typing import Any, Literal, TypeVar, get_origin

import msgspec

from ecustream.events import Event
from ecustream.publish.formats import format_of
from ecustream.publish.messages import ScoreBatch, Status

__all__ = [
    "Answer",
    "Ask",
    "Message",
    "Page",
    "Refused",
    "Runs",
    "Snapshot",
    "decode_answer",
    "decode_message",
]

PAGE_EVENTS = 1000

Message = Event | Status | ScoreBatch
MessageT = TypeVar("MessageT", bound=Message)


class Ask(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request; as JSON it is what goes to the reply socket."""

    op: Literal["snapshot", "replay", "runs"]
    run: str | None = None
    after: int | None = None
    limit: int | None = None

    @classmethod
    def replay(cls, run: str, after: int) -> "Ask":
        """Asks for the events of `run` with a `seq` above `after`, a page of them."""
        return cls("replay", run, after, PAGE_EVENTS)

    def encode(self) -> bytes:
        """The request as JSON."""
        return msgspec.json.encode(self)


class Snapshot(msgspec.Struct):
    """The current run, its last event, and the last message of each open episode."""

    run: str
    seq: int
    open: list[Event]


class Page(msgspec.Struct):
    """Events of `run` in order, up to `last_seq` (0 where there are none).

    An event that this version cannot read is left out, so that `events` has a hole there.
    `next_run` is the run that followed, None where that is unknown or `run` is the current one.
    """

    run: str
    events: list[Event]
    last_seq: int
    complete: bool
    next_run: str | None


class Runs(msgspec.Struct):
    """The runs of which events can be replayed, oldest first."""

    runs: list[str]


class Refused(msgspec.Struct):
    """An answer with an error; `oldest` is the oldest event that can be had, where the error says so."""

    error: str
    oldest: int | None


Answer = Snapshot | Page | Runs | Refused


class _Listed(msgspec.Struct):
    run: str


class _RawAnswer(msgspec.Struct):
    error: str | None = None
    run: str = ""
    seq: int = 0
    open: list[msgspec.Raw] = []
    events: list[msgspec.Raw] = []
    complete: bool = True
    next_run: str | None = None
    oldest: int | None = None
    runs: list[_Listed] = []


class _Numbered(msgspec.Struct):
    seq: int


def _loosened(struct: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """`struct` with any text where a fixed choice stands: later versions know more kinds than this one."""
    fields: list[Any] = []
    for field in msgspec.structs.fields(struct):
        type_ = str if get_origin(field.type) is Literal else field.type
        fields.append((field.name, type_) if field.required else (field.name, type_, field.default))
    return msgspec.defstruct(f"Loose{struct.__name__}", fields, kw_only=True)


_LOOSE: dict[Any, Any] = {struct: _loosened(struct) for struct in (Event, Status, ScoreBatch)}
_TOPICS: dict[bytes, type[Message]] = {
    b"event": Event,
    b"status": Status,
    b"score": ScoreBatch,
}
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def decode_message(frames: list[bytes]) -> Message | None:
    """A message of the PUB socket (topic, body, later perhaps more); None where it cannot be read."""
    struct = _TOPICS.get(frames[0].split(b"/", 1)[0])
    if struct is None or len(frames) < 2:
        return None
    return _decode(frames[1], struct)


def decode_answer(ask: Ask, body: bytes) -> Answer | None:
    """The answer of the reply socket to `ask`; None where it is none."""
    try:
        form = format_of(body)
        raw = form.decode(body, type=_RawAnswer)
        if raw.error is not None:
            return Refused(raw.error, raw.oldest)
        if ask.op == "runs":
            return Runs([listed.run for listed in raw.runs])
        if not raw.run:
            return None
        if ask.op == "snapshot":
            return Snapshot(raw.run, raw.seq, _events(raw.open))
        last_seq = form.decode(raw.events[-1], type=_Numbered).seq if raw.events else 0
    except _UNREADABLE:
        return None
    return Page(raw.run, _events(raw.events), last_seq, raw.complete, raw.next_run)


def _events(bodies: list[msgspec.Raw]) -> list[Event]:
    return [event for body in bodies if (event := _decode(body, Event)) is not None]


def _decode(body: bytes | msgspec.Raw, struct: type[MessageT]) -> MessageT | None:
    decode = format_of(body).decode
    try:
        message: MessageT = decode(body, type=struct)
        return message
    except _UNREADABLE:
        pass
    try:
        loose = decode(body, type=_LOOSE[struct])
    except _UNREADABLE:
        return None
    return struct(**{name: getattr(loose, name) for name in struct.__struct_fields__})
