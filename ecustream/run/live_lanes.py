"""Opens the network interfaces of a run, each as a lane that goes on until it is stopped."""

import socket
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from ecustream.capture.breaks import Break, Reached
from ecustream.config import Config
from ecustream.decode.lines import LineBuilder
from ecustream.decode.packets import PacketDecoder
from ecustream.errors import ConfigError
from ecustream.knowledge import activity_state, names_for
from ecustream.ledger import Ledger
from ecustream.run.lanes import Lane
from ecustream.run.ring import Policy, Ring
from ecustream.scoring.manifest import BundleInfo
from ecustream.stages import StageClock
from ecustream.traffic import Line

if TYPE_CHECKING:
    from ecustream.capture.live import LiveCapture

__all__ = ["LiveLane", "LiveLines", "open_live_lanes"]


class LiveLines:
    """The lines of a live capture in batches, until it is stopped.

    Args:
        capture: where the frames come from.
        decoder: takes the frames apart.
        builder: makes lines of what is in them.
        clock: accounts for the time of capture and decode.

    Attributes:
        losses: as in `LiveCapture`.
        breaks: (number of the next line, the break) in order; taken away by whoever judges the lines. One is
            there before the lines after it are handed on, and after all before it were taken over.
    """

    def __init__(
        self, capture: "LiveCapture", decoder: PacketDecoder, builder: LineBuilder, clock: StageClock
    ) -> None:
        self.capture = capture
        self.losses = capture.losses
        self.breaks: deque[tuple[int, Break]] = deque()
        self._builder = builder
        self._lines = self._decoded(decoder, clock)

    @property
    def damage(self) -> list[str]:
        """Nothing: an interface has no damage."""
        return []

    @property
    def total_bytes(self) -> int | None:
        """None: it goes on."""
        return None

    @property
    def bytes_read(self) -> int:
        """Bytes captured so far."""
        return self.capture.bytes_read

    def __iter__(self) -> Iterator[list[Line]]:
        return self._lines

    def close(self) -> None:
        """Give the interface back; fragments that wait for their rest are counted as incomplete."""
        self._lines.close()
        self.capture.close()

    def _decoded(self, decoder: PacketDecoder, clock: StageClock) -> Generator[list[Line], None, None]:
        pieces = iter(self.capture)
        # flush() runs also where the consumer stops early, so that pending fragments end in the ledger.
        try:
            while True:
                with clock.stage("capture"):
                    piece = next(pieces, None)
                if piece is None:
                    return
                if isinstance(piece, Break):
                    self._builder.forget()
                    self.breaks.append((self._builder.count, piece))
                    continue
                with clock.stage("decode", len(piece)):
                    lines = self._builder.build(decoder.decode(piece))
                if lines:
                    yield lines
        finally:
            decoder.flush()


class LiveLane(Lane):
    """A lane of an interface: it reads from `go` on, and its time passes although nothing comes.

    Args:
        lines: of the interface.
        ring: see `Lane`.
        ledger: see `Lane`.
    """

    def __init__(self, lines: LiveLines, ring: Ring, ledger: Ledger) -> None:
        super().__init__(lines.capture.interface, lines, ring, None, ledger)
        self._live = lines
        self._breaks_taken = 0

    @property
    def reached(self) -> Reached:
        """Capture time up to which every line is in the ring or was taken, and breaks before that."""
        return self._live.capture.reached

    @property
    def passed_ns(self) -> int:
        """As in `reached`."""
        return self.reached.time_ns

    @property
    def trouble(self) -> str | None:
        """Why nothing can be captured at present; None where all is well."""
        return self._live.capture.trouble

    def stop(self) -> None:
        """Capture no more; what came until now can still be taken."""
        # Reading goes on to the end of what was captured, which `_stopped` would cut off.
        self.ring.keep()
        self._live.capture.stop()

    def passed(self, reached: Reached) -> tuple[list[Break], int]:
        """See `Lane`."""
        due = []
        while self._breaks_taken < reached.breaks:
            due.append(self._live.breaks.popleft()[1])
            self._breaks_taken += 1
            self._last_ns = due[-1].time_ns
        # With the lines of the last pass there may have come breaks that are newer than `reached`.
        return due, reached.time_ns if reached.breaks == self._breaks_taken else 0

    def _breaks_up_to(self, number: int) -> list[tuple[int, str]]:
        breaks, told = self._live.breaks, []
        while breaks and breaks[0][0] <= number:
            first, broken = breaks.popleft()
            self._breaks_taken += 1
            told.append((first, broken.why))
        return told

    def _read(self) -> None:
        # Nobody could take the lines sooner, and the ring would fill with what is stale by then.
        self._go.wait()
        super()._read()


def open_live_lanes(
    config: Config,
    info: BundleInfo,
    interfaces: Sequence[str],
    changed: threading.Condition,
    clock: StageClock,
    say: Callable[[str], None],
) -> list[Lane]:
    """A lane for each interface; none of them has begun to read.

    Args:
        config: the configuration in force.
        info: of the bundle, for names and states.
        interfaces: their names.
        changed: the condition that all rings share.
        clock: accounts for the time of capture and decode.
        say: is told of outages.

    Raises:
        ConfigError: a key is wrong, an interface is given twice, or it cannot be captured on.
    """
    if not hasattr(socket, "AF_PACKET"):
        raise ConfigError("--interface: live capture needs Linux (AF_PACKET); record a trace and use --pcap")
    from ecustream.capture.live import LiveCapture

    for name in interfaces:
        if list(interfaces).count(name) > 1:
            raise ConfigError(f"--interface {name}: is given twice")
    policy: Policy = "wait" if config.ring.when_full == "wait" else "skip"
    lanes: list[Lane] = []
    try:
        for name in interfaces:
            ledger = Ledger()
            decoder = PacketDecoder(ledger, config.input.layouts)
            builder = LineBuilder(
                ledger, names_for(config, info), config.input.key, activity_state(config, info)
            )
            capture = LiveCapture(
                name,
                ledger,
                source=config.input.source,
                ring_bytes=config.capture.ring_mib << 20,
                promiscuous=config.capture.promiscuous,
                outgoing=config.capture.outgoing,
                say=say,
            )
            ring = Ring(config.ring.lines, policy, ledger, changed)
            lanes.append(LiveLane(LiveLines(capture, decoder, builder, clock), ring, ledger))
    except BaseException:
        for lane in lanes:
            lane.source.close()
        raise
    return lanes
