"""A picture of how often something is noticed, over how far it was moved."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from training.measures import theme
from training.measures.picture import svg_of
from training.measures.recall_plot import look
from training.measures.shares import Share

__all__ = ["SensitivityCurve", "plot_sensitivity"]


class SensitivityCurve(NamedTuple):
    """A detector's rates.

    Attributes:
        name: for the legend.
        shares: of the trials of each size that it noticed.
    """

    name: str
    shares: Sequence[Share]


def plot_sensitivity(
    title: str, sizes: Sequence[float], unit: str, curves: Sequence[SensitivityCurve], level: float = 0.9
) -> str:
    """Shares over sizes with their exact 95 % intervals; size 0 is what is noticed where nothing was moved.

    Args:
        title: what it is.
        sizes: ascending, as many as each curve has shares.
        unit: of the sizes.
        curves: detectors.
        level: drawn as a line.

    Returns:
        An `svg` element without links, the same for the same arguments.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    return svg_of(title, 4.2, lambda figure: _paint(figure, sizes, unit, curves, level))


def _paint(
    figure: Any, sizes: Sequence[float], unit: str, curves: Sequence[SensitivityCurve], level: float
) -> None:
    axes = figure.subplots()
    for number, curve in enumerate(curves):
        colour, dashes, marker = look(number)
        axes.fill_between(
            sizes,
            [one.low for one in curve.shares],
            [one.high for one in curve.shares],
            color=colour,
            alpha=0.13,
            linewidth=0,
        )
        axes.plot(
            sizes,
            [one.value for one in curve.shares],
            color=colour,
            linestyle=dashes,
            marker=marker,
            markersize=4.5,
            linewidth=1.6,
            label=curve.name,
        )
    axes.axhline(level, color=theme.MUTED, linewidth=0.8, linestyle=":")
    positive = [size for size in sizes if size > 0]
    # Straight below the smallest size, so that nothing has its place too.
    smallest = min(positive, default=1.0)
    axes.set_xscale("symlog", linthresh=smallest)
    axes.set_xlim(-0.2 * smallest, 1.2 * max(positive, default=1.0))
    axes.set_xticks(list(sizes), [f"{size:g}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(-0.03, 1.03)
    axes.grid(color=theme.GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"how far one line was moved, {unit} (bands: exact 95 % intervals)")
    axes.set_ylabel("share that was noticed")
    axes.yaxis.set_major_formatter("{x:.0%}")
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
