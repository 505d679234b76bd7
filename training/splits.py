"""Which lines train, which validate and which test; never by overlapping or shuffled windows."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from ecustream.errors import ConfigError
from training.shards import Shards

__all__ = ["SHARES", "Part", "Split", "split", "split_drives"]

SHARES = (0.7, 0.1, 0.2)
"""Of every drive, in this order: what trains, what chooses the weights, and what is held out to the end."""


class Part(NamedTuple):
    """Consecutive lines of one drive: first_line:stop_line of its shards."""

    first_line: int
    stop_line: int


class Split(NamedTuple):
    """Parts that share no line."""

    train: list[Part]
    validation: list[Part]
    test: list[Part]


def split(
    shards: Shards,
    shares: tuple[float, float, float] = SHARES,
    by: Literal["time", "drive"] = "time",
) -> Split:
    """Split the drives of shards; see `split_drives`."""
    return split_drives([piece.lines for piece in shards.pieces], shares, by)


def split_drives(
    line_counts: Sequence[int],
    shares: tuple[float, float, float] = SHARES,
    by: Literal["time", "drive"] = "time",
) -> Split:
    """Split drives into parts to train, validate and test with.

    Args:
        line_counts: how many lines each drive has; parts number the lines of all drives through.
        shares: of the lines, for training, validation and test.
        by: `time` cuts every drive, its beginning for training and its end for test; a part that would have
            no line is left out. `drive` leaves drives whole and holds out the last ones: as near to the
            shares as whole drives allow, at least one each for validation and for test.

    Raises:
        ConfigError: the shares are not positive or do not add up to 1, or there are fewer than three drives
            to split by drive.
    """
    if not all(share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        given = ", ".join(f"{share:g}" for share in shares)
        raise ConfigError(
            f"the shares of training, validation and test must be positive and add up to 1: {given}"
        )
    ends = [shares[0], shares[0] + shares[1]]
    if by == "time":
        return _by_time(line_counts, ends)
    if by == "drive":
        return _by_drive(line_counts, ends)
    raise ConfigError(f"a split is by time or by drive, not by {by}")


def _by_time(line_counts: Sequence[int], ends: Sequence[float]) -> Split:
    out = Split([], [], [])
    first_line = 0
    for lines in line_counts:
        # Cut off instead of rounded, 0.7 + 0.1 of ten lines would be seven.
        edges = [0, *(round(lines * end) for end in ends), lines]
        for parts, first, stop in zip(out, edges, edges[1:], strict=False):
            if first < stop:
                parts.append(Part(first_line + first, first_line + stop))
        first_line += lines
    return out


def _by_drive(line_counts: Sequence[int], ends: Sequence[float]) -> Split:
    drives = len(line_counts)
    if drives < 3:
        raise ConfigError(
            f"a split by drive needs at least three traces, there {'is' if drives == 1 else 'are'} {drives}; "
            "split by time"
        )
    edges = np.cumsum([0, *line_counts])
    away = [np.abs(edges - end * edges[-1]) for end in ends]
    validation = 1 + int(np.argmin(away[0][1 : drives - 1]))
    test = validation + 1 + int(np.argmin(away[1][validation + 1 : drives]))
    parts = [Part(first, stop) for first, stop in pairwise(edges.tolist())]
    return Split(parts[:validation], parts[validation:test], parts[test:])
