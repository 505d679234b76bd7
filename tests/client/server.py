"""A publisher as the contract has it, without sockets: its events, its restarts, its answers."""

from typing import Any

import msgspec

from ecustream.events import Event
from ecustream.publish.messages import encode
from tests.client.examples import make_event, open_episodes

__all__ = ["ModelServer"]


class ModelServer:
    """Numbers events run by run and answers requests from a history and, if it has one, a journal.

    Args:
        journal: whether the events of older runs can be replayed.
        keep: how many events are held in all, the newest.
        page: how many events an answer has at most.
        empty_runs: whether the journal knows runs without an event.
        old: answer as servers did before there were journals.
    """

    def __init__(
        self,
        *,
        journal: bool = True,
        keep: int = 10**9,
        page: int = 1000,
        empty_runs: bool = True,
        old: bool = False,
    ):
        self.journal = journal
        self.keep = keep
        self.page = page
        self.empty_runs = empty_runs
        self.old = old
        self.runs: dict[str, int] = {"run0": 0}

    @property
    def run(self) -> str:
        """The current run."""
        return list(self.runs)[-1]

    @property
    def seq(self) -> int:
        """The last event of the current run."""
        return self.runs[self.run]

    def publish(self) -> Event:
        """The next event."""
        self.runs[self.run] += 1
        return make_event(self.run, self.seq)

    def restart(self) -> None:
        """A new run begins."""
        self.runs[f"run{len(self.runs)}"] = 0

    def held(self) -> dict[str, range]:
        """The events that can be replayed, run by run."""
        held: dict[str, range] = {}
        room = self.keep
        for run, last in reversed(self.runs.items()):
            oldest = max(1, last - room + 1)
            room -= last + 1 - oldest
            known = oldest <= last or (self.empty_runs and last == 0 and room > 0)
            if run == self.run or (self.journal and known):
                held[run] = range(oldest, last + 1)
            if not self.journal:
                break
        return dict(reversed(held.items()))

    def answer(self, request: bytes) -> bytes:
        """The JSON answer to a JSON request."""
        ask = msgspec.json.decode(request)
        return msgspec.json.encode(self._answer(ask))

    def _answer(self, ask: dict[str, Any]) -> dict[str, Any]:
        match ask["op"]:
            case "snapshot":
                episodes = [encoded(event) for event in open_episodes(self.run, self.seq)]
                answer = {"run": self.run, "seq": self.seq, "open": episodes}
                return answer if self.old else {**answer, "oldest": self.held()[self.run].start}
            case "replay":
                return self._replay(ask["run"], ask["after"], ask.get("limit", self.page))
            case "runs" if not self.old:
                listed = self.held().items()
                return {
                    "runs": [{"run": run, "first_seq": r.start, "last_seq": r.stop - 1} for run, r in listed]
                }
        return {"error": "bad_request", "why": "op must be one of the known"}

    def _replay(self, run: str, after: int, limit: int) -> dict[str, Any]:
        held = self.held()
        if run not in held:
            return {"error": "other_run", "run": self.run}
        if not 0 <= after <= self.runs[run]:
            return {"error": "bad_request", "why": "after must be from 0 to the last event"}
        if after + 1 < held[run].start:
            return {"error": "too_old", "oldest": held[run].start}
        seqs = range(after + 1, self.runs[run] + 1)
        given = seqs if self.old else seqs[: min(limit, self.page)]
        events = [encoded(make_event(run, seq)) for seq in given]
        answer: dict[str, Any] = {"run": run, "events": events, "complete": len(given) == len(seqs)}
        if self.old:
            return answer
        later = list(held)[list(held).index(run) + 1 :]
        return {**answer, "next_run": later[0] if later else None}


def encoded(event: Event) -> msgspec.Raw:
    """The event as the bytes that were published."""
    return msgspec.Raw(encode(event))
