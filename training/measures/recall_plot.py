"""A picture of several detectors: faults found over false alarms an hour."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from training.measures import theme
from training.measures.events import EventMeasures
from training.measures.picture import svg_of

__all__ = ["RecallCurve", "look", "plot_recall"]

_MARKERS = "osD^vPX*"
_DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1)), (0, (3, 1, 1, 1)), "-", "--")


class RecallCurve(NamedTuple):
    """A detector at several settings.

    Attributes:
        name: for the legend.
        points: what it finds at each setting.
    """

    name: str
    points: Sequence[EventMeasures]


def plot_recall(title: str, curves: Sequence[RecallCurve]) -> str:
    """Event recall over false alarms an hour, a line for each detector.

    False alarms are on a logarithmic axis, where 0 has a place of its own at the left. A thin bar is the
    exact 95 % interval of the rate: what so few alarms, in so short a time, leave open.

    Args:
        title: what it is.
        curves: detectors; points that saw no fault or no time are left out.

    Returns:
        An `svg` element without links, the same for the same arguments.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    return svg_of(title, 4.6, lambda figure: _paint(figure, curves))


def look(number: int) -> tuple[str, Any, str]:
    """Colour, dashes and marker of a detector; those of the first 64 differ."""
    # After a round of colours the other two are one ahead.
    style = number + number // len(theme.DETECTORS)
    return (
        theme.DETECTORS[number % len(theme.DETECTORS)],
        _DASHES[style % len(_DASHES)],
        _MARKERS[style % len(_MARKERS)],
    )


def _paint(figure: Any, curves: Sequence[RecallCurve]) -> None:
    axes = figure.subplots()
    shown = [
        (curve.name, [p for p in curve.points if p.recall is not None and p.observed_ns]) for curve in curves
    ]
    rates = [point.false_alarms.per_hour for _, points in shown for point in points]
    positive = [rate for rate in rates if rate > 0]
    least = 10 ** math.floor(math.log10(min(positive, default=1.0)))
    most = 10 ** math.ceil(math.log10(max([*positive, least * 10])) + 1e-9)
    none = least / 3
    axes.set_xscale("log")
    axes.set_xlim(none / 1.6, most * 1.3)
    axes.set_ylim(-0.03, 1.03)
    axes.axvline(none * 1.7, color=theme.MUTED, linewidth=0.8, linestyle=":")
    powers = range(round(math.log10(least)), round(math.log10(most)) + 1)
    axes.set_xticks([none, *(10.0**p for p in powers)], ["0", *(f"{10.0**p:g}" for p in powers)])
    axes.minorticks_off()
    for number, (name, points) in enumerate(shown):
        points = sorted(points, key=lambda point: (point.false_alarms.per_hour, point.recall))
        colour, dashes, marker = look(number)
        x = [point.false_alarms.per_hour or none for point in points]
        y = [point.recall for point in points]
        bars = [(max(point.false_alarms.low, none), min(point.false_alarms.high, most)) for point in points]
        axes.hlines(
            y, [low for low, _ in bars], [high for _, high in bars], color=colour, linewidth=0.8, alpha=0.45
        )
        axes.plot(
            x,
            y,
            color=colour,
            linestyle=dashes,
            marker=marker,
            markersize=4.5,
            linewidth=1.6,
            label=name,
        )
    axes.grid(color=theme.GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("false alarms an hour (thin bars: exact 95 % interval)")
    axes.set_ylabel("share of the faults that were found")
    axes.yaxis.set_major_formatter("{x:.0%}")
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
