"""Frames to pages: who is slow costs the others nothing."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from ecustream.client.items import Synced
from ecustream.dashboard.board import Board
from ecustream.dashboard.hub import QUEUE_FRAMES, QUIET_TICKS, Hub, Page
from tests.dashboard.examples import START_NS, make_event, make_status


def make_hub() -> tuple[Board, Hub]:
    """A hub of one board that is in step."""
    board = Board("tcp://h:1", "tcp://h:2", START_NS)
    board.take(Synced("run0", 0, []), START_NS)
    return board, Hub([board], lambda: START_NS)


async def read(page: Page) -> Any:
    """The next frame's entry of the only daemon."""
    frame = await asyncio.wait_for(page.next(), 1)
    assert frame is not None
    return msgspec.json.decode(frame)["daemons"][0]


def run(scenario: Callable[[], Any]) -> None:
    """Runs an async test."""
    asyncio.run(scenario())


def test_a_snapshot_first_then_what_changed() -> None:
    """The first frame is everything; the next one only the change."""

    async def scenario() -> None:
        board, hub = make_hub()
        board.take(make_status(), START_NS)
        page = hub.join()
        assert (await read(page))["full"]
        board.take(make_event(1), START_NS)
        hub.tick()
        delta = await read(page)
        assert "full" not in delta
        assert [row["seq"] for row in delta["episodes"]] == [1]

    run(scenario)


def test_one_frame_a_tick_however_much_happens() -> None:
    """A thousand events between two ticks are one frame."""

    async def scenario() -> None:
        board, hub = make_hub()
        page = hub.join()
        await read(page)
        for seq in range(1, 1001):
            board.take(make_event(seq, phase="update"), START_NS)
        hub.tick()
        assert [row["seq"] for row in (await read(page))["episodes"]] == [1000]
        assert not page._frames

    run(scenario)


def test_many_episodes_at_once_are_spread() -> None:
    """A delta has at most a hundred of them; all arrive."""

    async def scenario() -> None:
        board, hub = make_hub()
        page = hub.join()
        await read(page)
        for i in range(250):
            board.take(make_event(i + 1, i), START_NS)
        counts = []
        for _ in range(3):
            hub.tick()
            counts.append(len((await read(page))["episodes"]))
        assert counts == [100, 100, 50]

    run(scenario)


def test_a_page_that_lags_gets_a_new_snapshot() -> None:
    """Its queue is bounded; another page has had every frame meanwhile."""

    async def scenario() -> None:
        board, hub = make_hub()
        slow, quick = hub.join(), hub.join()
        await read(slow)
        await read(quick)
        for seq in range(1, 3 * QUEUE_FRAMES):
            board.take(make_event(seq, seq), START_NS)
            hub.tick()
            assert [row["seq"] for row in (await read(quick))["episodes"]] == [seq]
            assert len(slow._frames) <= QUEUE_FRAMES
        again = await read(slow)
        assert again["full"]
        assert len(again["episodes"]) == 3 * QUEUE_FRAMES - 1
        hub.tick()

    run(scenario)


def test_nothing_new_is_told_once_a_second() -> None:
    """So a page sees that its server is alive, and is left alone otherwise."""

    async def scenario() -> None:
        _, hub = make_hub()
        page = hub.join()
        await read(page)
        hub.tick()
        await read(page)
        hub.tick()
        await read(page)  # the first frame told of the notice, this one only of the head
        for _ in range(QUIET_TICKS - 1):
            hub.tick()
            assert not page._frames
        hub.tick()
        assert len(page._frames) == 1

    run(scenario)


def test_close_ends_pages_also_those_to_come() -> None:
    """Streams end at once, so that the server can."""

    async def scenario() -> None:
        _, hub = make_hub()
        early = hub.join()
        await read(early)
        hub.close()
        assert await asyncio.wait_for(early.next(), 1) is None
        assert await asyncio.wait_for(hub.join().next(), 1) is None

    run(scenario)
