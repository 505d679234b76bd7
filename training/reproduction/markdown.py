"""A report as Markdown; pictures become files beside it."""

from collections.abc import Sequence

from training.measures.page import Cell, Picture, Section, Table, decimals_of, number_text

__all__ = ["markdown"]


def markdown(title: str, lead: str, sections: Sequence[Section]) -> tuple[str, dict[str, str]]:
    """The report as text, and its pictures as SVG by file name.

    Args:
        title: its name.
        lead: paragraphs before the first section.
        sections: in order.
    """
    blocks = [f"# {title}", lead]
    pictures: dict[str, str] = {}
    for section in sections:
        blocks += [f"## {section.heading}", section.text]
        for part in section.parts:
            if isinstance(part, Table):
                blocks += [part.caption, _table(part)]
            else:
                name = f"figure-{len(pictures) + 1}.svg"
                pictures[name] = part.svg
                blocks += [f"![]({name})", _caption(part)]
    return "\n\n".join(block for block in blocks if block) + "\n", pictures


def _caption(picture: Picture) -> str:
    return f"*{picture.caption}*"


def _table(table: Table) -> str:
    decimals = [decimals_of([row[i] for row in table.rows]) for i in range(len(table.columns))]
    rows = [[_text(cell, places) for cell, places in zip(row, decimals, strict=True)] for row in table.rows]
    numeric = [
        i > 0 and all(not isinstance(row[i], str) for row in table.rows) for i in range(len(table.columns))
    ]
    rule = ["---:" if number else "---" for number in numeric]
    return "\n".join(
        "| " + " | ".join(cells) + " |" for cells in [[*map(_escaped, table.columns)], rule, *rows]
    )


def _text(cell: Cell, decimals: int | None) -> str:
    return _escaped(cell) if isinstance(cell, str) else number_text(cell, decimals)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
