"""What every row of the reliability table is made of."""

from pathlib import Path
from typing import Literal, NamedTuple, Protocol

__all__ = ["Measure", "Row", "Scale", "Skipped", "amount", "times"]

Scale = Literal["short", "long"]
"""`short` takes seconds and is part of the tests; `long` is what the README's table says."""


class Skipped(Exception):  # noqa: N818 - no error: this machine cannot show it
    """The row cannot be measured on this machine; the text says what is missing."""


class Row(NamedTuple):
    """A measured row.

    Attributes:
        what: what was done to it, in a few words: the first column.
        how: how it was measured: counts, durations, rates.
        figure: what was seen, with units.
        holds: whether that is what is promised.
    """

    what: str
    how: str
    figure: str
    holds: bool


def amount(count: int) -> str:
    """How many, in a word where there are none."""
    return f"{count:,}" if count else "none"


def times(count: int) -> str:
    """How often, in words where it was once."""
    return "once" if count == 1 else f"{count} times"


class Measure(Protocol):
    """Measures one row; a module of this folder has it as `measure`, or several of them.

    Args:
        scale: how much is done.
        folder: empty, for files; it is deleted afterwards.

    Raises:
        Skipped: see there.
    """

    def __call__(self, scale: Scale, folder: Path) -> Row:
        """Measure it."""
