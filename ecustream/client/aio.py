"""Reading events in an asyncio program."""

import asyncio
from typing import Self

import zmq.asyncio

from ecustream.client.connection import Connection
from ecustream.client.items import Item

__all__ = ["AsyncSubscriber"]


class AsyncSubscriber(Connection):
    """An asynchronous iterator over what a publisher says, which ends only with `close`.

    `async with AsyncSubscriber() as subscriber: async for item in subscriber: …` Its arguments are those
    of `Connection`. A wait that is cancelled loses nothing.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        self._begin_reading()
        try:
            await asyncio.sleep(0)  # a long replay must not keep other tasks waiting
            while not self._closing:
                item = self._next_item()
                if item is not None:
                    return item
                poller = zmq.asyncio.Poller()
                self._sockets.register(poller)
                await poller.poll(self._timeout_ms())
        finally:
            self._end_reading()
        raise StopAsyncIteration
