"""A picture of a few seconds of simulated traffic: a row a PDU, a tick a message, faults shaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ecustream.errors import ConfigError, OutputError
from training.draws import IntArray
from training.labels import Context, Label

__all__ = ["PlotRow", "Traffic", "check_picture", "plot_traffic"]

SUFFIXES = (".png", ".svg", ".pdf")
DPI = 110
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 16.0, 2.9, 1.3, 0.75, 0.95
"""Inches: of the figure, and around the axes."""
ROWS_HEIGHT = 52.0
"""All rows together are no higher, inches."""
ROW_HEIGHT, LEAST_ROW_HEIGHT = 0.24, 0.11
STRIP_HEIGHT, STRIP_GAP = 0.2, 0.05
NAMED_ROWS = 200
"""With more rows, only those with faults or controls have names."""
VECTOR_POINTS = 20_000
"""More points than these are pixels in a vector format too."""
LANE_ROWS = 1.3
"""Height of a line of text above the rows, in rows."""
NARROWEST = 0.0015
"""A span is drawn no narrower than this share of the window."""

ECU_COLOURS = ("#1f5fa8", "#2a8a4a", "#7a4fa3", "#0f8a94", "#8a6a1f", "#44546a", "#3f7fd0", "#5c8a1f")
FAULT, CONTROL, MODE, GRID = "#d62828", "#1f78b4", "#b9a5d6", "#e6e6e6"
ACTIVITY_COLOURS = {0: "#d5d8dc", 1: "#bfe3c5", 2: "#ffe0a3"}
CONTROL_ALPHA = 0.12
FAULT_ALPHA = {1: 0.16, 2: 0.24, 3: 0.34, 4: 0.46}


@dataclass(frozen=True, slots=True)
class PlotRow:
    """A row: what sends at one height.

    Attributes:
        name: the PDU.
        group: the ECU; rows of one group are adjacent.
        timing: its cycle in words.
        cyclic: it is sent in cycles; others have dots for ticks.
    """

    name: str
    group: str
    timing: str
    cyclic: bool


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is to be seen; times are nanoseconds since 1970.

    Attributes:
        title: what it is.
        origin_ns: second 0 of the time axis.
        begin_ns: left end of the time axis.
        end_ns: right end.
        rows: from top to bottom.
        time_ns: when each message was sent, shape (messages,).
        row: index of its row, shape (messages,).
        labels: faults that overlap the time.
        context: activity states, modes and controls that overlap the time.
    """

    title: str
    origin_ns: int
    begin_ns: int
    end_ns: int
    rows: Sequence[PlotRow]
    time_ns: IntArray
    row: IntArray
    labels: Sequence[Label]
    context: Sequence[Context]


def check_picture(path: Path) -> None:
    """Refuse a path to which no picture could be written, before there is work in it.

    Raises:
        ConfigError: its suffix is none of a picture's.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{path}: a picture ends in {', '.join(SUFFIXES)}, not in {path.suffix!r}")


def plot_traffic(traffic: Traffic, path: Path) -> None:
    """Write a picture of traffic, a PNG, SVG or PDF file by its suffix.

    Raises:
        ConfigError: the suffix is another one, or matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    check_picture(path)
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("a picture needs matplotlib: pip install '.[train]'") from None
    # Text stays text in SVG files, and nothing in a file depends on when it is written.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ecustream", "hatch.linewidth": 0.5}):
        figure = Figure(dpi=DPI)
        FigureCanvasAgg(figure)
        _Picture(figure, traffic).draw()
        dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
        try:
            figure.savefig(path, metadata=dates.get(path.suffix))
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class _Span:
    """A time that is shaded, in seconds, on some rows; on all of them where `rows` is empty."""

    begin_s: float
    end_s: float
    rows: tuple[int, ...]
    text: str
    colour: str
    alpha: float


