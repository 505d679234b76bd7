"""Reading events in an asyncio program."""

import asyncio
import contextlib
from typing import Self

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
                await self._wait()
        finally:
            self._end_reading()
        raise StopAsyncIteration

    async def _wait(self) -> None:
        # A poller of zmq.asyncio lets go of its sockets only a turn after it is cancelled, when they may be
        # closed.
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        descriptors = self._sockets.descriptors()
        for descriptor in descriptors:
            loop.add_reader(descriptor, ready.set)
        try:
            # A descriptor of libzmq tells only of what comes after it was asked for.
            if not self._sockets.ready():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._timeout_ms() / 1000):
                        await ready.wait()
        finally:
            for descriptor in descriptors:
                loop.remove_reader(descriptor)
