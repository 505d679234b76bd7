"""Traces into token shards: clean ones, or labelled ones with what their labels mean."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from ecustream.errors import InputError
from ecustream.scoring.tokenizer import LineTokenizer
from ecustream.traffic import Line
from training.base import Base
from training.labelled import LabelledTrace
from training.labels import beside, read_labels
from training.shards import Shards, write_shards
from training.traces import Traces

__all__ = ["LabelKind", "shard_clean", "shard_labelled"]

LabelKind = Literal["annotator", "labels"]
"""Labels by rule, which are unreliable, or true ones."""

_MOST_UNKNOWN = 0.05


def shard_clean(traces: Traces, tokenizer: LineTokenizer, cycles_ns: dict[str, int], folder: Path) -> Shards:
    """Token shards of clean traces.

    Raises:
        InputError: a trace is damaged or has losses.
        OutputError: the shards cannot be written.
    """
    pieces = (
        (traces.paths[index].name, traces.sha256(traces.paths[index]), batches)
        for index, batches in traces.read("tokenizing", cycles_ns)
    )
    return write_shards(folder, tokenizer, pieces)


def shard_labelled(traces: Traces, base: Base, folder: Path, labels: LabelKind) -> Shards:
    """Token shards of labelled traces, cut where they are interrupted.

    Args:
        traces: X.pcapng with X.annotator.jsonl or X.labels.jsonl beside it.
        base: the bundle whose tokens they become.
        folder: for the shards.
        labels: which of the two.

    Raises:
        InputError: a trace is damaged or has no line; labels are missing, cannot be read or lie outside their
            trace; or more than 5 % of the lines are of PDUs that the bundle does not know.
        OutputError: the shards cannot be written.
    """
    labelled = []
    for path in traces.paths:
        file = beside(path, labels)
        if not file.is_file():
            raise InputError(
                f"{file}: is not there; `python -m training annotate {path.name} --out {file.name}` makes "
                "labels by rule"
            )
        labelled.append(LabelledTrace(read_labels(file), str(file), str(path)))
    watched = _Strangers(base.tokenizer)
    trace_of: list[int] = []

    def pieces() -> Iterator[tuple[str, str, Iterator[Sequence[Line]]]]:
        for index, batches in traces.read_pieces("tokenizing", base.cycles_ns):
            trace_of.append(index)
            path = traces.paths[index]
            yield path.name, traces.sha256(path), map(watched.see, batches)
        # Checked here, so that nothing stays written where something does not fit.
        for index, path in enumerate(traces.paths):
            if index not in trace_of:
                raise InputError(f"{path}: there is no PDU in this trace")
            labelled[index].finish()
        watched.check(base.path)

    return write_shards(folder, base.tokenizer, pieces(), lambda i, lines: labelled[trace_of[i]](lines))


class _Strangers:
    """Counts lines of PDUs that a tokenizer does not know."""

    def __init__(self, tokenizer: LineTokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, bool] = {}
        self._lines = 0
        self._unknown = 0
        self._first = ""

    def see(self, lines: Sequence[Line]) -> Sequence[Line]:
        """Count lines and pass them on."""
        self._lines += len(lines)
        for line in lines:
            key = line.stream.key
            if key not in self._known:
                self._known[key] = self._tokenizer.knows(line.stream)
            if not self._known[key]:
                self._unknown += 1
                self._first = self._first or line.stream.name
        return lines

    def check(self, base: Path) -> None:
        """Refuse traffic of another vehicle."""
        if self._unknown > _MOST_UNKNOWN * self._lines:
            percent = 100 * self._unknown / self._lines
            raise InputError(
                f"{base}: does not know the PDUs of {percent:.0f} % of these lines, {self._first} for one; "
                "fit a new bundle"
            )
