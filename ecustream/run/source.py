"""A trace file as log lines: capture and decode in one iterator, CSV traces alike."""

from collections import deque
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

from ecustream.capture.breaks import Break
from ecustream.capture.files import CaptureReader, open_capture
from ecustream.capture.unwrap import Unwrapper
from ecustream.decode.csv_lines import CsvTrace, is_csv_trace, read_csv_lines
from ecustream.decode.lines import LineBuilder
from ecustream.decode.names import NameTable
from ecustream.decode.packets import PacketDecoder
from ecustream.decode.state import ActivityState
from ecustream.ledger import Ledger
from ecustream.stages import StageClock
from ecustream.traffic import Line

__all__ = ["TraceLines"]


class TraceLines:
    """The lines of one trace in batches, once, with flat memory.

    Args:
        path: pcap, pcapng or CSV, plain or in gzip.
        ledger: where frames and PDUs end and lines are entered.
        names: names of PDU ids; a CSV trace carries its own.
        key: what "the same PDU" means, see `ecustream.decode.streams`.
        layouts: PDU layout per socket, see `ecustream.decode.pdus`.
        source: bus name to use instead of the trace's own; a CSV trace keeps its own.
        loggers: interface id to bus name for what loggers recorded, see `ecustream.capture.unwrap`.
        state: where the activity state comes from; a CSV trace carries its own.
        clock: accounts for the time of capture and decode; reading a CSV trace counts as decode.

    Attributes:
        losses: as in `CaptureReader`, and of loggers whose frames are in the trace; empty for a CSV trace.
        breaks: (number of the next line, why) where the clock of a logger was set.

    Raises:
        InputError: the trace cannot be read at all.
        ConfigError: `key` or `layouts` is wrong.
    """

    def __init__(
        self,
        path: Path,
        ledger: Ledger,
        *,
        names: NameTable | None = None,
        key: str = "stream",
        layouts: Mapping[str, str] | None = None,
        source: str | None = None,
        loggers: Mapping[str, str] | None = None,
        state: ActivityState | None = None,
        clock: StageClock | None = None,
    ) -> None:
        clock = clock or StageClock(enabled=False)
        self._file: CaptureReader | CsvTrace
        self.losses: deque[tuple[int, int]] = deque()
        self.breaks: deque[tuple[int, str]] = deque()
        if is_csv_trace(path):
            self._file = csv = read_csv_lines(path, ledger, key)
            self._lines = _timed(csv, clock)
        else:
            decoder = PacketDecoder(ledger, layouts)
            builder = LineBuilder(ledger, names, key, state)
            self._file = capture = open_capture(path, ledger, source)
            unwrapper = Unwrapper(ledger, capture.losses, loggers)
            self.losses = unwrapper.losses
            self._lines = _decoded(capture, unwrapper, decoder, builder, self.breaks, clock)

    @property
    def damage(self) -> list[str]:
        """Sentences on what could not be read so far."""
        return self._file.damage

    @property
    def total_bytes(self) -> int | None:
        """Size of the file on disk; None for a pipe."""
        return self._file.total_bytes

    @property
    def bytes_read(self) -> int:
        """How far the file on disk was read."""
        return self._file.bytes_read

    def __iter__(self) -> Iterator[list[Line]]:
        return self._lines

    def breaks_up_to(self, number: int) -> list[tuple[int, str]]:
        """Those of `breaks` up to the line with that number; they are taken away."""
        told = []
        while self.breaks and self.breaks[0][0] <= number:
            told.append(self.breaks.popleft())
        return told

    def close(self) -> None:
        """Close the file; fragments that wait for their rest are counted as incomplete."""
        if isinstance(self._lines, Generator):
            self._lines.close()
        self._file.close()


def _decoded(
    capture: CaptureReader,
    unwrapper: Unwrapper,
    decoder: PacketDecoder,
    builder: LineBuilder,
    breaks: deque[tuple[int, str]],
    clock: StageClock,
) -> Iterator[list[Line]]:
    batches = iter(capture)
    # They end also where the consumer stops early, so that all that waits is in the ledger.
    try:
        while True:
            with clock.stage("capture"):
                frames = next(batches, None)
            if frames is None:
                break
            with clock.stage("decode", len(frames)):
                lines = []
                for piece in unwrapper.unwrap(frames):
                    if isinstance(piece, Break):
                        builder.forget()
                        if builder.count:
                            breaks.append((builder.count, piece.why))
                    else:
                        lines += builder.build(decoder.decode(piece))
            yield lines
        with clock.stage("decode"):
            lines = builder.build(decoder.decode(unwrapper.flush()))
        if lines:
            yield lines
    finally:
        unwrapper.abandon()
        decoder.flush()


def _timed(trace: CsvTrace, clock: StageClock) -> Iterator[list[Line]]:
    batches = iter(trace)
    while True:
        with clock.stage("decode"):
            lines = next(batches, None)
        if lines is None:
            return
        yield lines
