"""Draws the live table: who publishes, what is open, what ended last, what was noticed."""

from collections.abc import Sequence
from itertools import accumulate, chain, islice

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.text import Text

from ecustream.events import Event
from ecustream.tail.board import Board
from ecustream.tail.lines import clock, duration, notice_text, pdu_names, printable, trace_of

__all__ = ["draw"]

HEADING_ROWS = 2
"""Above each list: an empty line and its title."""
WIDE_COLUMNS = 130
"""From here on a reason of ordinary length has room beside the rest."""
MOST_LINES = 4
"""Of one episode."""
LEAST_CLOSED_ROWS = MOST_LINES
MOST_CELLS = 32
CLOCK_TIME = slice(11, 19)


def draw(board: Board, console: Console, now_ns: int) -> Group:
    """The board as fits on the terminal; open episodes have the first claim to its lines."""
    header = _header(board, now_ns)
    notices = [_notice(time_ns, notice_text(notice)) for time_ns, notice in board.notices]
    used = len(console.render_lines(header)) + len(notices) + 2 * HEADING_ROWS + 3
    room = max(2 * LEAST_CLOSED_ROWS, console.height - used)
    newest = list(islice(reversed(board.open.values()), room))
    closed_newest = list(islice(reversed(board.closed), room))
    more_than_one = len({each.source for each in (*(each.event for each in newest), *closed_newest)}) > 1
    opened = _blocks(
        [(duration(each.age_ns(now_ns)), each.event) for each in newest], "bold", console, more_than_one
    )
    closed = _blocks([(_closed(event), event) for event in closed_newest], "dim", console, more_than_one)
    opened = _fitting(opened, room - min(sum(map(len, closed)), LEAST_CLOSED_ROWS))
    closed = _fitting(closed, room - sum(map(len, opened)))
    more = f", the {len(opened)} that opened last" if len(opened) < len(board.open) else ""
    parts: list[RenderableType] = [header, Text(), Text(f"open: {len(board.open)}{more}", style="bold")]
    parts += chain.from_iterable(opened)
    if closed:
        parts += [Text(), Text("closed last, at capture time (UTC)", style="bold")]
        parts += chain.from_iterable(closed)
    if notices:
        parts += [Text(), *notices]
    return Group(*parts)


def _header(board: Board, now_ns: int) -> Text:
    trouble = board.trouble(now_ns)
    if trouble is not None:
        return Text(trouble, style="bold red")
    if board.heard_ns is None:
        return Text(f"connecting to {board.connect}")
    status = board.status
    pieces = [(f"run {board.run or '?'}", "bold"), (f"event {board.seq}", "")]
    if status is not None:
        style = "bold red" if status.state in ("degraded", "overloaded") else "bold"
        pieces += [
            (status.source, "bold"),
            (status.state, style),
            (f"{status.lines_per_s:,.0f} lines/s", ""),
            (f"lag {status.lag_s:.3f} s", ""),
            (f"drops {board.drops:,}", "red" if board.drops else ""),
        ]
        if status.reason:
            pieces.append((status.reason, "red"))
    if board.lost:
        pieces.append(("EVENTS LOST", "bold red"))
    silent = duration(now_ns - board.heard_ns)
    if board.stale and not board.ended:
        pieces.append((f"STALE: last message {silent} ago", "bold red"))
    else:
        pieces.append((f"last message {silent} ago", ""))
    return Text("   ").join(Text(printable(text), style=style) for text, style in pieces)


def _blocks(
    rows: Sequence[tuple[str, Event]], style: str, console: Console, with_source: bool
) -> list[list[Text]]:
    """The lines of each episode: the reason below the rest, or on a wide terminal after it."""
    with_trace = any(trace_of(event) for _, event in rows)
    cells = [
        [
            when,
            event.kind,
            *([event.source] if with_source else []),
            *([trace_of(event)] if with_trace else []),
            pdu_names([event]),
        ]
        for when, event in rows
    ]
    columns = list(zip(*[[printable(word) for word in row] for row in cells], strict=True))
    widths = [min(max(map(cell_len, column)), MOST_CELLS) for column in columns]
    blocks = []
    for row, (_, event) in zip(zip(*columns, strict=True), rows, strict=True):
        head = "  ".join(set_cell_size(word, width) for word, width in zip(row, widths, strict=True))
        wide = console.width >= WIDE_COLUMNS
        indent = " " * (cell_len(head) + 2 if wide else 2)
        reason = Text(printable(event.reason)).wrap(console, max(8, console.width - len(indent)))
        texts = [indent + line.plain for line in reason]
        texts = [head + texts[0][len(indent) - 2 :], *texts[1:]] if wide else [head.rstrip(), *texts]
        blocks.append([Text(text, style, no_wrap=True, overflow="ellipsis") for text in texts[:MOST_LINES]])
    return blocks


def _fitting(blocks: list[list[Text]], room: int) -> list[list[Text]]:
    """The first blocks that have no more than `room` lines together."""
    return [block for block, end in zip(blocks, accumulate(map(len, blocks)), strict=True) if end <= room]


def _closed(event: Event) -> str:
    end_ns = event.decided_ns if event.end_ns is None else event.end_ns
    return f"{clock(event.decided_ns)[CLOCK_TIME]} after {duration(end_ns - event.start_ns)}"


def _notice(time_ns: int, text: str) -> Text:
    style = "bold red" if text.startswith("LOST") else "dim"
    return Text(
        printable(f"[wall time {clock(time_ns)[CLOCK_TIME]} UTC] {text}"),
        style=style,
        no_wrap=True,
        overflow="ellipsis",
    )
