"""Progress of long work: a bar with a time to go on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

__all__ = ["WorkProgress"]

_PLAIN_EVERY_S = 10.0
_BAR_EVERY_S = 0.1


class WorkProgress:
    """Shows on stderr how much of some work is done; use as a context manager.

    Args:
        title: what is being done, one or two words.
        total: amount of work in any unit; None if it cannot be known.
        shown: False shows nothing at all.
    """

    def __init__(self, title: str, total: float | None, shown: bool = True) -> None:
        self._title = title
        self._total = total
        self._shown = shown
        self._bar: Progress | None = None
        self._next_s = 0.0
        self._started_s = time.monotonic()
        console = Console(stderr=True)
        if shown and console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(title, total=total, note="")
        else:
            self._next_s = self._started_s + _PLAIN_EVERY_S

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: float, note: str = "") -> None:
        """Say how much is done; cheap to call often."""
        now_s = time.monotonic()
        if not self._shown or now_s < self._next_s:
            return
        if self._bar is not None:
            self._next_s = now_s + _BAR_EVERY_S
            self._bar.update(self._task, completed=done, note=note)
            return
        self._next_s = now_s + _PLAIN_EVERY_S
        parts = [part for part in (self._share(done, now_s), note) if part]
        print(f"{self._title}: {'; '.join(parts)}", file=sys.stderr, flush=True)

    def _share(self, done: float, now_s: float) -> str:
        if not self._total or done <= 0:
            return ""
        to_go_s = (now_s - self._started_s) * (self._total - done) / done
        return f"{100 * done / self._total:.0f} %, {max(0.0, to_go_s):.0f} s to go"
