"""What judges lines in a process of its own, beside the one that scores them: each needs a whole core."""

import os
import signal
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import Any

from ecustream.errors import EcustreamError
from training.evaluation.cases import Case
from training.evaluation.judging import Judged, Judging, Yardstick
from training.evaluation.scored import Packed, Packer, Scored, Unpacker

__all__ = ["JudgeBeside"]

_MOST_WAITING = 8


class JudgeBeside:
    """Judges one trace after the other.

    In a process of its own the interpreter's lock does not hold it up, nor it the scoring. A script that uses
    this needs the usual `if __name__ == "__main__":`, since that process begins by importing it.

    Args:
        yardstick: what traces are judged by.
        own_process: False does it in this one.
    """

    def __init__(self, yardstick: Yardstick, own_process: bool = False) -> None:
        self._local = None if own_process else _Judge(yardstick)
        self._pool: ProcessPoolExecutor | None = None
        if own_process:
            # Not forked: this process has threads.
            self._pool = ProcessPoolExecutor(1, get_context("spawn"), _begin_process, (yardstick,))
        self._answers: deque[Future[Any]] = deque()
        self._pack = Packer()

    def __enter__(self) -> "JudgeBeside":
        """Itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Whatever is not done is dropped."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def begin(self, case: Case) -> None:
        """A trace begins."""
        self._pack = Packer()
        # What a trace that failed has left.
        self._answers.clear()
        self._ask("begin", case)

    def add(self, scored: Scored) -> None:
        """Take the next lines; the lists of a block must not change later."""
        if self._local is not None:
            self._local.add(scored)
        else:
            self._ask("unpack", self._pack(scored))

    def settle(self) -> None:
        """Wait until all lines so far are judged."""
        self._ask("settle", wait=True)

    def finish(self, damage: Sequence[str]) -> Judged:
        """See `Judging.finish`.

        Raises:
            EcustreamError: the process was killed, or see there.
            TooShortError: see there.
        """
        judged: Judged = self._ask("finish", list(damage), wait=True)
        return judged

    def _ask(self, what: str, *given: Any, wait: bool = False) -> Any:
        """Have something done after all before; what failed before is raised here."""
        if self._pool is None:
            return getattr(self._local, what)(*given)
        try:
            self._answers.append(self._pool.submit(_in_process, what, *given))
            while len(self._answers) > (1 if wait else _MOST_WAITING):
                self._answers.popleft().result()
            return self._answers.popleft().result() if wait else None
        except BrokenProcessPool:
            raise EcustreamError(
                "the process that judges ended; if memory ran out, name fewer by --baselines (a script must "
                'guard its start by `if __name__ == "__main__":`)'
            ) from None


class _Judge:
    """The trace that is open."""

    def __init__(self, yardstick: Yardstick) -> None:
        self._yardstick = yardstick
        self._judging: Judging | None = None
        self._unpack = Unpacker()

    def begin(self, case: Case) -> None:
        self._judging, self._unpack = Judging(case, self._yardstick), Unpacker()

    def unpack(self, packed: Packed) -> None:
        self.add(self._unpack(packed))

    def add(self, scored: Scored) -> None:
        assert self._judging is not None
        self._judging.add(scored)

    def settle(self) -> None:
        """All before is done."""

    def finish(self, damage: Sequence[str]) -> Judged:
        assert self._judging is not None
        judging, self._judging = self._judging, None
        return judging.finish(damage)


_here: dict[str, _Judge] = {}
"""In the process that judges."""


def _begin_process(yardstick: Yardstick) -> None:
    # Ctrl-C goes to the whole group; who asked ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _here["judge"] = _Judge(yardstick)


def _end_with_parent() -> None:
    """Nobody else ends this process where the one that asked was killed."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _in_process(what: str, *given: Any) -> Any:
    return getattr(_here["judge"], what)(*given)
