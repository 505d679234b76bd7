"""The command `ecustream tail`: connects, and shows what comes in the way that fits the output."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import Literal

import msgspec
from rich.console import Console, Group
from rich.live import Live

from ecustream.client.addresses import addresses
from ecustream.client.items import Item, Notice, Stale
from ecustream.client.subscriber import Subscriber
from ecustream.errors import ConfigError
from ecustream.events import EVENT_KINDS, Event
from ecustream.publish.keys import KeyPair
from ecustream.publish.messages import Status, encode
from ecustream.tail.board import UNHEARD_AFTER_NS, Board
from ecustream.tail.lines import HEADING, event_line, note_line, notice_text
from ecustream.tail.table import draw

__all__ = ["tail"]

REFRESHES_A_SECOND = 4


def tail(
    connect: str = "tcp://127.0.0.1:5556",
    *,
    json: bool = False,
    count: int | None = None,
    since: str | None = None,
    kinds: Collection[str] | None = None,
    keys: tuple[bytes, KeyPair] | None = None,
) -> None:
    """Shows events and notices until Ctrl-C, a closed pipe, or `count` events.

    On a terminal it is a table that stays up to date, elsewhere a line each. Where nobody publishes yet, it
    waits.

    Args:
        connect: addresses as `ecustream.client.addresses` takes them.
        json: print events as the JSON objects that were published, and notices as `{"notice": …}`.
        count: after how many events to end; None for no end.
        since: `RUN:SEQ` of the last event that is known already, or `start` for all that can be had; None
            for what comes from now on.
        kinds: which kinds of events to show; None for all.
        keys: the publisher's public key and one's own pair, where the sockets are encrypted.

    Raises:
        ConfigError: an argument cannot be used.
    """
    board = Board(*addresses(connect), time.time_ns())
    subscriber = Subscriber(
        board.connect,
        board.reply,
        kinds=_known(kinds),
        since=None if since is None else _position(since),
        server_key=None if keys is None else keys[0],
        public_key=None if keys is None else keys[1].public,
        secret_key=None if keys is None else keys[1].secret,
    )
    console = Console()
    try:
        with subscriber:
            items = _up_to(subscriber, count)
            if json or not console.is_terminal or console.is_dumb_terminal:
                _print(items, board, _json_lines() if json else _plain_lines(board, filtered=bool(kinds)))
            else:
                _show(items, board, console)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Python flushes standard output once more at exit and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _position(since: str) -> tuple[str, int] | Literal["start"]:
    if since == "start":
        return "start"
    run, _, seq = since.rpartition(":")
    if not run or not seq.isdecimal():
        raise ConfigError(f'--since "{since}": write RUN:SEQ, or start for all that can be had')
    return run, int(seq)


def _known(kinds: Collection[str] | None) -> Collection[str] | None:
    for kind in kinds or ():
        if kind not in EVENT_KINDS:
            raise ConfigError(f'--kind "{kind}": there is no such kind; choose from {", ".join(EVENT_KINDS)}')
    return kinds or None


def _up_to(items: Iterable[Item], count: int | None) -> Iterable[Item]:
    left = count
    for item in items:
        yield item
        if left is not None and isinstance(item, Event):
            left -= 1
            if left <= 0:
                return


def _print(items: Iterable[Item], board: Board, lines_of: Callable[[Item], Iterable[str]]) -> None:
    lock = threading.Lock()  # that nobody publishes is said by a timer, since no item comes then
    said = None

    def tell(now_ns: int) -> None:
        nonlocal said
        trouble = board.trouble(now_ns)
        if trouble not in (None, said):
            print(f"ecustream: {trouble}", file=sys.stderr, flush=True)
        said = trouble

    def tell_unheard() -> None:
        with lock:
            tell(began_ns + UNHEARD_AFTER_NS)

    began_ns = time.time_ns()
    timer = threading.Timer(UNHEARD_AFTER_NS / 1e9, tell_unheard)
    timer.daemon = True
    timer.start()
    try:
        for item in items:
            with lock:
                now_ns = time.time_ns()
                board.take(item, now_ns)
                tell(now_ns)
            for line in lines_of(item):
                print(line, flush=True)
    finally:
        timer.cancel()


def _plain_lines(board: Board, *, filtered: bool) -> Callable[[Item], Iterable[str]]:
    print(HEADING, flush=True)
    done = ""

    def lines_of(item: Item) -> Iterable[str]:
        nonlocal done
        if isinstance(item, Event):
            yield event_line(item)
        elif isinstance(item, Notice) and not board.is_idle(item):
            yield note_line(notice_text(item), time.time_ns())
        status = board.status
        if status is None or status.state != "done":
            done = ""
        elif done != status.run and _all_told(board, status, item, filtered):
            done = status.run
            count = f"{status.seq:,} event{'' if status.seq == 1 else 's'}"
            yield note_line(f"run {done} is done: {count}", time.time_ns())

    return lines_of


def _all_told(board: Board, status: Status, item: Item, filtered: bool) -> bool:
    # A status overtakes events that are replayed; those of kinds not asked for the board does not see.
    if isinstance(item, Stale):
        return True
    return status.run == board.run and (filtered or board.seq >= status.seq)


def _json_lines() -> Callable[[Item], Iterable[str]]:
    def lines_of(item: Item) -> Iterable[str]:
        if isinstance(item, Event):
            yield encode(item).decode()
        elif isinstance(item, Notice):
            yield msgspec.json.encode(item).decode()

    return lines_of


def _show(items: Iterable[Item], board: Board, console: Console) -> None:
    lock = threading.Lock()  # the table is drawn by a thread of its own, so that ages go on in a silence

    def drawing() -> Group:
        with lock:
            return draw(board, console, time.time_ns())

    # An end by a signal must give the terminal back too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        with Live(
            get_renderable=drawing,
            console=console,
            screen=True,
            refresh_per_second=REFRESHES_A_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        ):
            for item in items:
                with lock:
                    board.take(item, time.time_ns())
    finally:
        console.print(drawing())
