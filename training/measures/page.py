"""A report as one HTML page: tables and pictures, nothing to load, light, dark or on paper."""

import math
import re
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from training.measures import theme

__all__ = ["Cell", "Picture", "Section", "Table", "decimals_of", "number_text", "page"]

Cell = str | int | float | None


class Table(NamedTuple):
    """Rows under columns.

    Attributes:
        caption: what the numbers are, with their unit.
        columns: headings.
        rows: as many cells as columns each; the first names the row. Numbers are right-aligned, the floats
            of a column have as many decimals as its greatest needs for three digits, None is a dash.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


class Picture(NamedTuple):
    """A picture and what to see in it.

    Attributes:
        svg: an `svg` element, trusted: it is not escaped.
        caption: below it.
    """

    svg: str
    caption: str


class Section(NamedTuple):
    """A part of the page.

    Attributes:
        heading: of the part.
        text: paragraphs, an empty line between two; may be empty.
        parts: in order.
    """

    heading: str
    text: str
    parts: Sequence[Table | Picture] = ()


_STYLE = """
*{box-sizing:border-box}
body{margin:0;background:var(--cffffff);color:var(--c1b1f24);font:16px/1.5 system-ui,sans-serif}
main{max-width:74rem;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .6rem}
h2{font-size:1.2rem;margin:2.4rem 0 .5rem;padding-top:.6rem;border-top:1px solid var(--ce2e6eb)}
p{max-width:46rem;margin:.6rem 0}
.wide{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-size:.875em;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--c5b6673);padding:0 0 .4rem}
th,td{padding:.3em .8em;border-bottom:1px solid var(--ce2e6eb);text-align:left;vertical-align:top}
thead th{border-bottom:2px solid var(--c5b6673);vertical-align:bottom}
tbody th{font-weight:600;min-width:12em}
tbody tr:nth-child(even){background:var(--cf4f6f8)}
.n{text-align:right;white-space:nowrap}
thead .n{white-space:normal}
figure{margin:1.2rem 0}
figure svg{max-width:100%;height:auto}
figcaption{color:var(--c5b6673);font-size:.875em;max-width:46rem}
@media print{
body{font-size:10pt}main{max-width:none;padding:0}.wide{overflow:visible}
figure,tr{break-inside:avoid}h2,caption{break-after:avoid}thead{display:table-header-group}
}
"""


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole page; the same text for the same arguments.

    Args:
        title: its name.
        lead: paragraphs before the first section.
        sections: in order.

    Raises:
        ValueError: a row has not as many cells as its table has columns.
    """
    body = [f"<h1>{escape(title)}</h1>", _paragraphs(lead)]
    pictures = 0
    for section in sections:
        body += [f"<section><h2>{escape(section.heading)}</h2>", _paragraphs(section.text)]
        for part in section.parts:
            if isinstance(part, Table):
                body.append(_table(part))
            else:
                pictures += 1
                body.append(_picture(part, pictures))
        body.append("</section>")
    dark = f"@media screen and (prefers-color-scheme:dark){{:root{{{theme.declarations(dark=True)}}}}}"
    style = f":root{{color-scheme:light dark;{theme.declarations(dark=False)}}}{dark}{_STYLE}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style></head>\n"
        "<body><main>\n" + "\n".join(part for part in body if part) + "\n</main></body></html>\n"
    )


def _paragraphs(text: str) -> str:
    parts = [part.strip() for part in re.split(r"\n\s*\n", text)]
    return "\n".join(f"<p>{escape(part)}</p>" for part in parts if part)


def _table(table: Table) -> str:
    if any(len(row) != len(table.columns) for row in table.rows):
        raise ValueError(f"table {table.caption!r}: a row has more or fewer cells than there are columns")
    numeric = [
        all(not isinstance(row[i], str) for row in table.rows) and i > 0 for i in range(len(table.columns))
    ]
    head = "".join(
        f'<th scope="col"{_aligned(number)}>{escape(name)}</th>'
        for name, number in zip(table.columns, numeric, strict=True)
    )
    decimals = [decimals_of([row[i] for row in table.rows]) for i in range(len(table.columns))]
    rows = []
    for row in table.rows:
        texts = [_text(cell, places) for cell, places in zip(row, decimals, strict=True)]
        cells = [f'<th scope="row">{texts[0]}</th>'] if row else []
        cells += [
            f"<td{_aligned(not isinstance(cell, str))}>{text}</td>"
            for cell, text in zip(row[1:], texts[1:], strict=True)
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table><caption>{escape(table.caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _aligned(number: bool) -> str:
    return ' class="n"' if number else ""


def decimals_of(column: Sequence[Cell]) -> int | None:
    """Decimals that show three digits of the greatest float; None where another would show fewer than two."""
    sizes = [abs(cell) for cell in column if isinstance(cell, float) and math.isfinite(cell)]
    greatest = max(sizes, default=0.0)
    places = next((places for places, bound in ((3, 1.0), (2, 10.0), (1, 100.0)) if greatest <= bound), 0)
    return None if any(0 < size < 10.0 ** (1 - places) for size in sizes) else places


def _text(cell: Cell, decimals: int | None) -> str:
    return escape(cell) if isinstance(cell, str) else number_text(cell, decimals)


def number_text(cell: float | None, decimals: int | None) -> str:
    """A number, or a dash for none; floats with the decimals of their column, or else three digits."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        if decimals is None:
            return f"{cell:,.0f}" if abs(cell) >= 999.5 else f"{cell:.3g}"
        return f"{cell:,.{decimals}f}"
    return f"{cell:,}"


def _picture(picture: Picture, number: int) -> str:
    svg = theme.themed(picture.svg)
    # Names within a picture are its own; on one page they would meet those of other pictures.
    svg = re.sub(r'(\bid="|href="#|url\(#)', lambda hit: f"{hit[0]}p{number}-", svg)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(picture.caption)}" ', 1)
    return f"<figure>{svg}<figcaption>{escape(picture.caption)}</figcaption></figure>"
