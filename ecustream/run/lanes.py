"""A lane: one stream of traffic on its way to the scorer, read by a thread of its own."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from ecustream.capture.breaks import Break, Reached
from ecustream.ledger import Ledger
from ecustream.run.gaps import split_at_gaps
from ecustream.run.replay import Pacer
from ecustream.run.ring import Ring, RingCancelled
from ecustream.traffic import Line

__all__ = ["Lane", "LineSource"]

_LONGEST_END_S = 2.0
"""A reader that was cancelled ends after its batch, or never, where it waits for a silent pipe."""


class LineSource(Protocol):
    """Where the lines of a lane come from, in batches and once, such as `TraceLines`.

    Attributes:
        losses: (frame number, count) where so many frames were lost just before that one; taken away here.
    """

    losses: deque[tuple[int, int]]

    @property
    def damage(self) -> list[str]:
        """Sentences on what could not be read so far."""

    @property
    def total_bytes(self) -> int | None:
        """How much there is to read; None where whoever writes it goes on, as with a pipe."""

    @property
    def bytes_read(self) -> int:
        """How much of it was read."""

    def __iter__(self) -> Iterator[list[Line]]:
        """The lines."""

    def breaks_up_to(self, number: int) -> list[tuple[int, str]]:
        """(number of the line after it, why) of interruptions up to that line; each is given once."""

    def close(self) -> None:
        """Read no more."""


class Lane:
    """Reads a source into a ring, paced where a pacer is given.

    Until `go`, it holds one batch at most: to read while the scorer is being loaded would only slow that
    down, and a replay begins when there is somebody to watch it.

    Args:
        name: what to call it, different from that of any other lane.
        source: where the lines come from.
        ring: where they wait.
        pacer: holds them back until they are due; None hands them on as fast as they are taken.
        ledger: where everything ends that comes in on this lane.

    Attributes:
        bus: the bus that must be heard on it; None where that shows only in its lines.
    """

    bus: str | None = None

    def __init__(
        self, name: str, source: LineSource, ring: Ring, pacer: Pacer | None, ledger: Ledger
    ) -> None:
        self.name = name
        self.source = source
        self.ring = ring
        self.ledger = ledger
        self._pacer = pacer
        self._go = threading.Event()
        self._stopped = self._cancelled = False
        self._last_ns = 0
        self._thread = threading.Thread(target=self._read, name=f"capture {name}", daemon=True)

    @property
    def passed_ns(self) -> int:
        """Capture time up to which every line is in the ring or was taken; 0 where that is not known."""
        return 0 if self._pacer is None else self._pacer.passed_ns

    @property
    def reached(self) -> Reached:
        """`passed_ns`, and the breaks before it; to be asked before lines are taken."""
        return Reached(self.passed_ns, 0)

    @property
    def trouble(self) -> str | None:
        """Why nothing can come at present; None where all is well."""
        return None

    @property
    def late_ns(self) -> int:
        """Wall time by which lines come later than they should."""
        return 0 if self._pacer is None or self.ring.waiting().ended else self._pacer.late_ns

    @property
    def late_capture_ns(self) -> int:
        """Capture time that passed in `late_ns`."""
        return 0 if self._pacer is None else round(self.late_ns * self._pacer.speed)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def go(self) -> None:
        """Somebody takes the lines from now on."""
        self._go.set()

    def stop(self) -> None:
        """Read no more; what was read can still be taken."""
        self._stopped = True
        # The pacer hands on the rest of its batch at once, which a ring that skips would have no room for.
        self.ring.keep()
        if self._pacer is not None:
            self._pacer.cancel()

    def cancel(self) -> None:
        """Read no more, and drop what was read."""
        self._cancelled = True
        self.stop()
        self.ring.cancel()
        self._go.set()

    def close(self) -> None:
        """Wait for the end of reading; everything read is in the ledger then.

        After `cancel`, a reader that waits for a silent pipe is left behind, to end with the process.
        """
        self._thread.join(_LONGEST_END_S if self._cancelled else None)
        if not self._thread.is_alive():
            self.source.close()

    def passed(self, reached: Reached) -> tuple[list[Break], int]:
        """What has happened on a lane of which no line waited after `reached` was asked.

        Returns:
            Its breaks until then, which no line has told of; and the capture time until then, or 0.
        """
        return [], reached.time_ns

    def pieces(self, lines: list[Line], skipped: int) -> list[tuple[list[Line], str]]:
        """Lines taken from the ring in pieces, each with why it does not follow the one before, or empty."""
        broken = self._breaks_up_to(lines[-1].number)
        pieces = split_at_gaps(lines, self.source.losses, self._last_ns, skipped, broken)
        for part, gap in pieces:
            before_ns = part[0].time_ns if gap else self._last_ns
            self._last_ns = max(before_ns, part[-1].time_ns)
        return pieces

    def _breaks_up_to(self, number: int) -> list[tuple[int, str]]:
        """The breaks before the line with that number, to be told with it."""
        return self.source.breaks_up_to(number)

    def _read(self) -> None:
        held = 0
        try:
            for batch, waited_s in self._batches():
                if self._pacer is None:
                    self.ring.put(batch)
                    self._go.wait()
                else:
                    held = len(batch)
                    self._go.wait()
                    for part in self._pacer.paced(batch, waited_s):
                        held -= len(part)
                        self.ring.put(part)
                if self._stopped:
                    break
        except RingCancelled:
            if held:
                self.ledger.end("lines", "unscored", held, reason="cancelled")
        except BaseException as error:  # the thread's root: the scoring thread raises it again
            self.ring.fail(error)
            return
        self.ring.close()

    def _batches(self) -> Iterator[tuple[list[Line], float]]:
        """The source's batches, each with the wall time (s) for which a writer let the source wait."""
        batches = iter(self.source)
        while True:
            # What decoding takes of that time is not the writer's.
            began_s = time.monotonic() - time.thread_time()
            batch = next(batches, None)
            if batch is None:
                return
            waited_s = time.monotonic() - time.thread_time() - began_s
            yield batch, 0.0 if self.source.total_bytes is not None else max(0.0, waited_s)
