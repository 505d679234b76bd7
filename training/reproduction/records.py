"""What runs gave, one JSON file each, so that a reproduction can go on where it ended."""

import datetime
from collections.abc import Iterable
from pathlib import Path

import msgspec

import ecustream
from ecustream.errors import InputError, OutputError
from training.nats import Nats
from training.perturbation import Study
from training.simulate.writer import written_whole

__all__ = [
    "Detected",
    "Failed",
    "Objective",
    "Perturbed",
    "Predicted",
    "Record",
    "Records",
    "Started",
    "Verdict",
    "today",
]


class Predicted(msgspec.Struct, frozen=True, kw_only=True, tag="predicted"):
    """How well a model predicts lines that it has not seen.

    Attributes:
        vocabulary: of its tokenizer.
        unknown_lines_share: of the lines with an unknown token.
        parameters: of the model.
        steps: of training.
        tokens: that it was trained on.
        stopped: what ended training.
        test: on unseen traffic with its own context.
        read: the same with other contexts, by their tokens.
    """

    vocabulary: int
    unknown_lines_share: float
    parameters: int
    steps: int
    tokens: int
    stopped: str
    test: Nats
    read: dict[int, Nats] = {}


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    """The bundle that the others start from; how long clean traffic for its thresholds was."""

    fingerprint: str
    steps: int
    stopped: str
    nats_per_line: float
    calibrated_hours: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of what was told against labels: recall is found / labelled, precision right / told."""

    found: int
    labelled: int
    right: int
    told: int

    @property
    def recall(self) -> float | None:
        """None where nothing is labelled."""
        return self.found / self.labelled if self.labelled else None

    @property
    def precision(self) -> float | None:
        """None where nothing was told."""
        return self.right / self.told if self.told else None


class Detected(msgspec.Struct, frozen=True, kw_only=True):
    """One filter on all judged traffic.

    Attributes:
        rule: the filter in words.
        threshold: perplexity that lines must exceed.
        width: consecutive lines.
        clean_share: of the lines of clean traffic that it tells.
        annotated_lines: against labels by rule, which the paper has.
        annotated_regions: the same by region.
        true_lines: against true faults.
        true_regions: the same by region.
    """

    rule: str
    threshold: float
    width: int
    clean_share: float
    annotated_lines: Verdict
    annotated_regions: Verdict
    true_lines: Verdict
    true_regions: Verdict


class Objective(msgspec.Struct, frozen=True, kw_only=True, tag="objective"):
    """What fine-tuning by an objective did, under several filters."""

    steps: int
    clean_nats_before: float | None
    clean_nats_after: float | None
    detected: list[Detected]


class Perturbed(msgspec.Struct, frozen=True, kw_only=True, tag="perturbed"):
    """What moving single lines showed."""

    study: Study


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """A run that gave nothing, and why; it is not kept, so whoever resumes tries it again."""

    reason: str


Result = Predicted | Started | Objective | Perturbed | Failed


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is done.

    Attributes:
        run: its name.
        digest: of what it was asked for, see `plan.digest`.
        version: of the software.
        libraries: names and versions of what it computes with.
        machine: it ran on.
        date: on which it ended, UTC.
        seconds: wall time of all that it did.
        training_seconds: of them in training.
        flops: of its training.
        result: what it gave.
        pictures: captions and SVG text.
    """

    run: str
    digest: str
    version: str
    libraries: str
    machine: str
    date: str
    seconds: float
    training_seconds: float
    flops: int
    result: Result
    pictures: list[tuple[str, str]] = []


class Records:
    """The records of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def any(self) -> bool:
        """Whether there is a record."""
        return any(self._folder.glob("*.json"))

    def read(self, run: str, digest: str) -> Record | None:
        """The record of a run; None where there is none, or of something else, or of other software.

        Raises:
            InputError: it cannot be read.
        """
        path = self._folder / f"{run}.json"
        try:
            record = msgspec.json.decode(path.read_bytes(), type=Record)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read, remove it to run it again: {error}") from None
        same = record.digest == digest and record.version == ecustream.__version__
        return record if same else None

    def drop(self, runs: Iterable[str]) -> None:
        """Forget the records of these runs.

        Raises:
            OutputError: one cannot be removed.
        """
        for run in runs:
            try:
                (self._folder / f"{run}.json").unlink(missing_ok=True)
            except OSError as error:
                raise OutputError(f"{error.filename}: cannot be removed: {error.strerror}") from None

    def write(self, record: Record) -> None:
        """Keep a record.

        Raises:
            OutputError: it cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with written_whole(self._folder / f"{record.run}.json") as (file,):
            file.write(msgspec.json.format(msgspec.json.encode(record), indent=1))


def today() -> str:
    """The date, UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()
