"""The baselines: fitted on clean traffic, given thresholds by other clean traffic, run trace by trace."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ecustream.errors import ConfigError, InputError
from ecustream.units import duration
from training.baselines.columns import Labelled, PduNumbers, joined, labels_of
from training.baselines.every import every_baseline
from training.baselines.protocol import Baseline
from training.baselines.rival import Rival, thresholds_of
from training.evaluation.scan import Opened
from training.labelled import LabelledTrace
from training.labels import beside, read_labels
from training.traces import Traces

__all__ = ["annotations_of", "chosen_baselines", "fit_rivals"]

_TWO_MINUTES_NS = 120_000_000_000
_LEARN_SHARE = 0.8
"""Of each clean trace the beginning is learned from; the rest gives thresholds."""


def chosen_baselines(wanted: str) -> list[Baseline]:
    """Baselines by what `--baselines` says: `all`, `none`, or names with commas between.

    Raises:
        ConfigError: there is no such baseline.
    """
    every = every_baseline()
    if wanted in ("all", "none"):
        return every if wanted == "all" else []
    of_name = {baseline.name: baseline for baseline in every}
    names = [name.strip() for name in wanted.split(",")]
    unknown = [name for name in names if name not in of_name]
    if unknown:
        raise ConfigError(
            f"--baselines: no baseline is called {unknown[0]!r}; there are {', '.join(of_name)}"
        )
    return [baseline for baseline in every if baseline.name in names]


def fit_rivals(
    baselines: Sequence[Baseline],
    clean: Sequence[Path],
    annotated: Sequence[Path],
    opened: Opened,
    numbers: PduNumbers,
    budget_per_hour: float,
    budgets_per_hour: Sequence[float],
    join_ns: int,
    progress: Callable[[float, str], None] = lambda done, name: None,
) -> tuple[list[Rival], list[str]]:
    """Fit baselines.

    Args:
        baselines: those that cannot learn from this traffic are left out.
        clean: traces without faults: the first 80 % of each to learn from, the rest for thresholds.
        annotated: traces with an annotator's labels beside them, for those that need labels.
        opened: how lines are read.
        numbers: of PDUs, one for all traces of the evaluation.
        budget_per_hour: of false alarms.
        budgets_per_hour: for the curves; the first is one of them.
        join_ns: the detector's.
        progress: is told how many baselines are done, and what is being done.

    Returns:
        The fitted ones, and sentences on what was left out or is weak.

    Raises:
        InputError: a trace or its labels cannot be read.
    """
    learn, held_out, notes = [], [], []
    for path in clean:
        for piece in _pieces(path, opened, numbers):
            cut = round(len(piece.columns.time_ns) * _LEARN_SHARE)
            learn.append(piece.columns.part(0, cut))
            held_out.append(piece.columns.part(cut, len(piece.columns.time_ns)))
    labelled = [piece for path in annotated for piece in _pieces(path, opened, numbers, labels=True)]
    of_clean = frozenset(_sha256(path) for path in clean)
    of_labelled = frozenset(_sha256(path) for path in annotated)
    held_out = [piece for piece in held_out if len(piece.time_ns)]
    held_out_ns = sum(int(np.ptp(piece.time_ns)) for piece in held_out)
    needing = [baseline.name for baseline in baselines if baseline.needs_labels]
    if needing and not labelled:
        notes.append(
            f"{', '.join(needing)}: left out, because they learn from an annotator's labels and there is no "
            "--annotated trace"
        )
    rivals = []
    usable = [baseline for baseline in baselines if labelled or not baseline.needs_labels]
    for number, baseline in enumerate(usable):
        progress(number, baseline.name)
        try:
            fitted = baseline.fit(learn, labelled if baseline.needs_labels else [])
        except InputError as error:
            notes.append(f"{baseline.name}: left out: {error}")
            continue
        thresholds = thresholds_of(fitted, held_out, numbers.sources, budgets_per_hour, join_ns)
        seen = of_clean | of_labelled if baseline.needs_labels else of_clean
        rivals.append(Rival(baseline.name, fitted, thresholds, seen))
    if rivals and held_out_ns * budget_per_hour < 3.6e12:
        how_long = duration(held_out_ns) if held_out_ns < _TWO_MINUTES_NS else f"{held_out_ns / 6e10:.0f} min"
        notes.append(
            f"thresholds of the baselines come from {how_long} of clean traffic, less than one "
            f"false alarm takes at {budget_per_hour:g} an hour: they will give more than that"
        )
    return rivals, notes


def annotations_of(path: Path) -> Path:
    """The file of an annotator's labels beside a trace.

    Raises:
        InputError: there is none.
    """
    annotations = beside(path, "annotator")
    if not annotations.exists():
        raise InputError(f"{annotations}: does not exist; `python -m training annotate` makes it")
    return annotations


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pieces(path: Path, opened: Opened, numbers: PduNumbers, labels: bool = False) -> list[Labelled]:
    """The pieces of a trace between its interruptions, with the annotator's labels or with none."""
    means = None
    if labels:
        labels_path = annotations_of(path)
        means = LabelledTrace(read_labels(labels_path), labels_path.name, path.name)
    traces = Traces([path], opened.names, opened.info.key, opened.source, opened.loggers)
    pieces = []
    for _, batches in traces.read_pieces(f"reading {path.name}", opened.cycles_ns()):
        parts = [
            Labelled(numbers.columns(lines), means(lines) if means else np.zeros(len(lines), np.bool_))
            for lines in batches
        ]
        pieces.append(Labelled(joined([part.columns for part in parts]), labels_of(parts)))
    if means:
        means.finish()
    return pieces
