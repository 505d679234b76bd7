"""What every baseline is: something to fit, which gives every line of a trace one score."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from training.baselines.columns import Columns, Floats, Ints, Labelled
from training.metrics import Span

__all__ = ["Baseline", "DeadlineFitted", "DeadlineScoring", "DeadlineWatch", "Fitted", "Scoring"]


class Scoring(Protocol):
    """Scores one trace, batch by batch; how it is cut into batches changes nothing."""

    def scores(self, lines: Columns) -> Floats:
        """Scores of the next lines, finite, higher for stranger, shape (lines,); later lines change none."""
        ...

    def gap(self) -> None:
        """The next line does not follow the last one: the capture was interrupted."""
        ...


class Fitted(Protocol):
    """A baseline that has learned; every trace is scored by a scoring of its own."""

    def begin(self) -> Scoring:
        """A fresh scoring, for one trace."""
        ...


@runtime_checkable
class DeadlineScoring(Scoring, Protocol):
    """A scoring that knows how late a message is that has not come."""

    def overdue(self, now_ns: int) -> tuple[Ints, Floats]:
        """PDUs that are behind their cycle at a time, and their scores if they came only then."""
        ...


class DeadlineWatch(Protocol):
    """Tells of messages that are missing when their deadline passes, at one threshold."""

    def add(self, lines: Columns) -> None:
        """Take the next lines."""
        ...

    def gap(self) -> None:
        """As in `Scoring`."""
        ...

    def spans(self, join_ns: int) -> list[Span]:
        """Episodes of all lines so far, told at the deadline of what is missing; bus by bus, sorted."""
        ...


@runtime_checkable
class DeadlineFitted(Fitted, Protocol):
    """A fitted baseline that knows when a message that has not come exceeds a threshold."""

    def watch(self, threshold: float, sources: Sequence[str]) -> DeadlineWatch:
        """A fresh watch, for one trace.

        Args:
            threshold: of the scores that `begin` gives.
            sources: bus of each PDU, by number.
        """
        ...


class Baseline(Protocol):
    """A way to score lines.

    Attributes:
        name: in tables.
        needs_labels: whether it learns from an annotator's labels.
    """

    name: str
    needs_labels: bool

    def fit(self, clean: Sequence[Columns], labelled: Sequence[Labelled]) -> Fitted:
        """Learn; the same arguments give the same scores.

        Args:
            clean: pieces of clean traffic, each without interruption. A PDU that is in none is unknown.
            labelled: pieces of traffic with the labels of an annotator; only those that need labels look.

        Raises:
            InputError: there is too little to learn from.
        """
        ...
