"""What a perturbation study found, as a table of the terminal, of a page, and as a picture."""

from rich.table import Table as TerminalTable

from training.measures.page import Cell, Table
from training.measures.sensitivity_plot import SensitivityCurve, plot_sensitivity
from training.perturbation import LEVEL, Sensitivity, Study

__all__ = ["picture", "render", "table"]


def render(study: Study) -> TerminalTable:
    """Rates of each size, and where they reach 90 %, as a terminal table."""
    made = table(study)
    out = TerminalTable(title=made.caption, title_justify="left")
    for number, column in enumerate(made.columns):
        out.add_column(column, justify="right" if number else "left", no_wrap=not number)
    for row in made.rows:
        out.add_row(*(str(cell) for cell in row))
    return out


def table(study: Study) -> Table:
    """The same as a table of a page."""
    unit = study.sizes.unit
    columns = ["detector", *(f"{amount:g} {unit}" for amount in study.sizes.amounts), f"{LEVEL:.0%} from"]
    rows: list[list[Cell]] = [
        [
            one.detector,
            *(f"{of.value:.0%}" for of in one.shares()),
            _reached(one, unit),
        ]
        for one in study.sensitivities
    ]
    widest = max(
        max(of.high - of.value, of.value - of.low) for one in study.sensitivities for of in one.shares()
    )
    caption = (
        f"Share noticed of {study.places} single lines moved by so many {unit}: by 0, where nothing was "
        f"moved. Exact 95 % intervals reach {100 * widest:.0f} points from these at most; in brackets where "
        "their ends reach 90 %."
    )
    return Table(caption, columns, rows)


def picture(study: Study) -> str:
    """The rates over size, as SVG."""
    return plot_sensitivity(
        f"One line moved by some {study.sizes.unit}",
        study.sizes.amounts,
        study.sizes.unit,
        [SensitivityCurve(one.detector, one.shares()) for one in study.sensitivities],
        LEVEL,
    )


def _reached(one: Sensitivity, unit: str) -> str:
    if one.low is None:
        return "beyond"

    def text(size: float | None) -> str:
        return "beyond" if size is None else f"{size:.3g}"

    size = "beyond" if one.size is None else f"{one.size:.3g} {unit}"
    return f"{size} ({text(one.low)} to {text(one.high)})"
