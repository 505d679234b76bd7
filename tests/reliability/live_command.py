"""`ecustream run --interface b0` in a process of its own, and the ledger that it prints."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.namespaces import wait_for
from tests.reliability.command import Running, running
from tests.reliability.left import books_in
from tests.reliability.live_run import captures
from tests.reliability.vehicle import SOURCE

__all__ = ["Ended", "capturing", "stop"]


class Ended(NamedTuple):
    """How a run has ended.

    Attributes:
        code: its exit code.
        out: what it printed.
        errors: what it said on stderr.
        books: its ledger: by book, what `entered`, and each end.
    """

    code: int
    out: str
    errors: str
    books: dict[str, dict[str, int]]

    @property
    def balanced(self) -> bool:
        """Whether it says that its ledger balances."""
        return "the ledger balances" in self.out


@contextmanager
def capturing(folder: Path, *options: object) -> Iterator[Running]:
    """As `running`, on `b0` in the network namespace of this thread, and it captures.

    Raises:
        RuntimeError: it has ended before it did.
    """
    with running(folder, "--interface", "b0", "--source", SOURCE, *options) as run:
        wait_for(lambda: captures() or run.process.poll() is not None, 60)
        if run.process.poll() is not None:
            raise RuntimeError(f"ecustream run has ended at once: {run.err.read_text()}")
        time.sleep(0.1)
        yield run


def stop(run: Running, seconds: float = 60) -> Ended:
    """End it by SIGTERM, or take it as it has ended; after so long it is killed."""
    run.process.terminate()
    try:
        run.process.wait(seconds)
    except subprocess.TimeoutExpired:
        run.process.kill()
        run.process.wait()
    out = run.out.read_text()
    return Ended(run.process.returncode, out, run.err.read_text(), books_in(out))
