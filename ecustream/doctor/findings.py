"""A finding: what was looked at, how it is, and what to do about it."""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

__all__ = ["LEVELS", "Figure", "Finding", "Level", "exit_code", "ok", "problem", "unchecked", "warning"]

Level = Literal["ok", "warning", "problem", "not checked"]
LEVELS: tuple[Level, ...] = ("ok", "warning", "problem", "not checked")
Figure = int | float | str | bool | None


class Finding(msgspec.Struct, frozen=True):
    """One finding.

    Attributes:
        check: what was looked at, one or two words.
        of: the interface or trace it is about; None where it is about the machine.
        level: `problem` where capture or scoring fails or what comes out is wrong, `warning` where it may.
        says: how it is, as a clause that begins with a small letter or a name.
        advice: what to do, where possible the command to type; None where all is well.
        figures: what was measured, by name with its unit.
    """

    check: str
    of: str | None
    level: Level
    says: str
    advice: str | None = None
    figures: dict[str, Figure] = {}


Figures = Mapping[str, Figure]


def ok(check: str, says: str, *, of: str | None = None, figures: Figures | None = None) -> Finding:
    """All is well."""
    return Finding(check, of, "ok", says, None, dict(figures or {}))


def warning(
    check: str, says: str, advice: str, *, of: str | None = None, figures: Figures | None = None
) -> Finding:
    """It works, but less well or less surely than it could."""
    return Finding(check, of, "warning", says, advice, dict(figures or {}))


def problem(
    check: str, says: str, advice: str | None, *, of: str | None = None, figures: Figures | None = None
) -> Finding:
    """It does not work; `advice` may be None only where `says` has it."""
    return Finding(check, of, "problem", says, advice, dict(figures or {}))


def unchecked(check: str, says: str, advice: str, *, of: str | None = None) -> Finding:
    """It could not be found out."""
    return Finding(check, of, "not checked", says, advice)


def exit_code(findings: Iterable[Finding]) -> int:
    """1 where there is a problem, else 0."""
    return int(any(finding.level == "problem" for finding in findings))
