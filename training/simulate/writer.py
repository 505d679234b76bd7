"""Write a simulated trace: capture, labels, context, names and what else was asked for, all or nothing."""

import contextlib
import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from ecustream.errors import ConfigError, OutputError
from training.annotator import AnnotationSummary
from training.labels import Label, encode
from training.simulate.annotation import AnnotatorSettings, TraceAnnotator
from training.simulate.batch import Batch
from training.simulate.faults.spec import FaultSpec
from training.simulate.names import name_table
from training.simulate.records import CaptureFormat, RecordEncoder
from training.simulate.simulation import Simulation
from training.simulate.vehicle import Vehicle

__all__ = [
    "Recorder",
    "TraceFiles",
    "TraceSummary",
    "record",
    "recording",
    "trace_files",
    "write_trace",
    "written_whole",
]

FORMATS: dict[str, CaptureFormat] = {
    ".pcapng.gz": "pcapng",
    ".pcapng": "pcapng",
    ".pcap.gz": "pcap",
    ".pcap": "pcap",
}
GZIP_LEVEL = 6


@dataclass(frozen=True, slots=True)
class TraceFiles:
    """Where the parts of a trace go.

    Attributes:
        out: the capture; its suffix decides on pcapng or pcap (nanoseconds both) and on gzip.
        labels: the faults, one `Label` a line.
        context: activity states, modes and controls, one `Context` a line.
        names: name table as CSV.
        annotator: what the unreliable rule annotator says, one `Label` a line.
    """

    out: Path
    labels: Path
    context: Path
    names: Path
    annotator: Path

    def all(self) -> list[Path]:
        """All of them, `out` first."""
        return [self.out, self.labels, self.context, self.names, self.annotator]


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """What was written.

    Attributes:
        files: where.
        datagrams: frames in the capture.
        pdus: PDUs in them.
        faults: labels.
        controls: what looks like a fault and is none.
        annotation: how good the annotator's labels are.
    """

    files: TraceFiles
    datagrams: int
    pdus: int
    faults: int
    controls: int
    annotation: AnnotationSummary


def trace_files(
    out: Path, labels: Path | None = None, context: Path | None = None, names: Path | None = None
) -> TraceFiles:
    """The files of a trace: beside `out`, named after it, but where another place is given.

    Raises:
        ConfigError: the suffix of `out` is not one of a capture, or two files are the same.
    """
    suffix = _suffix(out)
    stem = out.name.removesuffix(suffix)
    files = TraceFiles(
        out=out,
        labels=labels or out.with_name(f"{stem}.labels.jsonl"),
        context=context or out.with_name(f"{stem}.context.jsonl"),
        names=names or out.with_name(f"{stem}.names.csv"),
        annotator=out.with_name(f"{stem}.annotator.jsonl"),
    )
    if len(set(files.all())) < len(files.all()):
        raise ConfigError(f"--out {out}: trace, labels, context and names must be different files")
    return files


def write_trace(
    vehicle: Vehicle,
    out: Path,
    *,
    seconds: float,
    drive: int = 0,
    faults: str | FaultSpec = "none",
    scenario: str = "drive",
) -> TraceSummary:
    """Simulate a drive of a vehicle and write its trace to `out`, everything else beside it.

    Arguments and errors are those of `Simulation`, `trace_files` and `record`.
    """
    return record(Simulation(vehicle, seconds, drive, faults, scenario), trace_files(out))


def record(
    simulation: Simulation,
    files: TraceFiles,
    annotator: AnnotatorSettings | None = None,
    on_batch: Callable[[Batch], None] | None = None,
) -> TraceSummary:
    """Simulate and write a trace; the same simulation gives the same bytes.

    Args:
        simulation: what happens; it is used up.
        files: from `trace_files`.
        annotator: how unreliable the annotator is; default: the rule as it is.
        on_batch: called after every second of the trace.

    Raises:
        ConfigError: the suffix of the capture is not one of a capture.
        OutputError: a file cannot be written; files which were there before are as they were.
    """
    with recording(simulation, files, annotator) as recorder:
        for batch in simulation.batches():
            recorder.see(batch)
            if on_batch is not None:
                on_batch(batch)
        return recorder.finish()


