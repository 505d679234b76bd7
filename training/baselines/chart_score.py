"""A control chart on the log interval of every PDU as a baseline."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from training.baselines.charts import Chart, Cusum, Ewma
from training.baselines.columns import Columns, Floats, Labelled
from training.baselines.occurrences import Occurrences, rows_by_pdu
from training.baselines.rhythm import Rhythm, learn_rhythms, log_intervals

__all__ = ["ChartScore", "cusum_score", "ewma_score"]


class ChartScore:
    """One chart for each PDU that comes often enough, in limits of its own; 1 is the worst of clean traffic.

    Means, standard deviations and limits are those of clean traffic. The limit is the highest value of the
    chart there, at least the usual one (3 for EWMA, 5 for CUSUM): a PDU that is sent faster while a
    function is active moves its chart far.

    A chart adds up small deviations to one side, as of a slow drift, and sees a clear one at once. A small
    one alone, and what intervals do not show, it does not see. Unknown PDUs score 0.

    Args:
        name: in tables.
        chart: its kind.
    """

    needs_labels = False

    def __init__(self, name: str, chart: type[Chart]) -> None:
        self.name = name
        self._chart = chart

    def fit(self, clean: Sequence[Columns], labelled: Sequence[Labelled]) -> "FittedCharts":
        """Learn means, standard deviations and limits.

        Raises:
            InputError: no PDU comes often enough.
        """
        rhythms = learn_rhythms(clean)
        limits = dict.fromkeys(rhythms, self._chart.usual_limit)
        for piece in clean:
            scores = ChartScoring(self._chart, rhythms, None).scores(piece)
            for pdu, rows in rows_by_pdu(piece.pdu):
                if pdu in limits:
                    limits[pdu] = max(limits[pdu], float(scores[rows].max()))
        return FittedCharts(self._chart, rhythms, limits)


class FittedCharts:
    """The kind of chart, and for each PDU by number its rhythm and limit."""

    def __init__(
        self, chart: type[Chart], rhythms: Mapping[int, Rhythm], limits: Mapping[int, float]
    ) -> None:
        self._chart = chart
        self._rhythms = rhythms
        self._limits = limits

    def begin(self) -> "ChartScoring":
        """A fresh scoring."""
        return ChartScoring(self._chart, self._rhythms, self._limits)


class ChartScoring:
    """Scores one trace; without limits in standard deviations, by charts that never start anew."""

    def __init__(
        self, chart: type[Chart], rhythms: Mapping[int, Rhythm], limits: Mapping[int, float] | None
    ) -> None:
        self._new_chart = chart
        self._rhythms = rhythms
        self._limits = limits
        self._charts: dict[int, Chart] = {}
        self._occurrences = Occurrences()

    def scores(self, lines: Columns) -> Floats:
        """Where the chart of each line's PDU stands, in its limits, shape (lines,)."""
        scores = np.zeros(len(lines.time_ns))
        for came in self._occurrences.add(lines):
            rhythm = self._rhythms.get(came.pdu)
            if rhythm is None:
                continue
            chart = self._charts.get(came.pdu)
            if chart is None:
                limit = math.inf if self._limits is None else self._limits[came.pdu]
                chart = self._charts[came.pdu] = self._new_chart(limit)
            deviations = (log_intervals(came.intervals_ns) - rhythm.log_mean) / rhythm.log_sd
            unit = 1.0 if self._limits is None else self._limits[came.pdu]
            scores[came.following] = chart.step(deviations) / unit
        return scores

    def gap(self) -> None:
        """Charts start anew."""
        self._occurrences.forget()
        self._charts.clear()


def ewma_score() -> ChartScore:
    """The EWMA chart as a baseline."""
    return ChartScore("EWMA", Ewma)


def cusum_score() -> ChartScore:
    """The CUSUM chart as a baseline."""
    return ChartScore("CUSUM", Cusum)
