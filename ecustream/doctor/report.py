"""Findings in a terminal, as lines, and as JSON."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape

from ecustream.doctor.findings import LEVELS, Finding

__all__ = ["print_finding", "print_sum", "report"]

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red", "not checked": "dim"}
_LEVEL_WIDTH = max(map(len, LEVELS))
_CHECK_WIDTH = 22


def print_finding(finding: Finding, console: Console) -> None:
    """One finding: in colours and indented on a terminal, elsewhere on one line."""
    whole = f"{finding.of} {finding.check}" if finding.of else finding.check
    if console.is_terminal:
        style = _STYLES[finding.level]
        head = f"[{style}]{finding.level:<{_LEVEL_WIDTH}}[/]  [bold]{escape(whole)}[/]"
        console.print(f"{head}  {escape(finding.says)}", highlight=False)
        if finding.advice:
            console.print(f"{'':<{_LEVEL_WIDTH}}  → {escape(finding.advice)}", highlight=False)
        return
    advice = f". {_sentence(finding.advice)}" if finding.advice else ""
    line = f"{finding.level:<{_LEVEL_WIDTH}}  {whole:<{_CHECK_WIDTH}}  {finding.says}{advice}"
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def print_sum(findings: Sequence[Finding], console: Console) -> None:
    """How many of which kind."""
    counts = Counter(finding.level for finding in findings)
    warnings, unchecked = counts["warning"], counts["not checked"]
    text = (
        f"{_counted(counts['problem'], 'problem')}, {_counted(warnings, 'warning')}, {unchecked} not checked"
    )
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def report(findings: Sequence[Finding], machine: str) -> dict[str, Any]:
    """All findings as one JSON object, `ecustream.doctor/1`; a finding has the fields of `Finding`."""
    counts = Counter(finding.level for finding in findings)
    return {
        "schema": "ecustream.doctor/1",
        "machine": machine,
        **{level.replace(" ", "_"): counts[level] for level in LEVELS},
        "findings": [msgspec.to_builtins(finding) for finding in findings],
    }


def _sentence(advice: str) -> str:
    return advice[0].upper() + advice[1:]


def _counted(count: int, word: str) -> str:
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"