@contextlib.contextmanager
def recording(
    simulation: Simulation, files: TraceFiles, annotator: AnnotatorSettings | None = None
) -> Iterator["Recorder"]:
    """A `Recorder` whose files appear when the block ends, or not at all when it ends with an exception.

    Arguments and errors are those of `record`.
    """
    with written_whole(*files.all()) as opened, contextlib.ExitStack() as stack:
        by_path = dict(zip(files.all(), opened, strict=True))
        yield Recorder(simulation, files, by_path, annotator or AnnotatorSettings(), stack)


class Recorder:
    """Writes the batches of a simulation, one after the other; from `recording`."""

    def __init__(
        self,
        simulation: Simulation,
        files: TraceFiles,
        opened: dict[Path, BinaryIO],
        annotator: AnnotatorSettings,
        stack: contextlib.ExitStack,
    ) -> None:
        self._files, self._opened = files, opened
        self._observer = TraceAnnotator(simulation, annotator)
        self._truth: list[Label] = []
        self._datagrams = self._pdus = self._controls = 0
        self._capture = stack.enter_context(_Capture(opened[files.out], files.out, simulation))
        opened[files.names].write(name_table(simulation.vehicle).encode())

    def see(self, batch: Batch) -> None:
        """Write a batch; its labels are kept in memory too, since the annotator is judged by them."""
        self._capture.write(batch)
        self._opened[self._files.labels].writelines(encode(label) for label in batch.labels)
        self._opened[self._files.context].writelines(encode(row) for row in batch.context)
        self._observer.see(batch)
        self._truth += batch.labels
        self._datagrams += len(batch.time_ns)
        self._pdus += len(batch.pdu)
        self._controls += sum(row.kind == "control" for row in batch.context)

    def finish(self) -> TraceSummary:
        """Write what the annotator made of it; no batch may come after that."""
        annotations, annotation = self._observer.finish(self._truth)
        self._opened[self._files.annotator].writelines(encode(label) for label in annotations)
        return TraceSummary(
            self._files, self._datagrams, self._pdus, len(self._truth), self._controls, annotation
        )


def _suffix(out: Path) -> str:
    suffix = next((suffix for suffix in FORMATS if out.name.endswith(suffix)), None)
    if suffix is None or out.name == suffix:
        raise ConfigError(f"--out {out}: the name of a trace ends in one of {', '.join(sorted(FORMATS))}")
    return suffix


class _Capture:
    """The capture file, plain or compressed, while it is written."""

    def __init__(self, file: BinaryIO, out: Path, simulation: Simulation) -> None:
        suffix = _suffix(out)
        # No name and no time in the gzip header: the same trace has the same bytes.
        self._compressed = (
            cast(BinaryIO, gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0))
            if suffix.endswith(".gz")
            else None
        )
        self._sink = self._compressed or file
        self._encoder = RecordEncoder(simulation.vehicle, simulation.sockets, FORMATS[suffix])
        self._sink.write(self._encoder.file_header())

    def __enter__(self) -> "_Capture":
        return self

    def write(self, batch: Batch) -> None:
        self._sink.write(self._encoder.records(batch))

    def __exit__(self, *raised: object) -> None:
        if self._compressed is not None:
            self._compressed.close()


@contextlib.contextmanager
def written_whole(*paths: Path) -> Iterator[list[BinaryIO]]:
    """Open files under other names in the same folders, which are renamed when all of them are complete.

    Raises:
        OutputError: one cannot be written; files which were there before are as they were.
    """
    for path in paths:
        if path.is_dir():
            raise OutputError(f"{path}: cannot be written: it is a folder")
    parts = [path.with_name(f".{path.name}.part") for path in paths]
    opened: list[Path] = []
    try:
        with contextlib.ExitStack() as stack:
            files: list[BinaryIO] = []
            for path, part in zip(paths, parts, strict=True):
                try:
                    files.append(stack.enter_context(part.open("wb")))
                except OSError as error:
                    raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
                opened.append(part)
            yield files
        for path, part in zip(paths, parts, strict=True):
            part.replace(path)
    except OSError as error:
        raise OutputError(f"{paths[0]}: cannot be written: {error.strerror}") from error
    finally:
        for part in opened:
            part.unlink(missing_ok=True)
