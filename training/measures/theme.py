"""Colours of pictures and pages, for light and dark surroundings and for print."""

import re

__all__ = [
    "AREA",
    "CONTEXT",
    "DETECTORS",
    "FALSE",
    "FAULT",
    "FOUND",
    "GRID",
    "INK",
    "MUTED",
    "PAPER",
    "SCORE",
    "declarations",
    "themed",
]

PAPER, INK, MUTED, GRID, AREA = "#ffffff", "#1b1f24", "#5b6673", "#e2e6eb", "#f4f6f8"
SCORE, FAULT, FOUND, FALSE, CONTEXT = "#3b6ea5", "#d98200", "#0a7f5a", "#c0392b", "#9aa3ad"
# Told apart by people who see red and green alike (after Okabe and Ito), and by lightness in print.
DETECTORS = ("#0072b2", "#d55e00", "#009e73", "#a8508a", "#8a6d00", "#33a6dd", "#55606c", "#7a2e2e")

_DARK = {
    PAPER: "#14181d",
    INK: "#e8ebee",
    MUTED: "#a3adb8",
    GRID: "#2d343c",
    AREA: "#1c2228",
    SCORE: "#7fb0e6",
    FAULT: "#f2a93b",
    FOUND: "#3fc295",
    FALSE: "#ff7a6b",
    CONTEXT: "#6b7580",
    "#0072b2": "#56b4e9",
    "#d55e00": "#ff8c42",
    "#009e73": "#2fcf9f",
    "#a8508a": "#dd8fc4",
    "#8a6d00": "#e0c04a",
    "#33a6dd": "#9fd8f7",
    "#55606c": "#b4bec8",
    "#7a2e2e": "#d98d8d",
}


def declarations(dark: bool) -> str:
    """The colours as CSS variables, for the inside of a rule."""
    return "".join(f"{_name(light)}:{other if dark else light};" for light, other in _DARK.items())


def themed(svg: str) -> str:
    """A picture whose colours are the page's variables, so that it turns dark with the page."""
    return re.sub(r"#[0-9a-f]{6}\b", lambda hit: f"var({_name(hit[0])})" if hit[0] in _DARK else hit[0], svg)


def _name(colour: str) -> str:
    return f"--c{colour[1:]}"
