"""Traces as columns, read once: pieces without interruption, with or without an annotator's labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ecustream.decode.names import NameTable
from training.baselines.columns import Columns, Labelled, PduNumbers, joined, labels_of
from training.baselines.rhythm import Rhythm
from training.labelled import LabelledTrace
from training.labels import read_labels
from training.traces import Traces

__all__ = ["cycles_of", "read_labelled", "read_pieces"]


def read_pieces(
    path: Path, numbers: PduNumbers, names: NameTable | None, cycles_ns: Mapping[str, int] | None = None
) -> list[Columns]:
    """The pieces of a trace between its interruptions; 13 bytes a line.

    Args:
        path: capture or CSV.
        numbers: of PDUs, one for all traces of a study.
        names: names of PDU ids.
        cycles_ns: cycles for the activity state; None leaves it at normal operation.

    Raises:
        InputError: the trace is damaged.
    """
    cycles = None if cycles_ns is None else dict(cycles_ns)
    return [
        joined([numbers.columns(lines) for lines in batches])
        for _, batches in Traces([path], names).read_pieces(path.name, cycles)
    ]


def read_labelled(
    path: Path,
    labels_path: Path,
    numbers: PduNumbers,
    names: NameTable | None,
    cycles_ns: Mapping[str, int] | None = None,
) -> list[Labelled]:
    """As `read_pieces`, with which lines the labels of a file mean.

    Raises:
        InputError: the trace is damaged, the labels cannot be read, or they belong to another trace.
    """
    labelled = LabelledTrace(read_labels(labels_path), labels_path.name, path.name)
    cycles = None if cycles_ns is None else dict(cycles_ns)
    pieces = []
    for _, batches in Traces([path], names).read_pieces(path.name, cycles):
        parts = [Labelled(numbers.columns(lines), labelled(lines)) for lines in batches]
        columns = joined([part.columns for part in parts])
        pieces.append(Labelled(columns, labels_of(parts)))
    labelled.finish()
    return pieces


def cycles_of(rhythms: Mapping[int, Rhythm], keys: Sequence[str]) -> dict[str, int]:
    """Learned cycle of each PDU key, 0 where there is none, for the activity state."""
    return {keys[pdu]: rhythm.cycle_ns for pdu, rhythm in rhythms.items()}
