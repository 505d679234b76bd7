"""Captures on a network interface for as long as it is wanted, through outages and clock steps."""

import errno
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal

from ecustream.capture.accounts import MAX_LOSSES
from ecustream.capture.afpacket import RETIRE_MS
from ecustream.capture.backends import Backend, open_source
from ecustream.capture.breaks import Break, Reached
from ecustream.capture.clock_steps import ClockSteps
from ecustream.capture.frame_source import FrameSource, Taken
from ecustream.capture.nic import index_of, is_up, name_of, names
from ecustream.capture.outages import Link, Sight
from ecustream.errors import ConfigError
from ecustream.ledger import Ledger
from ecustream.traffic import Frame
from ecustream.units import duration

__all__ = ["LiveCapture"]

MARGIN_NS = 5 * RETIRE_MS * 1_000_000
"""A frame that came so long ago was handed over."""

_POLL_MS = 20
_LOOK_NS = 1_000_000_000
_LOOK_AGAIN_NS = 200_000_000


class LiveCapture:
    """The frames of an interface in batches, and the breaks between them, until `stop`.

    The ring is there at once, so that all that can be refused is refused here; frames are taken from when
    the iteration begins. Every frame is entered into the ledger: those that are handed on are ended by
    whoever decodes them, those that the kernel dropped are ended here.

    Args:
        interface: its name.
        ledger: of the frames.
        source: name for the frames' bus; by default the interface's.
        ring_bytes: how much the kernel may hold.
        promiscuous: see `PacketRing`.
        outgoing: see `PacketRing`.
        say: is told a sentence when an outage begins, when it is over, when the clock was set, and at once
            of what the back end cannot do.
        backend: what captures: `afpacket`, `scapy`, or the first where the system has it.
        clocks: notices steps of the capture's clock.
        beat: is called once each round, at least every 100 ms, also while nothing comes and in an outage,
            but not while whoever takes the frames holds them; for a watchdog.

    Attributes:
        losses: as in `CaptureReader`: (frame number, count) where the kernel dropped so many before that one.
        reached: how far it is; anyone may read it.
        bytes_read: bytes of the frames so far.

    Raises:
        ConfigError: capture is not possible: no such interface, no right, no memory.
    """

    def __init__(
        self,
        interface: str,
        ledger: Ledger,
        *,
        source: str | None = None,
        ring_bytes: int = 64 << 20,
        promiscuous: bool = True,
        outgoing: bool = True,
        say: Callable[[str], None] = lambda sentence: None,
        backend: Backend = "auto",
        clocks: ClockSteps | None = None,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.interface = interface
        self.source = source or interface
        self.losses: deque[tuple[int, int]] = deque(maxlen=MAX_LOSSES)
        self.reached = Reached(0, 0)
        self.bytes_read = 0
        self._ledger = ledger
        self._ring_bytes = ring_bytes
        self._promiscuous = promiscuous
        self._outgoing = outgoing
        self._say = say
        self._clocks = clocks or ClockSteps(MARGIN_NS)
        self._beat = beat
        self._backend = backend
        self._number = 1
        self._ailment: Literal["down", "gone"] | None = None
        self._was_gone = False
        self._ailing_since_ns = 0
        self._look_ns = 0
        self._started = self._stopped = False
        index = index_of(interface)
        if index is None:
            raise ConfigError(f"interface {interface} does not exist; there are: {', '.join(names())}")
        self._link = Link(interface, index)
        self._refused = ""
        self._ring: FrameSource | None = None
        try:
            self._ring = self._open(index)
        except OSError as error:
            # Of an interface that is down, the kernel's ring can be had, scapy's socket cannot.
            if error.errno != errno.ENETDOWN:
                raise ConfigError(f"interface {interface}: {error.strerror or error}") from None
            self._link.index = None
        if self._ring is not None and self._ring.limits:
            say(f"interface {interface}: {self._ring.limits}")

    @property
    def trouble(self) -> str | None:
        """Why nothing can be captured at present; None where all is well."""
        return None if self._ailment is None else f"interface {self.interface} is {self._ailment}"

    def start(self) -> None:
        """Capture from now on, though nobody may take it yet; once, before the iteration begins."""
        self._started = True
        if self._ring is not None:
            with suppress(OSError):  # it has just gone away, as the first look will find out
                self._ring.start()

    def stop(self) -> None:
        """Capture no more: the iteration ends with what came until now. A signal handler may call it."""
        self._stopped = True

    def close(self) -> None:
        """Give the ring back."""
        if self._ring is not None:
            self._give_back(self._ring)

    def __iter__(self) -> Iterator[list[Frame] | Break]:
        if not self._started:
            self.start()
        while not self._stopped:
            self._beat()
            before_ns, breaks = self._clocks.wall_ns, self.reached.breaks
            troubled_ns = self._wait()
            taken = Taken([], [], True) if self._ring is None else self._take(self._ring)
            yield from self._in_order(taken)
            if taken.owing and self._ring is not None:
                yield from self._overdue(self._ring)
            if troubled_ns or time.monotonic_ns() >= self._look_ns:
                yield from self._look(troubled_ns)
            steady = breaks == self.reached.breaks and not self._clocks.pending and self._ailment is None
            # What was dropped is no silence: time goes on when that is told.
            if taken.complete and not taken.owing and steady:
                self.reached = Reached(before_ns - MARGIN_NS, breaks)
        if self._ring is not None:
            yield from self._rest(self._ring)
        if self._ailment is not None:
            lasted = duration(time.monotonic_ns() - self._ailing_since_ns)
            self._ledger.note("capture_outages")
            why = f"interface {self.interface} was {self._ailment} at the end, for {lasted} by then"
            yield self._break(self._clocks.wall_ns, why)

    # Frames.

    def _wait(self) -> int:
        """Wait a little for frames; when the interface went down, by the steady clock, or 0."""
        if self._ring is None:
            time.sleep(_POLL_MS / 1e3)
            return 0
        if not self._ring.wait(_POLL_MS):
            return 0
        since_ns = time.monotonic_ns()
        # What came before is handed over by then.
        time.sleep(2 * RETIRE_MS / 1e3)
        return since_ns

    def _take(self, ring: FrameSource) -> Taken:
        taken = ring.frames(self._number, self.source)
        for number, count in taken.losses:
            self._lose(count, number)
        self._number += len(taken.frames)
        self.bytes_read += sum(len(frame.data) for frame in taken.frames)
        return taken

    def _overdue(self, ring: FrameSource) -> Iterator[Break]:
        """Tell of what was dropped last although no frame follows: time goes on, and not without a gap."""
        count = ring.overdue_loss()
        if count:
            self._count_lost(count)
            yield self._break(self._clocks.wall_ns, f"the capture lost {count:,} frames")

    def _handed_on(self, frames: list[Frame]) -> list[Frame]:
        # Not before: whoever takes them may want no more after the first part of a batch.
        self._ledger.enter("frames", len(frames))
        return frames

    def _lose(self, count: int, number: int) -> None:
        if count:
            self._count_lost(count)
            self.losses.append((number, count))

    def _count_lost(self, count: int) -> None:
        self._ledger.enter("frames", count)
        self._ledger.end("frames", "kernel_dropped", count)

    def _in_order(self, taken: Taken) -> Iterator[list[Frame] | Break]:
        """The frames, with breaks where an outage is over and where the clock was set."""
        frames = taken.frames
        if frames and self._ailment is not None:
            yield self._recovered(frames[0].time_ns)
        before, step, after = self._clocks.place(frames, taken.complete)
        if before:
            yield self._handed_on(before)
        if step is not None:
            self._say(f"interface {self.interface}: {step}")
            yield self._break(after[0].time_ns if after else self._clocks.wall_ns, str(step))
        if after:
            yield self._handed_on(after)

    def _rest(self, ring: FrameSource) -> Iterator[list[Frame] | Break]:
        """What came until now; then the ring is given back."""
        ring.finish()
        time.sleep(3 * RETIRE_MS / 1e3)
        complete = False
        while not complete:
            self._beat()
            taken = self._take(ring)
            complete = taken.complete
            yield from self._in_order(taken)
        self._give_back(ring)

    def _break(self, time_ns: int, why: str) -> Break:
        self.reached = Reached(0, self.reached.breaks + 1)
        return Break(time_ns, self.source, why)

    # The interface.

    def _look(self, troubled_ns: int) -> Iterator[list[Frame] | Break]:
        """See how the interface is: once a second, more often during an outage, and when it went down."""
        if self._ring is not None and not self._ring.is_bound:
            # It may be back already, with the same name and index; this ring is dead.
            self._link.index = None
        index = self._link.index
        name = None if index is None else name_of(index)
        known_as = self._link.known_as
        sight = Sight(index_of(self.interface), name, name is not None and is_up(name))
        ailment = self._link.look(sight)
        if self._link.known_as != known_as:
            self._say(f"interface {known_as} is now called {self._link.known_as}; it is captured on")
        if ailment in ("gone", "replaced") and self._ring is not None:
            yield from self._rest(self._ring)
            self._link.index = None
        if ailment is not None:
            off = ailment == "down" or (sight.named is not None and not is_up(self.interface))
            self._ail("down" if off else "gone", troubled_ns)
        elif troubled_ns:
            self._ail("down", troubled_ns)  # and up again by now
        if ailment is None and self._ailment is not None:
            yield self._recovered(self._clocks.wall_ns)
        if ailment == "replaced" and sight.named is not None:
            self._reopen(sight.named)
        wait_ns = _LOOK_NS if self._ailment is None else _LOOK_AGAIN_NS
        self._look_ns = time.monotonic_ns() + wait_ns

    def _ail(self, ailment: Literal["down", "gone"], since_ns: int) -> None:
        if self._ailment is None:
            self._ailing_since_ns = since_ns or time.monotonic_ns()
            self._was_gone = False
            self._say(f"interface {self.interface} is {ailment}; capture goes on when it is back")
        self._ailment = ailment
        self._was_gone |= ailment == "gone"

    def _recovered(self, time_ns: int) -> Break:
        lasted = duration(time.monotonic_ns() - self._ailing_since_ns)
        why = f"interface {self.interface} was {'gone' if self._was_gone else 'down'} for {lasted}"
        self._say(f"{why}; capture goes on")
        self._ledger.note("capture_outages")
        self._ailment = None
        return self._break(time_ns, why)

    def _open(self, index: int) -> FrameSource:
        return open_source(
            self._backend,
            index,
            self.interface,
            self._ring_bytes,
            promiscuous=self._promiscuous,
            outgoing=self._outgoing,
        )

    def _reopen(self, index: int) -> None:
        """Capture on the interface that has the name now; the next look says how it is."""
        try:
            ring = self._open(index)
            ring.start()
        except OSError:
            # It went away again, or is not up yet: the outage goes on.
            return
        except ConfigError as error:
            if str(error) != self._refused:
                self._refused = str(error)
                self._say(f"{error}; it is tried again")
            return
        self._link.index, self._ring, self._refused = index, ring, ""

    def _give_back(self, ring: FrameSource) -> None:
        self._lose(ring.left_dropped(), self._number)
        ring.close()
        self._ring = None
