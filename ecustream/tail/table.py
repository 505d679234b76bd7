"""Draws the live table: who publishes, what is open, what ended last, what was noticed."""

from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ecustream.events import Event
from ecustream.tail.board import Board
from ecustream.tail.lines import clock, notice_text, pdu_names, printable

__all__ = ["draw", "duration"]

HEADING_ROWS = 2
"""A line above each table: its title, then its columns."""
LEAST_CLOSED_ROWS = 3
CLOCK_TIME = slice(11, 19)


def draw(board: Board, console: Console, now_ns: int) -> Group:
    """The board as fits on the terminal; open episodes have the first claim to its lines."""
    header = _header(board, now_ns)
    notices = [_notice(time_ns, notice_text(notice)) for time_ns, notice in board.notices]
    used = len(console.render_lines(header)) + len(notices) + 2 * HEADING_ROWS + 3
    room = max(2 + LEAST_CLOSED_ROWS, console.height - used)
    count = min(len(board.open), room - min(len(board.closed), LEAST_CLOSED_ROWS))
    opened = list(reversed(board.open.values()))[:count]
    closed = list(reversed(board.closed))[: room - count]
    more = f", the {count} that opened last" if count < len(board.open) else ""
    parts: list[RenderableType] = [header, Text(), Text(f"open: {len(board.open)}{more}", style="bold")]
    if opened:
        parts.append(_table("age", [(duration(each.age_ns(now_ns)), each.event) for each in opened], "bold"))
    if closed:
        parts += [Text(), Text("closed last", style="bold")]
        parts.append(_table("at", [(_closed(event), event) for event in closed], "dim"))
    if notices:
        parts += [Text(), *notices]
    return Group(*parts)


def duration(span_ns: int) -> str:
    """A time span in its largest fitting unit."""
    seconds = max(0, span_ns) / 1e9
    for unit, size_s, most in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if seconds < most * size_s:
            return f"{seconds / size_s:.{1 if seconds < 10 else 0}f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def _header(board: Board, now_ns: int) -> Text:
    trouble = board.trouble(now_ns)
    if trouble is not None:
        return Text(trouble, style="bold red")
    if board.heard_ns is None:
        return Text(f"connecting to {board.connect}")
    status = board.status
    pieces = [(f"run {board.run or '?'}", "bold"), (f"event {board.seq}", "")]
    if status is not None:
        style = "bold red" if status.state == "degraded" else "bold"
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


def _table(first: str, rows: Iterable[tuple[str, Event]], style: str) -> Table:
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0), header_style="dim", row_styles=[style])
    for name in (first, "kind", "evidence", "source"):
        table.add_column(name, no_wrap=True)
    table.add_column("PDUs", no_wrap=True, max_width=32)
    table.add_column("reason", no_wrap=True, ratio=1)
    for when, event in rows:
        words = (when, event.kind, event.evidence, event.source, pdu_names([event]), event.reason)
        table.add_row(*(Text(printable(word)) for word in words))
    return table


def _closed(event: Event) -> str:
    end_ns = event.decided_ns if event.end_ns is None else event.end_ns
    return f"{clock(event.decided_ns)[CLOCK_TIME]} after {duration(end_ns - event.start_ns)}"


def _notice(time_ns: int, text: str) -> Text:
    style = "bold red" if text.startswith("LOST") else "dim"
    return Text(
        printable(f"{clock(time_ns)[CLOCK_TIME]}  {text}"), style=style, no_wrap=True, overflow="ellipsis"
    )
