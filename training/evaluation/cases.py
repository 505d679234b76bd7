"""Traces to be judged and what is known of them: true labels, an annotator's, controls."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ecustream.errors import InputError
from training.labels import Context, Label, beside, read_context, read_labels

__all__ = ["Case", "digest_of", "overlap_note", "read_cases"]


@dataclass(frozen=True, slots=True)
class Case:
    """A trace to be judged.

    Attributes:
        name: its file's name up to the first dot.
        path: where it is.
        sha256: of the file.
        truth_sha256: of the files beside it that say what is true.
        labels: true faults, sorted by start; None: there are none, it counts as clean.
        annotator: labels of an annotator, sorted by start; None where there is no such file.
        controls: what looks like a fault and must not be reported.
    """

    name: str
    path: Path
    sha256: str
    truth_sha256: str
    labels: list[Label] | None
    annotator: list[Label] | None
    controls: list[Context]

    def labels_by(self, judge: str) -> list[Label] | None:
        """The labels of one judge, `labels` or `annotator`; None where it says nothing of this trace."""
        return self.labels if judge == "labels" else self.annotator


def digest_of(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        InputError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a file; an evaluation must know its traces again")
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def read_cases(traces: Sequence[Path]) -> list[Case]:
    """The traces with the files beside them.

    Raises:
        InputError: a file cannot be read, or two traces have one name.
    """
    of_name: dict[str, Case] = {}
    for path in traces:
        sha256 = digest_of(path)
        name = path.name.split(".", 1)[0]
        if name in of_name:
            raise InputError(f"{path}: {of_name[name].path} is called {name} as well; rename one of them")
        files = {what: beside(path, what) for what in ("labels", "annotator", "context")}
        there = {what: file for what, file in files.items() if file.exists()}
        labels = read_labels(there["labels"]) if "labels" in there else []
        context = read_context(there["context"]) if "context" in there else []
        digests = {what: digest_of(file) for what, file in there.items()}
        of_name[name] = Case(
            name=name,
            path=path,
            sha256=sha256,
            truth_sha256=hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest(),
            labels=labels or None,
            annotator=read_labels(there["annotator"]) if "annotator" in there else None,
            controls=[row for row in context if row.kind == "control"],
        )
    return list(of_name.values())


def overlap_note(case: Case) -> str | None:
    """A sentence on true labels that overlap an earlier one of the same PDU; None where none does."""
    overlapping: list[int] = []
    recent: list[Label] = []
    for number, label in enumerate(case.labels or []):
        recent = [other for other in recent if other.end_ns >= label.start_ns]
        if any(_concern_one(label, other) for other in recent):
            overlapping.append(number)
        recent.append(label)
    if not overlapping or case.labels is None:
        return None
    first = case.labels[overlapping[0]]
    count = len(overlapping)
    which = f"label {overlapping[0] + 1}, {first.kind} of {', '.join(first.pdus) or 'several PDUs'}"
    labels = "1 label overlaps" if count == 1 else f"{count} labels overlap"
    return (
        f"{beside(case.path, 'labels').name}: {labels} an earlier one of the same PDU ({which}); one episode "
        "there finds both, so recall may be flattered"
    )


def _concern_one(one: Label, other: Label) -> bool:
    return not one.pdus or not other.pdus or not set(one.pdus).isdisjoint(other.pdus)