class _Picture:
    """Draws traffic on an empty figure.

    Lengths are inches; in the axes, x is seconds of the trace and y is the index of a row, downwards.
    """

    def __init__(self, figure: Any, traffic: Traffic) -> None:
        self._figure = figure
        self._traffic = traffic
        self._begin_s = self._seconds(traffic.begin_ns)
        self._end_s = self._seconds(traffic.end_ns)
        rows = max(len(traffic.rows), 1)
        shrunk = ROW_HEIGHT - (ROW_HEIGHT - LEAST_ROW_HEIGHT) * min(max(rows - 30, 0) / 170, 1)
        self._row_height = min(shrunk, ROWS_HEIGHT / rows)
        self._font = min(8.5, max(self._row_height * 72 * 0.8, 4.0))
        self._span_font = max(self._font, 6.0)
        self._groups = [
            (name, [index for index, _ in members])
            for name, members in groupby(enumerate(traffic.rows), key=lambda item: item[1].group)
        ]
        self._spans = self._find_spans()

    def _seconds(self, time_ns: int) -> float:
        return (time_ns - self._traffic.origin_ns) / 1e9

    def _find_spans(self) -> list[_Span]:
        index = {row.name: i for i, row in enumerate(self._traffic.rows)}
        spans = []
        narrowest = NARROWEST * (self._end_s - self._begin_s)
        marked: list[Label | Context] = [*self._traffic.labels]
        marked += [row for row in self._traffic.context if row.kind == "control"]
        for row in marked:
            begin_s = max(self._seconds(row.start_ns), self._begin_s)
            end_s = min(max(self._seconds(row.end_ns), begin_s + narrowest), self._end_s)
            rows = tuple(sorted(index[name] for name in row.pdus if name in index))
            if isinstance(row, Label):
                severity = 2 if row.severity is None else min(max(int(row.severity), 1), 4)
                text = row.kind if row.severity is None else f"{row.kind} (severity {row.severity:g})"
                spans.append(_Span(begin_s, end_s, rows, text, FAULT, FAULT_ALPHA[severity]))
            else:
                spans.append(_Span(begin_s, end_s, rows, f"{row.name} (control)", CONTROL, CONTROL_ALPHA))
        return spans

    def draw(self) -> None:
        """Draw everything."""
        context = self._traffic.context
        strips = {"activity state": [row for row in context if row.kind == "activity"]}
        for name in sorted({row.name for row in context if row.kind == "mode"}):
            strips[f"mode {name}"] = [row for row in context if (row.kind, row.name) == ("mode", name)]
        lanes = self._lanes()
        headroom = LANE_ROWS * (max(lanes.values()) + 1) if lanes else 0.3
        body = (len(self._traffic.rows) + headroom) * self._row_height
        self._height = TOP + len(strips) * (STRIP_HEIGHT + STRIP_GAP) + body + BOTTOM
        self._figure.set_size_inches(WIDTH, self._height)

        y = self._height - TOP
        for name, intervals in strips.items():
            y -= STRIP_HEIGHT
            self._draw_strip(self._axes(y, STRIP_HEIGHT), name, intervals)
            y -= STRIP_GAP
        axes = self._axes(BOTTOM, body)
        axes.set_ylim(len(self._traffic.rows) - 0.5, -0.5 - headroom)
        self._draw_groups(axes)
        self._draw_messages(axes)
        for span in self._spans:
            self._draw_span(axes, span, lanes.get(id(span)))
        self._draw_names(axes)
        self._draw_frame(axes)

    def _axes(self, bottom: float, height: float) -> Any:
        width = WIDTH - LEFT - RIGHT
        area = (LEFT / WIDTH, bottom / self._height, width / WIDTH, height / self._height)
        axes = self._figure.add_axes(area)
        axes.set_xlim(self._begin_s, self._end_s)
        for side in axes.spines.values():
            side.set_visible(False)
        return axes

    def _text_seconds(self, text: str, font: float) -> float:
        """About how wide a text is on the time axis."""
        inches = 0.62 * font / 72 * len(text)
        return inches / (WIDTH - LEFT - RIGHT) * (self._end_s - self._begin_s)

    def _lanes(self) -> dict[int, int]:
        """By identity of each span on all rows: in which line above them its text has room."""
        lanes: dict[int, int] = {}
        free_s: list[float] = []
        for span in sorted((s for s in self._spans if not s.rows), key=lambda s: s.begin_s):
            width_s = self._text_seconds(span.text, self._span_font)
            begin_s = min(span.begin_s, self._end_s - width_s)
            lane = next((i for i, free in enumerate(free_s) if free <= begin_s), len(free_s))
            free_s[lane : lane + 1] = [begin_s + width_s * 1.05]
            lanes[id(span)] = lane
        return lanes

    def _draw_strip(self, axes: Any, name: str, intervals: Sequence[Context]) -> None:
        axes.set_ylim(0, 1)
        axes.set_xticks([])
        axes.set_yticks([0.5], [name], fontsize=8)
        axes.tick_params(length=0)
        axes.set_facecolor("#f7f7f7")
        for row in intervals:
            begin_s = max(self._seconds(row.start_ns), self._begin_s)
            end_s = min(self._seconds(row.end_ns), self._end_s)
            colour = MODE if row.state is None else ACTIVITY_COLOURS.get(row.state, "#d5d8dc")
            axes.axvspan(begin_s, end_s, facecolor=colour, edgecolor="white")
            text = row.name if row.kind == "activity" else "active"
            if self._text_seconds(text, 6.8) < end_s - begin_s:
                axes.text((begin_s + end_s) / 2, 0.46, text, ha="center", va="center", fontsize=7.5)

    def _draw_groups(self, axes: Any) -> None:
        """A background and a name for the rows of each ECU."""
        for number, (name, rows) in enumerate(self._groups):
            colour = ECU_COLOURS[number % len(ECU_COLOURS)]
            upper, lower = rows[0] - 0.5, rows[-1] + 0.5
            if number % 2 == 0:
                axes.axhspan(upper, lower, facecolor="#f6f7f9", zorder=0)
            axes.axhline(lower, color="#c9ced6", linewidth=0.6, zorder=1)
            right = axes.get_yaxis_transform()
            axes.plot(
                [1.006, 1.006],
                [upper + 0.1, lower - 0.1],
                color=colour,
                linewidth=3,
                transform=right,
                clip_on=False,
                solid_capstyle="butt",
            )
            axes.text(
                1.014,
                (upper + lower) / 2,
                name,
                transform=right,
                color=colour,
                va="center",
                fontsize=min(10, max(self._font * 1.25, 7)),
                fontweight="bold",
            )

    def _draw_messages(self, axes: Any) -> None:
        traffic = self._traffic
        time_s = (traffic.time_ns - traffic.origin_ns) / 1e9
        cyclic = np.array([row.cyclic for row in traffic.rows], np.bool_)[traffic.row]
        height = self._row_height * 72
        pixels = len(time_s) > VECTOR_POINTS
        for number, (_, rows) in enumerate(self._groups):
            inside = (traffic.row >= rows[0]) & (traffic.row <= rows[-1])
            colour = ECU_COLOURS[number % len(ECU_COLOURS)]
            for marker, size, width, of_kind in (("|", 0.72, 0.7, cyclic), ("o", 0.3, 0, ~cyclic)):
                chosen = inside & of_kind
                axes.plot(
                    time_s[chosen],
                    traffic.row[chosen],
                    linestyle="none",
                    marker=marker,
                    color=colour,
                    markersize=size * height,
                    markeredgewidth=width,
                    rasterized=pixels,
                    zorder=3,
                )

    def _draw_span(self, axes: Any, span: _Span, lane: int | None) -> None:
        from matplotlib.patches import Rectangle

        width_s = span.end_s - span.begin_s
        style: dict[str, Any] = {"edgecolor": span.colour, "linewidth": 0.7, "zorder": 2}
        style["hatch"] = "////" if span.colour == CONTROL else None
        if lane is not None:
            axes.axvspan(span.begin_s, span.end_s, facecolor=(span.colour, span.alpha * 0.6), **style)
            self._draw_text(axes, span, -0.5 - LANE_ROWS * (lane + 0.5), beside=False)
            return
        first_rows = {next((row for row in rows if row in span.rows), -1) for _, rows in self._groups}
        for run in _runs(span.rows):
            corner = (span.begin_s, run[0] - 0.5)
            axes.add_patch(Rectangle(corner, width_s, len(run), facecolor=(span.colour, span.alpha), **style))
            if run[0] in first_rows:
                self._draw_text(axes, span, run[0], beside=True)

    def _draw_text(self, axes: Any, span: _Span, y: float, beside: bool) -> None:
        """The text of a span, on its right or, where there is no room, on its left."""
        gap_s = 0.003 * (self._end_s - self._begin_s)
        x, side = (span.end_s + gap_s if beside else span.begin_s), "left"
        if x + self._text_seconds(span.text, self._span_font) > self._end_s:
            x, side = (span.begin_s - gap_s if beside else self._end_s), "right"
        axes.text(
            x,
            y,
            span.text,
            ha=side,
            va="center",
            fontsize=self._span_font,
            fontweight="bold",
            color=span.colour,
            zorder=5,
            bbox={"boxstyle": "square,pad=0.08", "facecolor": "white", "alpha": 0.8, "linewidth": 0},
        )

    def _draw_names(self, axes: Any) -> None:
        rows = self._traffic.rows
        faults_last = sorted(self._spans, key=lambda span: span.colour == FAULT)
        marked = {row: span.colour for span in faults_last for row in span.rows}
        named = [i for i in range(len(rows)) if len(rows) <= NAMED_ROWS or i in marked]
        axes.set_yticks(named, [f"{rows[i].name}   {rows[i].timing}" for i in named], fontsize=self._font)
        axes.tick_params(axis="y", length=0, pad=3)
        for tick, i in zip(axes.get_yticklabels(), named, strict=True):
            tick.set_color(marked.get(i, "#222222"))

    def _draw_frame(self, axes: Any) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        axes.grid(axis="x", color=GRID, linewidth=0.7, zorder=0)
        axes.set_axisbelow(True)
        axes.tick_params(axis="x", labelsize=8, color=GRID, top=True, labeltop=False)
        axes.set_xlabel("time from the start of the trace (s)", fontsize=9)
        self._figure.text(
            LEFT / WIDTH, 1 - 0.42 / self._height, self._traffic.title, fontsize=12, va="center"
        )
        handles = [
            Line2D([], [], linestyle="none", marker="|", markersize=9, color="#444444", label="cyclic PDU"),
            Line2D([], [], linestyle="none", marker="o", markersize=4, color="#444444", label="event PDU"),
            *(
                Patch(color=FAULT, alpha=alpha, label=f"fault, severity {severity}")
                for severity, alpha in FAULT_ALPHA.items()
            ),
            Patch(
                facecolor=(CONTROL, CONTROL_ALPHA),
                edgecolor=CONTROL,
                hatch="////",
                label="control (no fault)",
            ),
        ]
        self._figure.legend(
            handles=handles,
            loc="lower center",
            ncols=len(handles),
            fontsize=8,
            frameon=False,
            bbox_to_anchor=(0.5, 0.08 / self._height),
        )


def _runs(rows: Sequence[int]) -> list[list[int]]:
    """Ascending numbers in runs without gaps."""
    keyed = groupby(enumerate(rows), key=lambda item: item[1] - item[0])
    return [[row for _, row in run] for _, run in keyed]
