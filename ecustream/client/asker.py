"""One request at a time, with a time limit, and ever slower while asking brings nothing."""

from typing import NamedTuple

from ecustream.client.wire import Ask

__all__ = ["Asker", "Request"]

TIMEOUT_NS = 2_000_000_000
LONGEST_TIMEOUT_NS = 16_000_000_000
PAUSE_NS = 100_000_000
LONGEST_PAUSE_NS = 5_000_000_000


class Request(NamedTuple):
    """A request to send now; one sent before and not answered is given up.

    `number` goes back with the answer. An answer bears no mark of its request, so whoever sends must
    keep the answer to a request that was given up from being taken for that to a later one.
    """

    number: int
    ask: Ask


class Asker:
    """Decides when to send what is to be asked; time is given, in nanoseconds that never run backwards."""

    def __init__(self) -> None:
        self._number = 0
        self._waiting: Ask | None = None
        self._deadline_ns = 0
        self._not_before_ns = 0
        self._fruitless = 0

    def request(self, ask: Ask | None, now_ns: int) -> Request | None:
        """What to send now, given that `ask` is what the next answer should be to."""
        if self._waiting is not None:
            if now_ns < self._deadline_ns:
                return None
            self._waiting = None
            self._fruitless += 1
        if ask is None or now_ns < self._not_before_ns:
            return None
        self._number += 1
        self._waiting = ask
        self._deadline_ns = now_ns + min(TIMEOUT_NS << min(self._fruitless, 10), LONGEST_TIMEOUT_NS)
        return Request(self._number, ask)

    def due_ns(self, ask: Ask | None) -> int | None:
        """When `request` will have something at the latest; None where it has nothing to wait for."""
        if self._waiting is not None:
            return self._deadline_ns
        return None if ask is None else self._not_before_ns

    def answered(self, number: int) -> Ask | None:
        """What the request of that number was; None where it was given up meanwhile."""
        if number != self._number:
            return None
        ask, self._waiting = self._waiting, None
        return ask

    def pause(self, now_ns: int) -> None:
        """The answer did not help: asks again only after a pause."""
        self._not_before_ns = now_ns + min(PAUSE_NS << min(self._fruitless, 10), LONGEST_PAUSE_NS)
        self._fruitless += 1

    def helped(self) -> None:
        """The answer helped: no pause."""
        self._fruitless = self._not_before_ns = 0

    def give_up(self, op: str | None = None) -> None:
        """Gives up the request that waits, or only one for `op`, because its answer would be out of date."""
        if self._waiting is not None and op in (None, self._waiting.op):
            self._waiting = None
