"""Runs the dashboard: its address, its tasks, its end."""

import asyncio
import contextlib
import ipaddress
import os
import re
import signal
import socket as posix
import time
from collections.abc import Iterator, Sequence

import uvicorn

from ecustream.client.addresses import addresses
from ecustream.dashboard.app import make_app
from ecustream.dashboard.board import Board
from ecustream.dashboard.follow import Keys, follow, follow_pdus, subscriber_of
from ecustream.dashboard.hub import INTERVAL_S, Hub
from ecustream.errors import ConfigError, OutputError

__all__ = ["serve"]


def serve(connect: Sequence[str], listen: str, *, allow_remote: bool, keys: Sequence[Keys] = ()) -> None:
    """Serves the page until Ctrl-C or SIGTERM.

    Args:
        connect: addresses of each daemon as `ecustream.client.addresses` takes them.
        listen: `HOST:PORT`; port 0 takes a free one.
        allow_remote: whether machines other than this one may connect.
        keys: one for each daemon, or none at all.

    Raises:
        ConfigError: a key or an address is malformed, or open to other machines without `allow_remote`.
        OutputError: `listen` is in use or cannot be bound.
    """
    boards = [Board(*addresses(text), time.time_ns()) for text in connect]
    daemons = list(zip(boards, keys or [None] * len(boards), strict=True))
    for board, key in daemons:
        subscriber_of(board, key).close()  # what cannot be used is refused here
    host, port = _host_and_port(listen)
    with _bound(host, port, allow_remote) as socket:
        shown = f"[{host}]" if ":" in host else host
        print(f"dashboard on http://{shown}:{socket.getsockname()[1]}/, Ctrl-C ends", flush=True)
        asyncio.run(_serve(daemons, socket, {host, posix.gethostname()} if allow_remote else {host}))


def _host_and_port(listen: str) -> tuple[str, int]:
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]/]+)):(\d{1,5})", listen)
    if match is None or int(match[3]) > 65535:
        raise ConfigError(f'--listen "{listen}" is no address; write HOST:PORT')
    return match[1] or match[2], int(match[3])


def _bound(host: str, port: int, allow_remote: bool) -> posix.socket:
    try:
        family, kind, protocol, _, address = posix.getaddrinfo(host, port, type=posix.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(f'--listen "{host}": {error.strerror}') from error
    if not allow_remote and not ipaddress.ip_address(address[0]).is_loopback:
        raise ConfigError(
            f'--listen "{host}" would let other machines read the page; add --allow-remote if that is meant'
        )
    socket = posix.socket(family, kind, protocol)
    try:
        socket.setsockopt(posix.SOL_SOCKET, posix.SO_REUSEADDR, 1)
        socket.bind(address)
        socket.listen(128)
    except OSError as error:
        socket.close()
        why = os.strerror(error.errno or 0)
        raise OutputError(f"{host}:{port} cannot be bound: {why}; choose another with --listen") from error
    return socket


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals alone: uvicorn would raise them again when it is done."""
        yield


async def _serve(daemons: Sequence[tuple[Board, Keys]], socket: posix.socket, names: set[str]) -> None:
    boards = [board for board, _ in daemons]
    hub = Hub(boards, time.time_ns)
    server = _Server(
        uvicorn.Config(
            make_app(boards, hub, names),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=2,
            server_header=False,
            lifespan="off",
        )
    )

    def stop() -> None:
        server.should_exit = True
        hub.close()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_tick(hub))]
        for board, key in daemons:
            tasks.append(group.create_task(follow(board, key, time.time_ns)))
            tasks.append(group.create_task(follow_pdus(board, key)))
        await server.serve(sockets=[socket])
        for task in tasks:
            task.cancel()


async def _tick(hub: Hub) -> None:
    while True:
        hub.tick()
        await asyncio.sleep(INTERVAL_S)
