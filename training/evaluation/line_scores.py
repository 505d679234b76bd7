"""One score for each line of a trace: what is ranked, drawn, and given a threshold in hindsight."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecustream.detect.calibration import Calibration, PduCalibration
from ecustream.detect.intervals import IntervalWatch
from ecustream.scores import FIELD_DELTA, FIELD_NAME, ScoreBlock
from ecustream.traffic import STATE_INIT

__all__ = ["EVIDENCE", "LineScores", "TraceScores"]

EVIDENCE = "evidence"
Floats = npt.NDArray[np.float32]


class TraceScores(NamedTuple):
    """Scores of a whole trace, shape (lines,) each.

    Attributes:
        times_ns: as captured, nearly in order.
        warming: where the model's receptive field was not yet full.
        columns: `perplexity`, `delta surprisal` and `name surprisal` (excess over the PDU's own onset, in its
            mean excesses), and `evidence`: the rarest that a line is by interval, delta time or name, in
            nats, before it accumulates or is debounced.
    """

    times_ns: npt.NDArray[np.int64]
    warming: npt.NDArray[np.bool_]
    columns: dict[str, Floats]


class LineScores:
    """Collects the scores of a trace.

    Args:
        calibration: what is ordinary for each PDU.
    """

    def __init__(self, calibration: Calibration) -> None:
        self._cal = calibration
        self._of_key = {pdu.key: pdu for pdu in calibration.pdus}
        self._slots: dict[int, tuple[PduCalibration | None, IntervalWatch | None]] = {}
        self._foreign = 0
        self._times: list[npt.NDArray[np.int64]] = []
        self._warming: list[npt.NDArray[np.bool_]] = []
        self._columns: dict[str, list[Floats]] = {
            name: [] for name in ("perplexity", "delta surprisal", "name surprisal", EVIDENCE)
        }

    def add(self, block: ScoreBlock, gap: bool) -> None:
        """Take the next lines; `gap`: they do not follow the ones before."""
        if gap:
            for _, watch in self._slots.values():
                if watch is not None:
                    watch.reset()
        times = np.array([line.time_ns for line in block.lines], np.int64)
        self._times.append(times)
        self._warming.append(block.warming)
        intervals = np.zeros(len(times))
        pdus: list[PduCalibration | None] = []
        for i, line in enumerate(block.lines):
            slot = self._slots.get(line.stream.index)
            if slot is None:
                slot = self._slots[line.stream.index] = self._slot(line.stream.key)
            pdu, watch = slot
            pdus.append(pdu)
            self._foreign += pdu is None
            if watch is not None and line.state != STATE_INIT:
                deviation = watch.arrive(line.time_ns)
                if deviation is not None:
                    intervals[i] = self._cal.interval.rarity(deviation.excess_cycles)
        self._put("perplexity", np.where(block.warming, 0.0, block.perplexity()))
        settled = np.array([pdu is not None for pdu in pdus]) & ~block.warming
        rarest = intervals
        for name, column, tail in (
            ("delta", FIELD_DELTA, self._cal.delta),
            ("name", FIELD_NAME, self._cal.name),
        ):
            onset = np.array([0.0 if pdu is None else getattr(pdu, f"{name}_onset_nats") for pdu in pdus])
            scale = np.array([1.0 if pdu is None else getattr(pdu, f"{name}_scale_nats") for pdu in pdus])
            nats = np.nan_to_num(block.field_nats[:, column].astype(np.float64), nan=-np.inf)
            excess = np.where(settled & (nats > -np.inf), (nats - onset) / scale, 0.0)
            self._put(f"{name} surprisal", excess)
            rarity = np.where(excess > 0, tail.at_zero_nats + excess / tail.scale, 0.0)
            rarest = np.maximum(rarest, np.minimum(nats, rarity))
        self._put(EVIDENCE, rarest)

    def _slot(self, key: str) -> tuple[PduCalibration | None, IntervalWatch | None]:
        pdu = self._of_key.get(key)
        return pdu, IntervalWatch(pdu) if pdu is not None and pdu.cycle_ns else None

    def _put(self, name: str, values: npt.NDArray[np.float64]) -> None:
        self._columns[name].append(values.astype(np.float32))

    def foreign_note(self, trace: str) -> str | None:
        """A sentence where most lines are of PDUs that the bundle does not know; else None."""
        lines = sum(len(times) for times in self._times)
        if 2 * self._foreign <= lines:
            return None
        return (
            f"{trace}: {self._foreign / lines:.0%} of its lines are of PDUs that the bundle does not know; "
            "is it of another vehicle or release?"
        )

    def finish(self) -> TraceScores:
        """All lines so far."""
        columns = {
            name: np.concatenate([np.zeros(0, np.float32), *parts]) for name, parts in self._columns.items()
        }
        times = np.concatenate([np.zeros(0, np.int64), *self._times])
        return TraceScores(times, np.concatenate([np.zeros(0, np.bool_), *self._warming]), columns)
