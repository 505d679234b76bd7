"""Delta times in bins: what every tokenizer but the plain `bpe` says of them.

Where the PDU has a learned cycle the bin is `asinh((delta / cycle - 1) / 0.02)`, one of 128, which resolves
0.3 % of the cycle at nominal (the middle of bin 32) and covers 0 to 9,000 cycles; without a cycle it is one
of 64 logarithmic bins of the delta itself, 1 µs to 1,000 s.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ecustream.traffic import Line

__all__ = ["BINS", "BIN_NAMES", "NO_DELTA", "bins_of", "deltas_of", "middle_ns", "middles_us"]

_RELATIVE_BINS = 128
_LOG_BINS = 64
_SHARPNESS = 0.02
# The cycle itself lies in the middle of a bin; otherwise PDUs that are on time would halve between two.
_NOMINAL_BIN = 32
_BIN = math.asinh(1 / _SHARPNESS) / _NOMINAL_BIN
_LOW = -_NOMINAL_BIN * _BIN
_LOG_LOW_NS, _LOG_HIGH_NS = 1e3, 1e12

NO_DELTA = _RELATIVE_BINS + _LOG_BINS
"""The bin of a line without a delta time, the first of its PDU."""
BINS = NO_DELTA + 1
BIN_NAMES = (
    *(f"relative:{i}" for i in range(_RELATIVE_BINS)),
    *(f"log:{i}" for i in range(_LOG_BINS)),
    "none",
)
"""Names of the bins in their order: those relative to a cycle, the logarithmic ones, none."""


def deltas_of(lines: Sequence[Line]) -> npt.NDArray[np.float64]:
    """Delta times in ns, shape (lines,); -1 where there is none."""
    return np.array([-1.0 if line.delta_ns is None else line.delta_ns for line in lines])


def bins_of(deltas_ns: npt.NDArray[np.float64], cycles_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The bin of each delta time, 0 to `BINS` - 1, shape (n,).

    Args:
        deltas_ns: of `deltas_of`, shape (n,).
        cycles_ns: learned cycle of each line's PDU, 0 where it has none, shape (n,).
    """
    cyclic = cycles_ns > 0
    bins = _log_bins(deltas_ns) if not cyclic.all() else np.empty(len(deltas_ns), dtype=np.int64)
    if cyclic.any():
        relative = np.arcsinh((deltas_ns / np.where(cyclic, cycles_ns, 1.0) - 1) / _SHARPNESS)
        relative = np.clip(np.rint((relative - _LOW) / _BIN), 0, _RELATIVE_BINS - 1)
        np.copyto(bins, relative.astype(np.int64), where=cyclic)
    bins[deltas_ns < 0] = NO_DELTA
    return bins


def _log_bins(deltas_ns: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    logs = np.log(np.maximum(deltas_ns, _LOG_LOW_NS) / _LOG_LOW_NS) / math.log(_LOG_HIGH_NS / _LOG_LOW_NS)
    return _RELATIVE_BINS + np.clip(logs * _LOG_BINS, 0, _LOG_BINS - 1).astype(np.int64)


def middle_ns(delta_bin: int, cycle_ns: int) -> float | None:
    """The delta time in the middle of a bin, for a PDU of this cycle; None where it is no delta time."""
    if 0 <= delta_bin < _RELATIVE_BINS:
        return cycle_ns * (1 + _SHARPNESS * math.sinh(_LOW + delta_bin * _BIN))
    if _RELATIVE_BINS <= delta_bin < NO_DELTA:
        fraction = (delta_bin - _RELATIVE_BINS + 0.5) / _LOG_BINS
        return _LOG_LOW_NS * float((_LOG_HIGH_NS / _LOG_LOW_NS) ** fraction)
    return None


def middles_us(cycle_ns: int) -> npt.NDArray[np.int64]:
    """The middle of every bin in whole µs, shape (BINS,), -1 for `NO_DELTA`; for a PDU of this cycle.

    No two bins that its delta times can fall into have the same number: where two round to the same, as
    the bins of very short cycles and times do, the higher one is counted up by one.
    """
    middles = np.array([middle_ns(i, cycle_ns) or 0.0 for i in range(NO_DELTA)])
    whole = np.rint(middles / 1000).astype(np.int64)
    for part in (whole[:_RELATIVE_BINS], whole[_RELATIVE_BINS:]):
        steps = np.arange(len(part))
        part[:] = np.maximum.accumulate(part - steps) + steps
    return np.append(whole, -1)
