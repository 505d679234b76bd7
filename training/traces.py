"""Traces that are read again and again, with a progress bar over all of them."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from ecustream.decode.names import NameTable
from ecustream.decode.state import ActivityState
from ecustream.errors import InputError
from ecustream.ledger import Ledger
from ecustream.progress import WorkProgress
from ecustream.run.gaps import split_at_gaps
from ecustream.run.source import TraceLines
from ecustream.traffic import Line

__all__ = ["Traces", "lines_between"]


class Traces:
    """Traces that can be read again and again.

    Args:
        paths: captures or CSV traces, each one drive.
        names: names of PDU ids.
        key: what "the same PDU" means.
        source: bus name to use instead of the traces' own.
        loggers: interface id to bus name for what loggers recorded, see `ecustream.capture.unwrap`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        names: NameTable | None,
        key: str = "stream",
        source: str | None = None,
        loggers: Mapping[str, str] | None = None,
    ) -> None:
        self.paths = list(paths)
        self.names = names
        self.key = key
        self.source = source
        self.loggers = loggers
        self.total_bytes = 0
        self._sha256: dict[Path, str] = {}
        for path in self.paths:
            if not path.is_file():
                why = "is not a file; training reads its traces more than once"
                raise InputError(f"{path}: {why if path.exists() else 'does not exist'}")
            self.total_bytes += path.stat().st_size

    def sha256(self, path: Path) -> str:
        """Digest of one of the files, computed once."""
        if path not in self._sha256:
            with path.open("rb") as file:
                self._sha256[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._sha256[path]

    def read(
        self, title: str, cycles_ns: dict[str, int] | None = None
    ) -> Iterator[tuple[int, Iterator[list[Line]]]]:
        """Each trace as (index, batches of lines); one that is damaged or has losses is refused.

        Args:
            title: of the progress bar.
            cycles_ns: cycles for the activity state; None leaves it at normal operation.

        Raises:
            InputError: it is damaged, or its logger lost frames, or that one's clock was set.
        """
        for index, trace, batches in self._open(title, cycles_ns):
            yield index, batches
            if trace.losses:
                # What was lost would be learned as intervals that are normal.
                lost, number = sum(count for _, count in trace.losses), trace.losses[0][0]
                raise InputError(
                    f"{self.paths[index]}: cannot train on it: the logger lost {lost:,} frames, the first "
                    f"before frame {number}"
                )
            if trace.breaks:
                number, why = trace.breaks[0]
                raise InputError(f"{self.paths[index]}: cannot train on it: {why}, before line {number}")

    def read_pieces(
        self, title: str, cycles_ns: dict[str, int] | None = None
    ) -> Iterator[tuple[int, Iterator[list[Line]]]]:
        """As `read`, but each trace is cut where it is interrupted; each piece has its trace's index.

        Raises:
            InputError: a trace is damaged.
        """
        for index, trace, batches in self._open(title, cycles_ns):
            for _, piece in groupby(_numbered(trace, batches), key=itemgetter(0)):
                yield index, map(itemgetter(1), piece)

    def _open(
        self, title: str, cycles_ns: dict[str, int] | None
    ) -> Iterator[tuple[int, TraceLines, Iterator[list[Line]]]]:
        done = 0
        with WorkProgress(title, self.total_bytes) as progress:
            for index, path in enumerate(self.paths):
                state = None if cycles_ns is None else ActivityState(cycles_ns=cycles_ns)
                lines = TraceLines(
                    path,
                    Ledger(),
                    names=self.names,
                    key=self.key,
                    source=self.source,
                    loggers=self.loggers,
                    state=state,
                )
                with closing(lines) as trace:
                    yield index, trace, _watched(trace, progress, done)
                    if trace.damage:
                        raise InputError(f"cannot train on a damaged trace: {trace.damage[0]}")
                done += path.stat().st_size


def lines_between(batches: Iterable[Sequence[Line]], first: int, stop: int) -> Iterator[Sequence[Line]]:
    """The lines first:stop of a trace's batches; it is read no further."""
    at = 0
    for lines in batches:
        wanted = lines[max(0, first - at) : max(0, stop - at)]
        at += len(lines)
        if wanted:
            yield wanted
        if at >= stop:
            return


def _watched(trace: TraceLines, progress: WorkProgress, done: int) -> Iterator[list[Line]]:
    for lines in trace:
        progress.update(done + trace.bytes_read)
        yield lines


def _numbered(trace: TraceLines, batches: Iterator[list[Line]]) -> Iterator[tuple[int, list[Line]]]:
    """Batches cut at gaps, each with the number of gaps before it."""
    number, last_ns = 0, 0
    for lines in batches:
        breaks = trace.breaks_up_to(lines[-1].number) if lines else []
        for part, gap in split_at_gaps(lines, trace.losses, last_ns, breaks=breaks):
            if gap:
                number += 1
                last_ns = 0
            yield number, part
            last_ns = max(last_ns, part[-1].time_ns)
