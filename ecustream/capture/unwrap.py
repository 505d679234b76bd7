"""Unwraps what loggers have recorded: frames of a bus that come within frames of the logger's own."""

from collections import deque
from collections.abc import Mapping

import msgspec

from ecustream.capture.accounts import MAX_LOSSES
from ecustream.capture.breaks import Break
from ecustream.capture.carriers import (
    CARRIER,
    PLP,
    SNAP_LENGTH,
    TIME,
    Carrier,
    Entry,
    candidates,
    find_payload,
)
from ecustream.capture.cmp import CmpParser
from ecustream.capture.logger_clocks import LoggerClocks
from ecustream.capture.logger_counters import BACK, LoggerCounters
from ecustream.capture.reorder import WINDOW_NS, Reorder
from ecustream.capture.tecmp import parse_tecmp
from ecustream.ledger import Ledger
from ecustream.traffic import Frame

__all__ = ["MAX_BUSES", "Unwrapper"]

MAX_BUSES = 4096
"""So many inputs of loggers get names of their own; more are damage."""

_ETHERNET = 1
_USER_DEFINED = 0xFF
_Piece = list[Frame] | Break


class Unwrapper:
    """Takes the frames of one capture and gives those of the buses, in the order of their times.

    As long as no frame of a logger has come, frames are only passed on. A frame of a logger ends here:
    `filtered{logger_carrier}` where it carries recordings, else by what it is. Each recording is entered in
    the book `frames` beside it: an Ethernet frame is handed on and ended by whoever decodes it, others end
    here as `filtered{logger_can}` and so on. It has the number of the frame that carried it, the logger's
    own time, and the name of its bus.

    Args:
        ledger: where frames are counted.
        losses: of the capture, as in `CaptureReader`; they are taken away here.
        buses: interface id (decimal or 0x…) to name of the bus; others are named by capture and interface,
            such as `eth1/0x1001`.

    Attributes:
        losses: of the capture and of the loggers together, for whoever reads on; how much a logger has lost
            that says no more than that it has is 1.
        active: a frame of a logger has come.
    """

    def __init__(
        self,
        ledger: Ledger,
        losses: deque[tuple[int, int]],
        buses: Mapping[str, str] | None = None,
    ) -> None:
        self._ledger = ledger
        self._capture_losses = losses
        self._buses = {int(key, 0): name for key, name in (buses or {}).items()}
        self._names: dict[tuple[str, int], str] = {}
        self._cmp = CmpParser()
        self._counters = LoggerCounters()
        self._clocks = LoggerClocks()
        self._order = Reorder(ledger)
        self._dropped = 0
        self._dropped_before: dict[int, int] = {}
        self._overflowed: set[int] = set()
        self._settled = False
        self.losses: deque[tuple[int, int]] = deque(maxlen=MAX_LOSSES)
        self.active = False

    @property
    def reached_ns(self) -> int:
        """By the clock of the loggers: up to then everything was handed on; 0 where that is not known."""
        return self._order.reached_ns if self._settled else 0

    def unwrap(self, frames: list[Frame]) -> list[_Piece]:
        """The next frames, and the breaks where what comes is by another clock than before."""
        if not self.active and not candidates(frames):
            if frames:
                self._take_losses(frames[-1].number)
            return [frames]
        pieces: list[_Piece] = []
        ready: list[Frame] = []
        for frame in frames:
            self._take_losses(frame.number)
            found = find_payload(frame)
            if found is None:
                ready.append(self._ordinary(frame) if self.active else frame)
                continue
            self.active = True
            carrier = self._parse(frame, *found)
            why = self._look_at_clock(frame, carrier)
            if why is not None:
                pieces += [self._order.put(ready) + self._order.flush(), self._step(frame, carrier, why)]
                ready = []
            ready += self._recorded(frame, carrier)
        return [*pieces, self._order.put(ready) if self.active else ready]

    def interrupt(self, broken: Break) -> list[_Piece]:
        """The capture was interrupted: what waits comes before that, and clocks may not be what they were."""
        if not self.active:
            return [broken]
        self._settled = False
        return [self._order.flush(), broken._replace(time_ns=self._clocks.time(None, broken.time_ns))]

    def passed(self, capture_ns: int) -> list[Frame]:
        """The frames whose turn it is although nothing newer came.

        Args:
            capture_ns: by the capture's clock: up to then everything was given to `unwrap`.
        """
        if not self._settled:
            return []
        return self._order.release(self._clocks.passed(capture_ns) - WINDOW_NS)

    def flush(self) -> list[Frame]:
        """End of the input: all that still waits."""
        for entry in self._cmp.flush():
            self._end(entry)
        return self._order.flush()

    def abandon(self) -> None:
        """Nobody wants more: what still waits ends as `filtered{logger_abandoned}`."""
        left = len(self.flush())
        if left:
            self._ledger.end("frames", "filtered", left, reason="logger_abandoned")

    # One carrier.

    def _parse(self, frame: Frame, kind: int, at: int) -> Carrier:
        """Read the carrier, end it, and tell what the logger has lost."""
        first = frame.data[at] if at < len(frame.data) else 0
        # TECMP begins with a device id, of which the first byte is 0 or 0xff; CMP with its version, above 0.
        if kind == PLP or first in (0, _USER_DEFINED):
            carrier = parse_tecmp(frame.data, at, frame.wire_length)
        else:
            carrier = self._cmp.parse(frame.data, at, frame.wire_length)
        end = carrier.end
        if end == CARRIER and frame.wire_length > len(frame.data) and not _tells_of_cut(carrier):
            # What was cut off may have been recordings, of which nothing is left to tell.
            end = SNAP_LENGTH
        self._ledger.end("frames", end.kind, reason=end.reason)
        if carrier.device is not None:
            self._count_losses(frame.number, carrier.device, carrier)
        return carrier

    def _count_losses(self, number: int, device: int, carrier: Carrier) -> None:
        missing = self._counters.missing(carrier.counter, carrier.series)
        dropped = self._dropped - self._dropped_before.get(device, self._dropped)
        self._dropped_before[device] = self._dropped
        if missing == BACK:
            self._ledger.note("logger_counter_set_back")
            missing = 0
        # What the capture itself has lost is told already.
        missing = max(0, missing - dropped)
        if missing:
            self._ledger.note("logger_messages_lost", missing)
        overflows = carrier.overflows
        if carrier.overflowed and device not in self._overflowed:
            overflows += 1
        (self._overflowed.add if carrier.overflowed else self._overflowed.discard)(device)
        if overflows:
            self._ledger.note("logger_overflows", overflows)
        if missing or overflows:
            self.losses.append((number, missing + overflows))

    def _look_at_clock(self, frame: Frame, carrier: Carrier) -> str | None:
        times_ns = _times_ns(carrier)
        if carrier.device is None or not times_ns:
            return None
        self._settled = True
        return self._clocks.see(carrier.device, frame.time_ns, max(times_ns))

    def _step(self, frame: Frame, carrier: Carrier, why: str) -> Break:
        """From this carrier on times are by another clock than before."""
        self._ledger.note("logger_clock_steps")
        return Break(self._clocks.time(carrier.device, min(_times_ns(carrier))), frame.source, why)

    def _recorded(self, frame: Frame, carrier: Carrier) -> list[Frame]:
        """The Ethernet frames in a carrier; the other recordings end."""
        frames = []
        for entry in carrier.entries:
            if entry.end is not None:
                self._end(entry)
                continue
            self._ledger.enter("frames")
            name = self._name(frame.source, entry.interface)
            time_ns = self._clocks.time(carrier.device, entry.time_ns)
            frames.append(Frame(frame.number, time_ns, name, _ETHERNET, entry.data, entry.wire_length))
        return frames

    def _end(self, entry: Entry) -> None:
        if entry.end is not None:
            self._ledger.enter("frames")
            self._ledger.end("frames", entry.end.kind, reason=entry.end.reason)

    def _name(self, source: str, interface: int) -> str:
        name = self._names.get((source, interface))
        if name is None:
            if len(self._names) >= MAX_BUSES:
                self._names.clear()
            name = self._buses.get(interface, f"{source}/{interface:#x}")
            self._names[source, interface] = name
        return name

    # Everything else.

    def _ordinary(self, frame: Frame) -> Frame:
        time_ns = self._clocks.time(None, frame.time_ns)
        return frame if time_ns == frame.time_ns else msgspec.structs.replace(frame, time_ns=time_ns)

    def _take_losses(self, number: int) -> None:
        """Pass on what the capture has lost before this frame."""
        losses = self._capture_losses
        while losses and losses[0][0] <= number:
            lost = losses.popleft()
            self._dropped += lost[1]
            self.losses.append(lost)


def _tells_of_cut(carrier: Carrier) -> bool:
    return any(entry.end == SNAP_LENGTH for entry in carrier.entries)


def _times_ns(carrier: Carrier) -> list[int]:
    """Of its recordings, as far as they have a time."""
    return [entry.time_ns for entry in carrier.entries if entry.end != TIME]
