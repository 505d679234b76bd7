"""Write a simulated trace: capture, labels and names, all complete or none of them there."""

import contextlib
import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, cast

from ecustream.errors import ConfigError, OutputError
from training.simulate.records import CaptureFormat, RecordEncoder
from training.simulate.simulation import START_NS, Batch, simulate
from training.simulate.vehicle import DESTINATION, DESTINATION_PORT, SOURCE_PORT, VLAN, Vehicle

__all__ = ["TraceSummary", "name_table", "write_trace"]

FORMATS: dict[str, CaptureFormat] = {
    ".pcapng.gz": "pcapng",
    ".pcapng": "pcapng",
    ".pcap.gz": "pcap",
    ".pcap": "pcap",
}
GZIP_LEVEL = 6
NAME_COLUMNS = ("id", "name", "vlan", "src", "sport", "dst", "dport", "cycle_ms")


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """What was written where."""

    out: Path
    labels: Path
    names: Path
    datagrams: int
    pdus: int
    faults: int


def write_trace(
    vehicle: Vehicle,
    out: Path,
    *,
    seconds: float,
    seed: int,
    faults: str = "none",
    start_ns: int = START_NS,
    labels: Path | None = None,
    names: Path | None = None,
    on_batch: Callable[[Batch], None] | None = None,
) -> TraceSummary:
    """Simulate and write a trace with its labels and name table; the same arguments give the same bytes.

    Args:
        vehicle: from `draw_vehicle`.
        out: the capture; its suffix decides on pcapng or pcap (nanoseconds both) and on gzip.
        seconds: length of the trace, more than 0.
        seed: draws jitter, events and faults.
        faults: a key of `FAULT_LEVELS`.
        start_ns: start of the trace, nanoseconds since 1970.
        labels: one JSON object a fault, see `Label`; default `<stem of out>.labels.jsonl` beside it.
        names: name table as CSV; default `<stem of out>.names.csv` beside it.
        on_batch: called after every second of the trace.

    Raises:
        ConfigError: an argument is out of its range; nothing is written.
        OutputError: a file cannot be written; files which were there before are as they were.
    """
    suffix = next((suffix for suffix in FORMATS if out.name.endswith(suffix)), None)
    if suffix is None or out.name == suffix:
        raise ConfigError(f"--out {out}: the name of a trace ends in one of {', '.join(sorted(FORMATS))}")
    stem = out.name.removesuffix(suffix)
    labels = labels or out.with_name(f"{stem}.labels.jsonl")
    names = names or out.with_name(f"{stem}.names.csv")
    if len({out, labels, names}) < 3:
        raise ConfigError(f"--out {out}: trace, labels and names must be three different files")
    batches = simulate(vehicle, seconds, seed, faults, start_ns)
    encoder = RecordEncoder(vehicle, FORMATS[suffix])

    datagrams = pdus = fault_count = 0
    with _written_whole(out, labels, names) as (trace_file, label_file, name_file):
        name_file.write(name_table(vehicle).encode())
        with _sink(trace_file, suffix.endswith(".gz")) as sink:
            sink.write(encoder.file_header())
            for batch in batches:
                sink.write(encoder.records(batch))
                for label in batch.labels:
                    label_file.write(json.dumps(asdict(label)).encode() + b"\n")
                datagrams += len(batch.time_ns)
                pdus += len(batch.pdu)
                fault_count += len(batch.labels)
                if on_batch is not None:
                    on_batch(batch)
    return TraceSummary(out, labels, names, datagrams, pdus, fault_count)


def name_table(vehicle: Vehicle) -> str:
    """The vehicle's PDUs as CSV with the columns `NAME_COLUMNS`; `cycle_ms` is empty for events."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(NAME_COLUMNS)
    for pdu in vehicle.pdus:
        address = vehicle.ecus[pdu.ecu].address
        cycle_ms = "" if pdu.cycle_ns is None else pdu.cycle_ns // 1_000_000
        flow = (VLAN, address, SOURCE_PORT, DESTINATION, DESTINATION_PORT)
        rows.writerow((f"0x{pdu.pdu_id:08X}", pdu.name, *flow, cycle_ms))
    return text.getvalue()


def _sink(file: BinaryIO, compressed: bool) -> contextlib.AbstractContextManager[BinaryIO]:
    if not compressed:
        return contextlib.nullcontext(file)
    # No name and no time in the gzip header: the same trace has the same bytes.
    return cast(BinaryIO, gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0))


@contextlib.contextmanager
def _written_whole(*paths: Path) -> Iterator[list[BinaryIO]]:
    """Open files under other names in the same folders, which are renamed when all of them are complete."""
    parts = [path.with_name(f".{path.name}.part") for path in paths]
    opened: list[Path] = []
    try:
        with contextlib.ExitStack() as stack:
            files: list[BinaryIO] = []
            for path, part in zip(paths, parts, strict=True):
                if path.is_dir():
                    raise OutputError(f"{path}: cannot be written: it is a folder")
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
