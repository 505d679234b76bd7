"""Where the time of a run goes: wall and CPU time of each stage, for `ecustream run --profile`."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, get_args

from rich.console import Group
from rich.table import Table
from rich.text import Text

__all__ = ["STAGES", "Stage", "StageClock", "StageTime", "beside_model_share", "render_profile"]

Stage = Literal[
    "capture", "decode", "wait for lines", "tokenization", "model", "detection", "publishing", "start-up"
]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
"""In the order in which a line passes them."""

_BESIDE_MODEL = ("capture", "decode", "tokenization", "detection", "publishing")
_EVERY_LINE = ("tokenization", "model", "detection")
"""Stages whose items are the lines that were scored."""


@dataclass(frozen=True)
class StageTime:
    """What one stage took, over all threads, without the stages inside it.

    Attributes:
        stage: which.
        wall_s: wall time.
        cpu_s: CPU time of the threads that were in it, without that of threads they have started.
        calls: how often it was entered.
        items: what was given as `items`, in sum.
    """

    stage: Stage
    wall_s: float
    cpu_s: float
    calls: int
    items: int


class StageClock:
    """Accounts for the time of stages, in any number of threads; a stage within a stage is taken off it.

    A use costs about 2 µs, so that it is for chunks of lines and not for lines.

    Args:
        enabled: without it nothing is measured and `stage` costs next to nothing.
        wall_ns: the wall clock.
        cpu_ns: CPU time of the calling thread.
    """

    def __init__(
        self,
        enabled: bool = True,
        wall_ns: Callable[[], int] = time.perf_counter_ns,
        cpu_ns: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        self._enabled = enabled
        self._wall_ns = wall_ns
        self._cpu_ns = cpu_ns
        self._here = threading.local()
        self._accounts: list[_Account] = []
        self._lock = threading.Lock()

    def stage(self, stage: Stage, items: int = 0) -> AbstractContextManager[None]:
        """A context whose time belongs to `stage`, which passes `items` lines on.

        Raises:
            ValueError: there is no such stage.
        """
        if not self._enabled:
            return _NOTHING
        try:
            account: _Account = self._here.account
        except AttributeError:
            account = self._here.account = _Account(self._wall_ns, self._cpu_ns)
            with self._lock:
                self._accounts.append(account)
        if stage not in account.sums:
            raise ValueError(f"{stage!r} is none of the stages {', '.join(STAGES)}")
        return _Use(account, stage, items)

    def rows(self) -> list[StageTime]:
        """The time of every stage so far, in the order of `STAGES`; a use counts when it has ended."""
        with self._lock:
            accounts = list(self._accounts)
        rows = []
        for stage in STAGES:
            # A use replaces its four sums at once, so that none is read half written.
            sums = [account.sums[stage] for account in accounts]
            wall_ns, cpu_ns, calls, items = (sum(column) for column in zip((0, 0, 0, 0), *sums, strict=True))
            rows.append(StageTime(stage, wall_ns / 1e9, cpu_ns / 1e9, calls, items))
        return rows


class _Account:
    """The stages of one thread: those it is in, and (wall ns, CPU ns, calls, items) of those it left."""

    __slots__ = ("cpu_ns", "inner", "sums", "wall_ns")

    def __init__(self, wall_ns: Callable[[], int], cpu_ns: Callable[[], int]) -> None:
        self.wall_ns = wall_ns
        self.cpu_ns = cpu_ns
        self.inner: _Use | None = None
        self.sums: dict[str, tuple[int, int, int, int]] = dict.fromkeys(STAGES, (0, 0, 0, 0))


class _Use:
    """One stay in a stage; `within_wall_ns` and `within_cpu_ns` belong to stages inside it."""

    __slots__ = ("account", "cpu_ns", "items", "outer", "stage", "wall_ns", "within_cpu_ns", "within_wall_ns")

    def __init__(self, account: _Account, stage: Stage, items: int) -> None:
        self.account = account
        self.stage = stage
        self.items = items
        self.within_wall_ns = self.within_cpu_ns = 0

    def __enter__(self) -> None:
        account = self.account
        self.outer = account.inner
        account.inner = self
        self.cpu_ns = account.cpu_ns()
        self.wall_ns = account.wall_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        account = self.account
        wall_ns = account.wall_ns() - self.wall_ns
        cpu_ns = account.cpu_ns() - self.cpu_ns
        outer = account.inner = self.outer
        if outer is not None:
            outer.within_wall_ns += wall_ns
            outer.within_cpu_ns += cpu_ns
        wall, cpu, calls, items = account.sums[self.stage]
        account.sums[self.stage] = (
            wall + wall_ns - self.within_wall_ns,
            cpu + cpu_ns - self.within_cpu_ns,
            calls + 1,
            items + self.items,
        )


class _Nothing:
    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


_NOTHING = _Nothing()


def beside_model_share(rows: Sequence[StageTime], wall_s: float) -> float:
    """CPU time of capture, decode, tokenization, detection and publishing, as a share of the wall time.

    Capture and decode run beside the scoring thread, so that the share may exceed 1 with several cores.
    """
    if wall_s <= 0:
        return 0.0
    return sum(row.cpu_s for row in rows if row.stage in _BESIDE_MODEL) / wall_s


def render_profile(rows: Sequence[StageTime], wall_s: float) -> Group:
    """For the terminal, from what `StageClock.rows` returned: a table, and below it what its numbers mean.

    `wall_s` is that of the whole run.
    """
    lines = max((row.items for row in rows if row.stage in _EVERY_LINE), default=0)
    share = beside_model_share(rows, wall_s)
    table = Table(title="Where the time goes")
    table.add_column("stage")
    for column in ("wall s", "% of wall", "CPU s", "CPU µs a line", "calls", "items"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.stage,
            f"{row.wall_s:.2f}",
            f"{100 * row.wall_s / wall_s:.0f}" if wall_s > 0 else "",
            f"{row.cpu_s:.2f}",
            f"{1e6 * row.cpu_s / lines:.1f}" if lines else "",
            f"{row.calls:,}",
            f"{row.items:,}",
        )
    # Lines of their own, and short ones: a caption would be broken at the width of the table.
    return Group(
        table,
        Text(f"CPU time beside model, waiting and start-up: {100 * share:.0f} % of the wall time"),
        Text("The threads of the event socket and its journal are in no stage."),
    )
