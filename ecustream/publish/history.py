"""Remembers the last events of a run and answers the questions of the reply socket; no socket here."""

from collections import deque
from typing import Any

import msgspec

from ecustream.events import Event
from ecustream.publish.messages import Status, encode, json_schemas

__all__ = ["MAX_REQUEST_BYTES", "History", "bad_request"]

MAX_REQUEST_BYTES = 4096
OPS = ("snapshot", "replay", "status", "schema")


class _Request(msgspec.Struct):
    op: str


class _Replay(msgspec.Struct):
    run: str
    after: int


class History:
    """The last `capacity` events of one run, and the last message of each episode that is still open.

    Events are kept as the JSON bytes that were published, so that a replayed event equals the live one
    and later changes to an Event object do no harm. Open episodes are as many as the detectors hold.
    """

    def __init__(self, run: str, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("a history holds at least one event")
        self.run = run
        self.seq = 0
        self._events: deque[msgspec.Raw] = deque(maxlen=capacity)
        self._open: dict[str, msgspec.Raw] = {}

    @property
    def oldest(self) -> int:
        """The `seq` of the oldest event that can be replayed; `seq + 1` where there is none yet."""
        return self.seq + 1 - len(self._events)

    def append(self, event: Event) -> bytes:
        """Remembers the next event of the run and returns its JSON.

        Raises:
            ValueError: `event` is of another run, or its `seq` does not follow the last one; a replay of
                such a history would call itself complete and not be.
        """
        if event.run != self.run or event.seq != self.seq + 1:
            raise ValueError(
                f"event {event.run}/{event.seq} does not follow {self.run}/{self.seq}; "
                "one run numbers its events 1, 2, 3 …"
            )
        encoded = encode(event)
        raw = msgspec.Raw(encoded)
        self.seq = event.seq
        self._events.append(raw)
        if event.phase == "close":
            self._open.pop(event.id, None)
        else:
            self._open[event.id] = raw
        return encoded

    def snapshot(self) -> dict[str, Any]:
        """`{"run", "seq", "open"}`: the last message of each open episode, in the order of opening."""
        return {"run": self.run, "seq": self.seq, "open": list(self._open.values())}

    def replay(self, run: str, after: int) -> dict[str, Any]:
        """Every event with a `seq` above `after`, or an error saying why that cannot be had.

        Errors: `other_run` with the run that is being published, `too_old` with the oldest event that is
        still held (asking with `after = oldest - 1` gives what there is), `bad_request`.
        """
        if run != self.run:
            return {"error": "other_run", "run": self.run}
        if not 0 <= after <= self.seq:
            return bad_request(f"after must be from 0 to {self.seq}, the last event")
        if after + 1 < self.oldest:
            return {"error": "too_old", "oldest": self.oldest}
        skip = after + 1 - self.oldest
        return {"run": self.run, "events": list(self._events)[skip:], "complete": True}

    def answer(self, request: bytes, status: Status) -> bytes:
        """The JSON answer to one JSON request; whatever the request is, there is an answer."""
        return msgspec.json.encode(self._answer(request, status))

    def _answer(self, request: bytes, status: Status) -> Any:
        if len(request) > MAX_REQUEST_BYTES:
            return bad_request(f"a request has at most {MAX_REQUEST_BYTES} bytes")
        try:
            op = msgspec.json.decode(request, type=_Request).op
            match op:
                case "snapshot":
                    return self.snapshot()
                case "replay":
                    ask = msgspec.json.decode(request, type=_Replay)
                    return self.replay(ask.run, ask.after)
                case "status":
                    return status
                case "schema":
                    return json_schemas()
        except RecursionError:
            return bad_request("nested too deeply")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return bad_request(str(error))
        return bad_request(f"op must be one of {', '.join(OPS)}")


def bad_request(why: str) -> dict[str, Any]:
    """The answer to what is no request, saying why."""
    return {"error": "bad_request", "why": why}
