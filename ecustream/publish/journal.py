"""The journal: published events on disk, so that a replay reaches over a restart.

Guarantees. An event is in the page cache before it is sent, so whatever a subscriber saw is there after
kill -9. It is on the disk itself about a second later, so a power cut may take the last second, and then
even the knowledge that these events were. Likewise a process that is killed while the journal is `degraded`
leaves no trace of the events that it could not write. See `journal_records` for the format of the files.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ecustream.publish.journal_folder import lock, read_back
from ecustream.publish.journal_index import Index, Page, RunRange
from ecustream.publish.journal_records import pack, run_start
from ecustream.publish.journal_writer import SegmentWriter
from ecustream.publish.messages import JournalStatus

__all__ = ["Journal"]

RETRY_NS = 1_000_000_000

_log = logging.getLogger(__name__)


class Journal:
    """The folder in which the events of several runs stand, oldest deleted first; for one thread.

    A write error (disk full) is never raised: the journal is degraded, and `status` says why. The caller
    tries again when it is `due`, with all that it still holds above `seq`.

    Args:
        folder: is made if need be; no second process may have it.
        max_bytes: no more than that stands in the folder.
        max_age_s: events are deleted some time (up to an eighth) after that age, by the wall clock.
        clock_ns: the wall clock, in nanoseconds since 1970.

    Raises:
        OutputError: the folder cannot be used, or another process has it.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        max_bytes: int,
        max_age_s: float,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.folder = Path(folder)
        self.run = ""
        self.seq = 0
        self._clock_ns = clock_ns
        self._header: bytes | None = None
        self._journalled = 0
        self._write_errors = 0
        self._problem: str | None = None
        self._failed_ns = 0
        self._index = Index()
        self._lock = lock(self.folder)
        try:
            found = read_back(self.folder, self._index)
        except BaseException:
            os.close(self._lock)
            raise
        self._torn, self._damaged = found.torn, found.damaged
        self._writer = SegmentWriter(
            self.folder,
            found.segments,
            found.writable,
            self._index,
            max_bytes,
            round(max_age_s * 1e9),
            clock_ns,
        )

    def begin(self, run: str) -> None:
        """From now on events of `run` are appended; what an earlier run of that name left is forgotten."""
        self.run, self.seq, self._journalled = run, 0, 0
        self._index.forget(run)
        self._header = run_start(run, self._clock_ns())
        self.append([])

    @property
    def due(self) -> bool:
        """Whether `append` makes sense: not for a second after a failure, since a disk may fail slowly."""
        return self._problem is None or abs(self._clock_ns() - self._failed_ns) >= RETRY_NS

    def append(self, events: Sequence[tuple[int, bytes]]) -> None:
        """Writes events of the run; afterwards `seq` is the last one that is written.

        Args:
            events: `seq` and JSON of each, rising by one, the first above `self.seq`.
        """
        lines: list[tuple[int | None, bytes]] = [(seq, pack(body)) for seq, body in events]
        if self._header is not None:
            lines.insert(0, (None, pack(self._header)))
        if not lines:
            return
        count = self._writer.write(self.run, lines)
        if count:
            self.seq = lines[count - 1][0] or 0
            self._journalled += count - (self._header is not None)
            self._header = None
        self._note(self._writer.error, events)

    def runs(self) -> list[RunRange]:
        """What is held of each run, oldest run first."""
        return self._index.runs()

    def oldest_without_gap(self) -> int | None:
        """From which event on everything of this run is held, up to `seq`; None where nothing is."""
        return self._index.oldest_without_gap(self.run)

    def page(self, run: str, after: int, max_events: int, max_bytes: int) -> Page:
        """The events of `run` that follow event `after`, as many as belong into one answer."""
        return self._index.page(run, after, max_events, max_bytes)

    def status(self, newest: int) -> JournalStatus:
        """Counters, and why the journal is degraded; may be called from any thread.

        Args:
            newest: `seq` of the last event of the run.
        """
        return JournalStatus(
            journalled=self._journalled,
            missing=newest - self._journalled,
            torn=self._torn,
            damaged=self._damaged,
            write_errors=self._write_errors + self._writer.sync.failures,
            size_bytes=sum(segment.size_bytes for segment in tuple(self._writer.segments)),
            problem=self._problem or self._writer.sync.problem,
        )

    def close(self) -> None:
        """Waits until what is written is on the disk, and unlocks the folder."""
        self._writer.close()
        os.close(self._lock)

    def _note(self, error: OSError | None, events: Sequence[tuple[int, bytes]]) -> None:
        """One log line when the journal fails, one when it goes on."""
        if error is not None:
            self._write_errors += 1
            self._failed_ns = self._clock_ns()
            if self._problem is None:
                _log.warning("%s: events are not journalled for now: %s", self.folder, error.strerror)
            self._problem = f"{self.folder}: {error.strerror}"
        elif self._problem is not None:
            missing = events[-1][0] - self._journalled if events else 0
            _log.warning("%s: events are journalled again, %d are missing", self.folder, missing)
            self._problem = None
