"""Feeds a board from its daemon: one subscriber, and a question a second for the table of PDUs."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from ecustream.client.aio import AsyncSubscriber
from ecustream.dashboard.board import Board
from ecustream.publish.pdus import PduTable

__all__ = ["follow", "follow_pdus"]

PAUSE_S = 1.0
ANSWER_MS = 2000


async def follow(board: Board, now_ns: Callable[[], int]) -> None:
    """Feeds `board` with the items of its daemon until it is cancelled."""
    while True:
        async with AsyncSubscriber(board.connect, board.reply, scores=True) as subscriber:
            async for item in subscriber:
                if board.began_again(item):
                    board.begin_again(now_ns())
                    break
                board.take(item, now_ns())


async def follow_pdus(board: Board) -> None:
    """Feeds `board` with the daemon's table of PDUs until it is cancelled."""
    context = zmq.asyncio.Context()
    try:
        while True:
            with context.socket(zmq.DEALER) as socket:
                socket.linger = 0
                socket.ipv6 = "[" in board.reply
                socket.connect(board.reply)
                await _ask_for_pdus(socket, board)
    finally:
        context.destroy(linger=0)


async def _ask_for_pdus(socket: Any, board: Board) -> None:
    """Asks until an answer does not come: a late one would be taken for the next."""
    while True:
        await socket.send(b'{"op":"pdus"}')
        if not await socket.poll(ANSWER_MS):
            return
        *_, answer = await socket.recv_multipart()
        # A daemon from before this question answers with an error.
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            board.take_pdus(msgspec.json.decode(answer, type=PduTable))
        await asyncio.sleep(PAUSE_S)
