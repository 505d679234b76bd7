"""Clean traces that are read again and again, with a progress bar over all of them."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from ecustream.decode.names import NameTable
from ecustream.decode.state import ActivityState
from ecustream.errors import InputError
from ecustream.ledger import Ledger
from ecustream.progress import WorkProgress
from ecustream.run.source import TraceLines
from ecustream.traffic import Line

__all__ = ["Traces"]


class Traces:
    """Clean traces that can be read again and again.

    Args:
        paths: captures or CSV traces, each one uninterrupted drive.
        names: names of PDU ids.
        key: what "the same PDU" means.
        source: bus name to use instead of the traces' own.
    """

    def __init__(
        self, paths: Sequence[Path], names: NameTable | None, key: str = "stream", source: str | None = None
    ) -> None:
        self.paths = list(paths)
        self.names = names
        self.key = key
        self.source = source
        self.total_bytes = 0
        for path in self.paths:
            if not path.is_file():
                why = "is not a file; training reads its traces more than once"
                raise InputError(f"{path}: {why if path.exists() else 'does not exist'}")
            self.total_bytes += path.stat().st_size

    def read(
        self, title: str, cycles_ns: dict[str, int] | None = None
    ) -> Iterator[tuple[int, Iterator[list[Line]]]]:
        """Each trace as (index, batches of lines), with a progress bar over all of them.

        Args:
            title: of the progress bar.
            cycles_ns: cycles for the activity state; None leaves it at normal operation.
        """
        done = 0
        with WorkProgress(title, self.total_bytes) as progress:
            for index, path in enumerate(self.paths):
                state = None if cycles_ns is None else ActivityState(cycles_ns=cycles_ns)
                lines = TraceLines(
                    path, Ledger(), names=self.names, key=self.key, source=self.source, state=state
                )
                with closing(lines) as trace:
                    yield index, _watched(trace, progress, done)
                    if trace.damage:
                        raise InputError(f"cannot train on a damaged trace: {trace.damage[0]}")
                    if trace.losses:
                        # What was lost would be learned as intervals that are normal.
                        lost, number = sum(count for _, count in trace.losses), trace.losses[0][0]
                        raise InputError(
                            f"{path}: cannot train on it: the logger lost {lost:,} frames, the first before "
                            f"frame {number}"
                        )
                done += path.stat().st_size


def _watched(trace: TraceLines, progress: WorkProgress, done: int) -> Iterator[list[Line]]:
    for lines in trace:
        progress.update(done + trace.bytes_read)
        yield lines
