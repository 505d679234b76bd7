"""Opens the network interfaces of a run, each as a lane that goes on until it is stopped."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ecustream.capture.breaks import Break, Reached
from ecustream.capture.unwrap import Unwrapper
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
from ecustream.traffic import Frame, Line

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
        ledger: where frames are counted.
        loggers: interface id to bus name for what loggers recorded, see `ecustream.capture.unwrap`.

    Attributes:
        losses: as in `LiveCapture`, and of loggers whose frames come there.
        breaks: (number of the next line, the break) in order; taken away by whoever judges the lines. One is
            there before the lines after it are handed on, and after all before it were taken over.
    """

    def __init__(
        self,
        capture: "LiveCapture",
        decoder: PacketDecoder,
        builder: LineBuilder,
        clock: StageClock,
        ledger: Ledger,
        loggers: Mapping[str, str] | None = None,
    ) -> None:
        self.capture = capture
        self.breaks: deque[tuple[int, Break]] = deque()
        self._decoder = decoder
        self._builder = builder
        self._clock = clock
        self._unwrapper = Unwrapper(ledger, capture.losses, loggers)
        self.losses = self._unwrapper.losses
        self._steps = 0
        self._reached: Reached | None = None
        self._lines = self._decoded()

    @property
    def reached(self) -> Reached:
        """How far it is by the lines' clock: the capture's, or the loggers' as soon as one has come."""
        return self._reached or self.capture.reached

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

    def breaks_up_to(self, number: int) -> list[tuple[int, str]]:
        """See `LineSource`."""
        told = []
        while self.breaks and self.breaks[0][0] <= number:
            first, broken = self.breaks.popleft()
            told.append((first, broken.why))
        return told

    def due(self) -> list[Line]:
        """Lines whose turn it is although nothing newer came; the capture's beat asks for them."""
        reached = self.capture.reached
        if not self._unwrapper.active or not reached.time_ns:
            return []
        frames = self._unwrapper.passed(reached.time_ns)
        return self._built([frames]) if frames else []

    def settle(self) -> None:
        """All lines so far were handed on; to be told by the thread that reads, and by no other."""
        if self._unwrapper.active:
            breaks = self.capture.reached.breaks + self._steps
            self._reached = Reached(self._unwrapper.reached_ns, breaks)

    def close(self) -> None:
        """Give the interface back; fragments that wait for their rest are counted as incomplete."""
        self._lines.close()
        self.capture.close()

    def _decoded(self) -> Generator[list[Line], None, None]:
        pieces = iter(self.capture)
        unwrapper = self._unwrapper
        # They end also where the consumer stops early, so that all that waits is in the ledger.
        try:
            while True:
                with self._clock.stage("capture"):
                    piece = next(pieces, None)
                if piece is None:
                    break
                if isinstance(piece, Break):
                    parts = unwrapper.interrupt(piece)
                else:
                    parts = unwrapper.unwrap(piece)
                    self._steps += sum(isinstance(part, Break) for part in parts)
                lines = self._built(parts)
                if lines:
                    yield lines
            lines = self._built([unwrapper.flush()])
            if lines:
                yield lines
        finally:
            unwrapper.abandon()
            self._decoder.flush()

    def _built(self, parts: Sequence[list[Frame] | Break]) -> list[Line]:
        """The lines of all parts together; where breaks are among them stands in `breaks`."""
        lines: list[Line] = []
        for part in parts:
            if isinstance(part, Break):
                self._builder.forget()
                self.breaks.append((self._builder.count, part))
                continue
            with self._clock.stage("decode", len(part)):
                lines += self._builder.build(self._decoder.decode(part))
        return lines


class LiveLane(Lane):
    """A lane of an interface: it reads from `go` on, and its time passes although nothing comes.

    Args:
        lines: of the interface.
        ring: see `Lane`.
        ledger: see `Lane`.
    """

    def __init__(self, lines: LiveLines, ring: Ring, ledger: Ledger) -> None:
        super().__init__(lines.capture.interface, lines, ring, None, ledger)
        self.bus = lines.capture.source
        self._live = lines
        self._breaks_taken = 0

    @property
    def reached(self) -> Reached:
        """Capture time up to which every line is in the ring or was taken, and breaks before that."""
        return self._live.reached

    @property
    def passed_ns(self) -> int:
        """As in `reached`."""
        return self.reached.time_ns

    @property
    def trouble(self) -> str | None:
        """Why nothing can be captured at present; None where all is well."""
        return self._live.capture.trouble

    def beat(self) -> None:
        """The capture has come round: what waited for newer frames waits no longer than it must."""
        lines = self._live.due()
        if lines:
            self.ring.put(lines)
        self._live.settle()

    def go(self) -> None:
        """See `Lane`; what comes after this is captured, so that whoever is told may rely on it."""
        self._live.capture.start()
        super().go()

    def stop(self) -> None:
        """Capture no more; what came until now can still be taken."""
        # Reading goes on to the end of what was captured, which `_stopped` would cut off.
        self.ring.keep()
        self._live.capture.stop()

    def passed(self, reached: Reached) -> tuple[list[Break], int]:
        """See `Lane`."""
        due = []
        # A break is counted a moment before it is there.
        while self._breaks_taken < reached.breaks and self._live.breaks:
            due.append(self._live.breaks.popleft()[1])
            self._breaks_taken += 1
            self._last_ns = due[-1].time_ns
        # With the lines of the last pass there may have come breaks that are newer than `reached`.
        return due, reached.time_ns if reached.breaks == self._breaks_taken else 0

    def _breaks_up_to(self, number: int) -> list[tuple[int, str]]:
        told = super()._breaks_up_to(number)
        self._breaks_taken += len(told)
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
    beat: Callable[[str], None] = lambda stage: None,
) -> list[Lane]:
    """A lane for each interface; none of them has begun to read.

    Args:
        config: the configuration in force.
        info: of the bundle, for names and states.
        interfaces: their names.
        changed: the condition that all rings share.
        clock: accounts for the time of capture and decode.
        say: is told of outages.
        beat: is told now and then that `capture NAME` goes on.

    Raises:
        ConfigError: a key is wrong, an interface is given twice, or it cannot be captured on.
    """
    from ecustream.capture.live import LiveCapture

    for name in interfaces:
        if list(interfaces).count(name) > 1:
            raise ConfigError(f"--interface {name}: is given twice")
    policy: Policy = "wait" if config.ring.when_full == "wait" else "skip"
    lanes: list[Lane] = []
    made: dict[str, LiveLane] = {}
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
                backend=config.capture.backend,
                say=say,
                beat=partial(_come_round, name, made, beat),
            )
            lines = LiveLines(capture, decoder, builder, clock, ledger, config.capture.loggers)
            ring = Ring(config.ring.lines, policy, ledger, changed)
            made[name] = LiveLane(lines, ring, ledger)
            lanes.append(made[name])
    except BaseException:
        for lane in lanes:
            lane.source.close()
        raise
    return lanes


def _come_round(name: str, lanes: Mapping[str, LiveLane], beat: Callable[[str], None]) -> None:
    beat(f"capture {name}")
    lanes[name].beat()
