"""Appends lines to the newest segment of the journal, begins the next one, deletes the oldest."""

import logging
import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

from ecustream.publish.journal_folder import segment_name
from ecustream.publish.journal_index import Index, Segment
from ecustream.publish.journal_sync import DiskSync

__all__ = ["SegmentWriter"]

# Segments are deleted whole, so at least seven eighths of what is allowed are held.
SEGMENTS = 8
# A service that dies at every start would else fill memory with runs that have no event.
MAX_SPANS = 8000
WRITE_BYTES = 1 << 20

_log = logging.getLogger(__name__)

Line = tuple[int | None, bytes]


class SegmentWriter:
    """Keeps all segments together within `max_bytes` and, by the wall clock, within `max_age_ns`.

    What is written is entered in the index. `error` is why the last `write` ended early, else None.

    Args:
        folder: where the segments stand.
        segments: those that are there, oldest first; is kept up to date.
        resume: whether the last of them may be written on.
        index: where their events stand.
        max_bytes: limit of all segments in sum.
        max_age_ns: a segment is deleted when its last line is older.
        clock_ns: wall clock.
    """

    def __init__(
        self,
        folder: Path,
        segments: list[Segment],
        resume: bool,
        index: Index,
        max_bytes: int,
        max_age_ns: int,
        clock_ns: Callable[[], int],
    ) -> None:
        self.error: OSError | None = None
        self.segments = segments
        self.sync = DiskSync()
        self._folder = folder
        self._resume = resume
        self._index = index
        self._max_bytes = max_bytes
        self._max_age_ns = max_age_ns
        self._clock_ns = clock_ns
        self._descriptor: int | None = None

    def write(self, run: str, lines: Sequence[Line]) -> int:
        """Writes lines of `run`, each with its `seq` (None: start of the run); returns how many are whole."""
        self.error = None
        done = 0
        try:
            while done < len(lines) and self.error is None:
                descriptor = self._ready(len(lines[done][1]))
                part = self._fitting(lines, done)
                self._make_room(sum(len(line) for _, line in part))
                done += self._write_part(descriptor, run, part)
        except OSError as error:
            self.error = error
        return done

    def close(self) -> None:
        """Waits until what is written is on the disk."""
        self._seal()
        self.sync.close()

    def _ready(self, line_bytes: int) -> int:
        """The descriptor of a segment that has room for a line."""
        if self._descriptor is not None and os.fstat(self._descriptor).st_nlink == 0:
            self._seal()
            _log.warning("%s: was deleted by somebody, and the events in it with it", self.segments[-1].path)
            self._forget(self.segments[-1])
        if self._descriptor is None and self._resume:
            self._descriptor = os.open(self.segments[-1].path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        if self._descriptor is not None and self._is_full(self.segments[-1], line_bytes):
            self._seal()
        if self._descriptor is None:
            self._descriptor = self._create()
        return self._descriptor

    def _is_full(self, segment: Segment, line_bytes: int) -> bool:
        return segment.size_bytes > 0 and (
            segment.size_bytes + line_bytes > self._max_bytes // SEGMENTS
            or len(segment.spans) >= MAX_SPANS // SEGMENTS
            or self._clock_ns() - segment.created_ns >= self._max_age_ns // SEGMENTS
        )

    def _create(self) -> int:
        now_ns = self._clock_ns()
        number = self.segments[-1].number + 1 if self.segments else 1
        path = self._folder / segment_name(number, now_ns)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self.segments.append(Segment(path, number, now_ns))
        self.sync.finished(os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        return descriptor

    def _seal(self) -> None:
        if self._descriptor is not None:
            self.sync.finished(self._descriptor)
        self._descriptor, self._resume = None, False

    def _fitting(self, lines: Sequence[Line], begin: int) -> Sequence[Line]:
        """The lines from `begin` that go into the segment with one call; at least one."""
        room_bytes = min(WRITE_BYTES, self._max_bytes // SEGMENTS - self.segments[-1].size_bytes)
        end = begin
        while end < len(lines) and (end == begin or len(lines[end][1]) <= room_bytes):
            room_bytes -= len(lines[end][1])
            end += 1
        return lines[begin:end]

    def _make_room(self, more_bytes: int) -> None:
        too_old_ns = self._clock_ns() - self._max_age_ns
        while len(self.segments) > 1 and (
            sum(segment.size_bytes for segment in self.segments) + more_bytes > self._max_bytes
            or sum(len(segment.spans) for segment in self.segments) > MAX_SPANS
            or self.segments[0].written_ns < too_old_ns
        ):
            self.segments[0].path.unlink(missing_ok=True)
            self._forget(self.segments[0])

    def _forget(self, segment: Segment) -> None:
        self._index.drop(segment)
        self.segments.remove(segment)

    def _write_part(self, descriptor: int, run: str, part: Sequence[Line]) -> int:
        """Writes lines at once; returns how many are whole, and takes back half a one."""
        segment = self.segments[-1]
        data = memoryview(b"".join(line for _, line in part))
        ends = list(accumulate(len(line) for _, line in part))
        sent = 0
        try:
            while sent < len(data):
                sent += os.write(descriptor, data[sent:])
        except OSError as error:
            self.error = error
        count = bisect_right(ends, sent)
        for (seq, line), end in zip(part[:count], ends, strict=False):
            end += segment.size_bytes
            self._index.add(segment, run, seq, end - len(line), end)
        segment.size_bytes += ends[count - 1] if count else 0
        segment.written_ns = self._clock_ns()
        self.sync.written(descriptor)
        if self.error is not None:
            self._take_back(descriptor, segment.size_bytes)
        return count

    def _take_back(self, descriptor: int, size_bytes: int) -> None:
        try:
            os.ftruncate(descriptor, size_bytes)
        except OSError:
            self._seal()  # the next line begins a new segment, what is torn stands at this one's end
