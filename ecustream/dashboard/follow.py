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
from ecustream.publish.formats import format_of
from ecustream.publish.keys import KeyPair
from ecustream.publish.pdus import PduTable

__all__ = ["Keys", "follow", "follow_pdus", "subscriber_of"]

PAUSE_S = 1.0
ANSWER_MS = 2000


Keys = tuple[bytes, KeyPair] | None
"""The daemon's public key and one's own pair, where its sockets are encrypted."""


def subscriber_of(board: Board, keys: Keys) -> AsyncSubscriber:
    """A subscriber to the daemon of `board`.

    Raises:
        ConfigError: an address or a key cannot be used.
    """
    server_key, own = keys or (None, None)
    return AsyncSubscriber(
        board.connect,
        board.reply,
        scores=True,
        server_key=server_key,
        public_key=own.public if own else None,
        secret_key=own.secret if own else None,
    )


async def follow(board: Board, keys: Keys, now_ns: Callable[[], int]) -> None:
    """Feeds `board` with the items of its daemon until it is cancelled."""
    async with subscriber_of(board, keys) as subscriber:
        async for item in subscriber:
            board.take(item, now_ns())


async def follow_pdus(board: Board, keys: Keys) -> None:
    """Feeds `board` with the daemon's table of PDUs until it is cancelled."""
    context = zmq.asyncio.Context()
    try:
        while True:
            with context.socket(zmq.DEALER) as socket:
                socket.linger = 0
                socket.ipv6 = "[" in board.reply
                if keys is not None:
                    socket.curve_serverkey, (socket.curve_publickey, socket.curve_secretkey) = keys
                socket.connect(board.reply)
                await _ask_for_pdus(socket, board)
    finally:
        context.destroy(linger=0)


async def _ask_for_pdus(socket: Any, board: Board) -> None:
    """Asks until an answer does not come: a late one would be taken for the next."""
    while True:
        if not await socket.poll(ANSWER_MS, zmq.POLLOUT):
            # A handshake that failed leaves nowhere to send to.
            return
        await socket.send(b'{"op":"pdus"}')
        if not await socket.poll(ANSWER_MS):
            return
        *_, answer = await socket.recv_multipart()
        # A daemon from before this question answers with an error.
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            board.take_pdus(format_of(answer).decode(answer, type=PduTable))
        await asyncio.sleep(PAUSE_S)
