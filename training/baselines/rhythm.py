"""What clean traffic says of the intervals of every PDU."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ecustream.errors import InputError
from training.baselines.columns import Columns, Floats, Ints
from training.baselines.occurrences import Occurrences
from training.calibrate import interval_bounds

__all__ = ["Rhythm", "learn_rhythms", "log_intervals"]

_LEAST_INTERVALS = 20
_LEAST_LOG_SD = 0.01
_LEAST_INTERVAL_NS = 1_000


class Rhythm(NamedTuple):
    """Intervals of one PDU in clean traffic.

    Attributes:
        cycle_ns: median interval where it is cyclic as `training.calibrate` has it, else 0.
        typical_ns: median interval; at least 1 µs.
        shortest_ns: shortest interval where it is cyclic; 0 if it is sent on change, too.
        longest_ns: longest interval where it is cyclic.
        log_mean: mean of the natural log of the interval in ns.
        log_sd: its standard deviation, at least 0.01, which is 1 % of the interval.
    """

    cycle_ns: int
    typical_ns: int
    shortest_ns: int
    longest_ns: int
    log_mean: float
    log_sd: float


def learn_rhythms(clean: Sequence[Columns]) -> dict[int, Rhythm]:
    """The rhythm of each PDU that came at least 20 times after itself, by its number.

    Raises:
        InputError: there is none.
    """
    intervals: dict[int, list[Ints]] = {}
    duration_ns = 0
    for piece in clean:
        if len(piece.time_ns):
            duration_ns += int(piece.time_ns.max() - piece.time_ns.min())
        for came in Occurrences().add(piece):
            intervals.setdefault(came.pdu, []).append(came.intervals_ns)
    rhythms = {}
    for pdu, parts in intervals.items():
        one = np.concatenate(parts)
        if len(one) < _LEAST_INTERVALS:
            continue
        two = np.concatenate([part[1:] + part[:-1] for part in parts])
        bounds = interval_bounds(one, two, len(one) + len(parts), duration_ns)
        logs = log_intervals(one)
        rhythms[pdu] = Rhythm(
            bounds.cycle_ns,
            max(int(np.median(one)), _LEAST_INTERVAL_NS),
            bounds.shortest_ns[0],
            bounds.longest_ns[0],
            float(logs.mean()),
            max(float(logs.std()), _LEAST_LOG_SD),
        )
    if not rhythms:
        raise InputError(f"too little clean traffic: no PDU comes more than {_LEAST_INTERVALS} times")
    return rhythms


def log_intervals(intervals_ns: Ints) -> Floats:
    """Natural logs of intervals in ns; below 1 µs they count as 1 µs."""
    logs: Floats = np.log(np.maximum(intervals_ns, _LEAST_INTERVAL_NS))
    return logs
