"""The asyncio subscriber over real sockets."""

import asyncio
from typing import Any

import pytest

from ecustream import AsyncSubscriber
from ecustream.client import sockets
from ecustream.client.items import Item, NewRun, Synced
from ecustream.events import Event
from ecustream.publish.messages import Status
from tests.client.server import ModelServer
from tests.client.sockets import BarePublisher

pytestmark = pytest.mark.timeout(30)


async def read_to(subscriber: AsyncSubscriber, run: str, seq: int) -> list[Item]:
    """What is handed out, but for statuses, until the reader is at `seq` of `run`."""
    items: list[Item] = []
    async for item in subscriber:
        if not isinstance(item, Status):
            items.append(item)
        if subscriber.position == (run, seq):
            break
    return items


def test_losses_and_a_restart() -> None:
    """As the other subscriber: every event once and in order, and the new run is said."""

    async def scenario() -> list[Item]:
        publisher = BarePublisher(ModelServer(), lost=lambda event: event.seq % 3 == 0)
        async with AsyncSubscriber(publisher.pub, publisher.reply) as subscriber:
            assert (await read_to(subscriber, "run0", 0))[-1] == Synced("run0", 0, [])
            publisher.publish(50)
            items = await read_to(subscriber, "run0", 50)
            publisher.close()
            publisher.model.restart()
            with BarePublisher(publisher.model, publisher.pub, publisher.reply) as publisher:
                publisher.publish(5)
                return items + await read_to(subscriber, "run1", 5)

    items = asyncio.run(scenario())
    places = [(item.run, item.seq) for item in items if isinstance(item, Event)]
    assert places == [*(("run0", seq) for seq in range(1, 51)), *(("run1", seq) for seq in range(1, 6))]
    assert NewRun("run0", "run1") in items


def test_waits_that_are_cancelled_lose_nothing() -> None:
    """Impatient waits, each cancelled after a moment, bring every event once and in order."""

    async def scenario() -> list[int]:
        with BarePublisher(ModelServer(), lost=lambda event: event.seq % 5 == 0) as publisher:
            async with AsyncSubscriber(publisher.pub, publisher.reply, since=("run0", 0)) as subscriber:
                seqs: list[int] = []
                while len(seqs) < 200:
                    if publisher.model.seq < 200:
                        publisher.publish(1)
                    try:
                        async with asyncio.timeout(0.001):
                            item = await anext(subscriber)
                    except TimeoutError:
                        continue
                    if isinstance(item, Event):
                        seqs.append(item.seq)
                return seqs

    assert asyncio.run(scenario()) == list(range(1, 201))


def test_a_wait_that_is_cancelled_lets_go_at_once() -> None:
    """`close` right after the wait was cancelled leaves nothing that fails in a later turn of the loop."""
    complaints: list[dict[str, Any]] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, complaint: complaints.append(complaint))

        async def read() -> None:
            async with AsyncSubscriber("tcp://127.0.0.1:1", "tcp://127.0.0.1:1") as subscriber:
                await anext(subscriber)

        task = asyncio.create_task(read())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(scenario())
    assert complaints == []


def test_what_has_come_already_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that come at once and are read one a turn are all dealt with, though nothing follows."""
    monkeypatch.setattr(sockets, "MESSAGES_A_TURN", 1)

    async def scenario() -> None:
        with BarePublisher(ModelServer(), silent=True) as publisher:
            urls = publisher.pub, publisher.reply
            async with AsyncSubscriber(*urls, since=("run0", 0), kinds=[], stale_after_s=3600) as subscriber:
                reading = asyncio.create_task(read_to(subscriber, "", 0))
                async with asyncio.timeout(10):
                    while subscriber.position in (None, ("run0", 0)):
                        publisher.publish()
                        await asyncio.sleep(0.01)
                    publisher.publish(100)
                    while subscriber.position != ("run0", publisher.model.seq):
                        await asyncio.sleep(0.01)
                subscriber.close()
                await reading

    asyncio.run(scenario())


def test_a_long_replay_lets_other_tasks_run() -> None:
    """While thousands of events are handed out, other tasks get their turn between any two of them."""

    async def scenario() -> list[int]:
        model = ModelServer()
        for _ in range(3000):
            model.publish()
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        with BarePublisher(model) as publisher:
            async with AsyncSubscriber(publisher.pub, publisher.reply, since=("run0", 0)) as subscriber:
                task = asyncio.create_task(other())
                seen = []
                async for item in subscriber:
                    if isinstance(item, Event):
                        seen.append(turns)
                    if len(seen) == 3000:
                        break
                task.cancel()
        return seen

    seen = asyncio.run(scenario())
    assert len(set(seen)) == 3000


def test_close_ends_a_wait() -> None:
    """`close` from another task ends the iteration without an error; a second reader is refused."""

    async def scenario() -> list[Item]:
        subscriber = AsyncSubscriber("tcp://127.0.0.1:1", "tcp://127.0.0.1:1", stale_after_s=3600)
        items: list[Item] = []

        async def read() -> None:
            items.extend([item async for item in subscriber])

        task = asyncio.create_task(read())
        await asyncio.sleep(0.05)
        with pytest.raises(RuntimeError, match="already waiting"):
            await anext(subscriber)
        subscriber.close()
        await task
        return items

    assert asyncio.run(scenario()) == []
