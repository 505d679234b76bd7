"""Baselines in a process of their own: what learns from lines needs as long as a model that scores them."""

import signal
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ecustream.errors import EcustreamError
from training.baselines.columns import Columns, joined
from training.baselines.drawn import BLOCK_LINES
from training.baselines.rival import Rival, RivalRun
from training.metrics import Span

__all__ = ["RivalResult", "RivalsBeside"]

_MOST_WAITING = 8


class RivalResult(NamedTuple):
    """One baseline on one trace: scores of all lines if they are ranked, and episodes at each budget."""

    scores: npt.NDArray[np.float32]
    spans: dict[float, list[Span]]


class RivalsBeside:
    """Fitted baselines, to be run over one trace after the other.

    In a process of their own the interpreter's lock does not hold them up, nor they the scoring. A script
    that uses this needs the usual `if __name__ == "__main__":`, since that process begins by importing it.

    Args:
        rivals: fitted.
        join_ns: the detector's.
        own_process: False runs them in this one.
    """

    def __init__(self, rivals: Sequence[Rival], join_ns: int, own_process: bool = False) -> None:
        self.rivals = list(rivals)
        self._local = _Runs(self.rivals, join_ns)
        self._pool: ProcessPoolExecutor | None = None
        if own_process and self.rivals:
            # Not forked: this process has threads.
            self._pool = ProcessPoolExecutor(1, get_context("spawn"), _begin_process, (self.rivals, join_ns))
        self._answers: deque[Future[Any]] = deque()
        self._waiting: list[Columns] = []
        self._lines = 0

    def __enter__(self) -> "RivalsBeside":
        """Itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Whatever is not done is dropped."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def begin(self, ranked: bool) -> None:
        """A trace begins; `ranked`: somebody judges its lines, else their scores are not kept."""
        # What a trace that could not be judged has left.
        self._waiting, self._lines = [], 0
        self._ask("begin", ranked)

    def add(self, lines: Columns, sources: Sequence[str]) -> None:
        """Take the next lines.

        Args:
            lines: of the trace.
            sources: bus of each PDU so far, by number.
        """
        self._waiting.append(lines)
        self._lines += len(lines.time_ns)
        if self._lines >= BLOCK_LINES:
            self._send(sources)

    def gap(self, sources: Sequence[str]) -> None:
        """The next lines do not follow the ones before."""
        self._send(sources)
        self._ask("gap")

    def finish(self, sources: Sequence[str]) -> list[RivalResult]:
        """What each baseline made of the trace, in their order.

        Raises:
            EcustreamError: the process was killed.
        """
        self._send(sources)
        results: list[RivalResult] = self._ask("finish", wait=True)
        return results

    def _send(self, sources: Sequence[str]) -> None:
        if self._waiting and self.rivals:
            self._ask("add", joined(self._waiting), list(sources))
        self._waiting, self._lines = [], 0

    def _ask(self, what: str, *given: Any, wait: bool = False) -> Any:
        """Have something done after all before; what could not be done before is raised here."""
        if self._pool is None:
            return getattr(self._local, what)(*given)
        try:
            self._answers.append(self._pool.submit(_in_process, what, *given))
            while len(self._answers) > (1 if wait else _MOST_WAITING):
                self._answers.popleft().result()
            return self._answers.popleft().result() if wait else None
        except BrokenProcessPool:
            raise EcustreamError(
                "the process of the baselines was killed; if memory ran out, name fewer by --baselines"
            ) from None


class _Runs:
    """All baselines on the trace that is open."""

    def __init__(self, rivals: Sequence[Rival], join_ns: int) -> None:
        self._rivals = rivals
        self._join_ns = join_ns
        self._sources: list[str] = []
        self._runs: list[RivalRun] = []

    def begin(self, ranked: bool) -> None:
        self._runs = [RivalRun(rival, self._sources, self._join_ns, ranked) for rival in self._rivals]

    def add(self, lines: Columns, sources: Sequence[str]) -> None:
        self._sources += sources[len(self._sources) :]
        for run in self._runs:
            run.add(lines)

    def gap(self) -> None:
        for run in self._runs:
            run.gap()

    def finish(self) -> list[RivalResult]:
        runs, self._runs = self._runs, []
        return [RivalResult(*run.finish()) for run in runs]


_here: dict[str, _Runs] = {}
"""In the process of the baselines: what it was begun with."""


def _begin_process(rivals: Sequence[Rival], join_ns: int) -> None:
    # Ctrl-C goes to the whole group; who asked ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _here["runs"] = _Runs(rivals, join_ns)


def _in_process(what: str, *given: Any) -> Any:
    return getattr(_here["runs"], what)(*given)
