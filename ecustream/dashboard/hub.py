"""Brings the boards to every page: a snapshot first, then what changed, at most ten times a second."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ecustream.dashboard.board import Board
from ecustream.dashboard.episodes import ms

__all__ = ["INTERVAL_S", "Hub", "Page"]

INTERVAL_S = 0.1
QUEUE_FRAMES = 20
QUIET_TICKS = 10


class Page:
    """One open page: the frames that wait for it. One that does not keep up gets a new snapshot instead."""

    def __init__(self, snapshot: Callable[[], bytes]) -> None:
        self._snapshot = snapshot
        self._frames: deque[bytes] = deque()
        self._lags = True
        self._ready = asyncio.Event()
        self._ready.set()
        self._closed = False

    def put(self, frame: bytes) -> None:
        """Hands over the next frame; never waits."""
        if self._lags:
            return
        if len(self._frames) >= QUEUE_FRAMES:
            self._frames.clear()
            self._lags = True
        else:
            self._frames.append(frame)
        self._ready.set()

    def close(self) -> None:
        """Ends `next`."""
        self._closed = True
        self._ready.set()

    async def next(self) -> bytes | None:
        """The next frame, once there is one; None after `close`."""
        await self._ready.wait()
        if self._closed:
            return None
        if self._lags:
            self._lags = False
            self._ready.clear()
            return self._snapshot()
        frame = self._frames.popleft()
        if not self._frames:
            self._ready.clear()
        return frame


class Hub:
    """Makes the frames, each once for all pages.

    A frame is JSON, `{"now_ms", "daemons": [...]}`, with one entry a board: all of it, or what changed
    since the frame before. There is a frame at least once a second, so that a page sees that it is alive.

    Args:
        boards: one for each daemon.
        now_ns: gives the time in nanoseconds since 1970.
    """

    def __init__(self, boards: Sequence[Board], now_ns: Callable[[], int]) -> None:
        self.pages: set[Page] = set()
        self._boards = boards
        self._now_ns = now_ns
        self._last: list[dict[str, Any]] = []
        self._quiet_ticks = 0
        self._closed = False

    def join(self) -> Page:
        """A new page."""
        page = Page(self._frame_of_everything)
        if self._closed:
            page.close()
        self.pages.add(page)
        return page

    def leave(self, page: Page) -> None:
        """A page is closed."""
        self.pages.discard(page)

    def tick(self) -> None:
        """Sends what has changed; to be called every `INTERVAL_S`."""
        now_ns = self._now_ns()
        daemons = [board.delta(now_ns) for board in self._boards]
        self._quiet_ticks += 1
        if daemons == self._last and self._quiet_ticks < QUIET_TICKS:
            return
        self._last, self._quiet_ticks = daemons, 0
        if self.pages:
            frame = _frame(now_ns, daemons)
            for page in self.pages:
                page.put(frame)

    def close(self) -> None:
        """Ends every page's stream, also those of pages to come."""
        self._closed = True
        for page in self.pages:
            page.close()

    def _frame_of_everything(self) -> bytes:
        now_ns = self._now_ns()
        return _frame(now_ns, [board.snapshot(now_ns) for board in self._boards])


def _frame(now_ns: int, daemons: list[dict[str, Any]]) -> bytes:
    return msgspec.json.encode({"now_ms": ms(now_ns), "daemons": daemons})
