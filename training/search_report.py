"""What a study found, for a person and for a program: a table, a plot and JSON."""

import math
from io import BytesIO, StringIO
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ecustream.errors import OutputError
from training.study import Study, Tried, setting_text, settings_text

__all__ = ["draw_history", "plot_study", "render_study", "study_sentence", "write_study_report"]

_COLUMNS = 3
_PANEL_INCHES = (4.2, 3.2)
_WIDE = 160
_FEW_VALUES = 8
_KINDS = (("complete", "o", "tab:blue"), ("pruned", "x", "tab:gray"))


def study_sentence(study: Study) -> str:
    """The best trial in a sentence."""
    best = study.best
    pruned = sum(t.value is None for t in study.trials)
    tried = f"trials of {study.name}: {len(study.trials)}, pruned: {pruned}"
    if best is None or best.value is None:
        return f"{tried}; none came to its end"
    return f"{tried}; best {study.metric} {best.value:.4g} with {settings_text(best.params)}"


def render_study(study: Study) -> Table:
    """A row a trial, best first, pruned ones last; the last row gives each setting's importance."""
    settings = _settings(study)
    facts = list(dict.fromkeys(key for t in study.trials for key in t.facts))
    table = Table(title=study_sentence(study))
    for heading in ("trial", study.metric, *settings, *facts, "s"):
        table.add_column(heading, justify="right")
    table.add_column("pruned", overflow="fold")
    for tried in _ranked(study):
        table.add_row(
            str(tried.number),
            "" if tried.value is None else f"{tried.value:.4f}",
            *(_cell(tried.params, key) for key in settings),
            *(_cell(tried.facts, key) for key in facts),
            f"{tried.seconds:.0f}",
            Text(tried.reason),
            style="bold" if tried is study.best else "dim" if tried.value is None else None,
        )
    if study.importance:
        table.add_section()
        shares = [
            f"{100 * study.importance[key]:.0f} %" if key in study.importance else "" for key in settings
        ]
        table.add_row("", "importance", *shares)
    return table


def plot_study(study: Study) -> bytes:
    """A PNG: the trials in order with the best so far, and a panel for each setting."""
    settings = _settings(study)
    rows = math.ceil((1 + len(settings)) / _COLUMNS)
    columns = min(_COLUMNS, 1 + len(settings))
    figure = Figure(figsize=(columns * _PANEL_INCHES[0], rows * _PANEL_INCHES[1]), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(study_sentence(study), fontsize=10, wrap=True)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for unused in axes[1 + len(settings) :]:
        unused.set_visible(False)
    draw_history(axes[0], study)
    for ax, key in zip(axes[1:], settings, strict=False):
        _draw_setting(ax, study, key)
    for ax in axes[: 1 + len(settings)]:
        ax.set_ylim(_limits(study))
        ax.set_ylabel(study.metric)
        ax.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    png = BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()


def write_study_report(study: Study, folder: Path) -> list[Path]:
    """Write `trials.txt`, `trials.json` and `trials.png` into the study's folder.

    Raises:
        OutputError: one of them cannot be written.
    """
    text = StringIO()
    Console(width=_WIDE, file=text).print(render_study(study))
    summary = {**msgspec.to_builtins(study, str_keys=True), "best": study.best and study.best.number}
    contents = {
        "trials.txt": text.getvalue().encode(),
        "trials.json": msgspec.json.format(msgspec.json.encode(summary), indent=1) + b"\n",
        "trials.png": plot_study(study),
    }
    return [_written(folder / name, content) for name, content in contents.items()]


def _written(path: Path, content: bytes) -> Path:
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_bytes(content)
        new.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}") from error
    return path


def _settings(study: Study) -> list[str]:
    return list(dict.fromkeys(key for t in study.trials for key in t.params))


def _share(study: Study, key: str) -> str:
    return f"{100 * study.importance[key]:.0f} %" if key in study.importance else ""


def _cell(values: dict[str, Any], key: str) -> str:
    return setting_text(values[key]) if key in values else ""


def _ranked(study: Study) -> list[Tried]:
    sign = 1 if study.direction == "minimize" else -1
    return sorted(
        study.trials, key=lambda t: (t.value is None, 0 if t.value is None else sign * t.value, t.number)
    )


def _seen(tried: Tried) -> float:
    """The value, or the last one of a pruned trial; not a number where there was none."""
    if tried.value is not None:
        return tried.value
    return tried.so_far[max(tried.so_far)] if tried.so_far else math.nan


def _limits(study: Study) -> tuple[float, float]:
    """What the panels show: all trials that came to their end, with room for marks at the edges."""
    values = [t.value for t in study.trials if t.value is not None] or [0.0]
    room = 0.12 * (max(values) - min(values)) or 0.1 * abs(max(values)) or 1.0
    return min(values) - room, max(values) + room


def _height(study: Study, tried: Tried) -> float:
    """Where a trial's mark lies: at the worse edge if it has no value, at the nearer one if it is off."""
    low, high = _limits(study)
    inside = 0.03 * (high - low)
    value = _seen(tried)
    if math.isnan(value):
        value = math.inf if study.direction == "minimize" else -math.inf
    return min(max(value, low + inside), high - inside)


def draw_history(ax: Axes, study: Study) -> None:
    """Draw the trials in order, and a line of the best so far."""
    for kind, mark, color in _KINDS:
        trials = [t for t in study.trials if (t.value is None) == (kind == "pruned")]
        heights = [_height(study, t) for t in trials]
        label = "pruned: last value, at the edge if off" if kind == "pruned" else kind
        ax.scatter([t.number for t in trials], heights, marker=mark, c=color, s=28, label=label)
    better = min if study.direction == "minimize" else max
    complete = [t for t in study.trials if t.value is not None]
    best = list(accumulate((t.value or 0.0 for t in complete), better))
    if best:
        numbers = [t.number for t in complete] + [study.trials[-1].number]
        ax.step(numbers, [*best, best[-1]], where="post", color="tab:orange", label="best so far")
    ax.set_xlabel("trial")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_setting(ax: Axes, study: Study, key: str) -> None:
    settings = [t.params[key] for t in study.trials if key in t.params]
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in settings)
    whole = all(isinstance(value, int) for value in settings)
    steps: dict[Any, int] | None = None
    if not numeric or (whole and len(set(settings)) <= _FEW_VALUES):
        ordered = sorted(set(settings)) if numeric else sorted(set(settings), key=str)
        steps = {value: place for place, value in enumerate(ordered)}
        ax.set_xticks(range(len(ordered)), [setting_text(value) for value in ordered])
        ax.set_xlim(-0.5, len(ordered) - 0.5)
    elif key in study.logarithmic:
        ax.set_xscale("log")
    for kind, mark, color in _KINDS:
        trials = [t for t in study.trials if (t.value is None) == (kind == "pruned") and key in t.params]
        places = [steps[t.params[key]] if steps else t.params[key] for t in trials]
        ax.scatter(places, [_height(study, t) for t in trials], marker=mark, c=color, s=28)
    if study.best is not None and study.best.value is not None:
        place = steps[study.best.params[key]] if steps else study.best.params[key]
        ax.scatter([place], [study.best.value], marker="o", s=110, facecolors="none", edgecolors="tab:orange")
    ax.set_xlabel(f"{key}, importance {_share(study, key)}" if key in study.importance else key)
