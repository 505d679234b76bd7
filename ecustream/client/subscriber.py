"""Reading events in a thread of one's own."""

from typing import Self

import zmq

from ecustream.client.connection import Connection
from ecustream.client.items import Item

__all__ = ["Subscriber"]


class Subscriber(Connection):
    """An iterator over what a publisher says, which ends only with `close`.

    `with Subscriber() as subscriber: for item in subscriber: …` Its arguments are those of `Connection`.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item:
        self._begin_reading()
        try:
            while not self._closing:
                item = self._next_item()
                if item is not None:
                    return item
                poller = zmq.Poller()
                self._sockets.register(poller)
                poller.poll(self._timeout_ms())
        finally:
            self._end_reading()
        raise StopIteration
