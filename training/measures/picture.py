"""A matplotlib figure as SVG text that loads nothing and does not depend on when it is made."""

import io
from collections.abc import Callable
from typing import Any

from ecustream.errors import ConfigError
from training.measures import theme

__all__ = ["svg_of"]

_WIDTH = 9.5


def svg_of(title: str, height: float, paint: Callable[[Any], None]) -> str:
    """Make a figure, let it be painted, and write it.

    Args:
        title: above the figure.
        height: of the figure in inches; its width is 9.5.
        paint: takes the matplotlib figure.

    Returns:
        An `svg` element in which text is text, without links.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("a picture needs matplotlib: pip install '.[train]'") from None
    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": f"picture: {title}",
        "text.parse_math": False,
        "font.size": 9.0,
        "text.color": theme.INK,
        "axes.labelcolor": theme.INK,
        "axes.edgecolor": theme.MUTED,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": theme.MUTED,
        "ytick.color": theme.MUTED,
        "xtick.labelcolor": theme.INK,
        "ytick.labelcolor": theme.INK,
    }
    text = io.StringIO()
    with mpl.rc_context(style):
        figure: Any = Figure(figsize=(_WIDTH, height), layout="constrained", facecolor=theme.PAPER)
        figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
        paint(figure)
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(text, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
