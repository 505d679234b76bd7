"""Whether the bundle is fast enough here for the traffic that it was made of."""

from collections.abc import Mapping

from ecustream.doctor.facts.model import ModelFacts
from ecustream.doctor.findings import Figure, Finding, ok, problem, warning

__all__ = ["judge_pace", "judge_speed"]

_AMPLE = 0.5
_FASTER = "a smaller model, more cores (scoring.threads), or scoring.device"


def judge_speed(facts: ModelFacts) -> Finding:
    """The measured speed, against the bundle's own traffic."""
    own = facts.own_lines_per_s
    says = (
        f"{facts.served}; loaded in {facts.start_s:.1f} s; scores {facts.lines_per_s:,.0f} lines/s "
        f"({facts.threads} thread{'' if facts.threads == 1 else 's'}), its own traffic has {own:,.0f}"
    )
    figures = {
        "lines_per_s": round(facts.lines_per_s, 1),
        "own_lines_per_s": round(own, 1),
        "start_s": round(facts.start_s, 2),
        "threads": facts.threads,
    }
    return judge_pace("scoring", own, facts.lines_per_s, says, figures)


def judge_pace(
    check: str,
    lines_per_s: float,
    scored_per_s: float,
    says: str,
    figures: Mapping[str, Figure],
) -> Finding:
    """A finding on what comes against what can be scored.

    Args:
        check: its title.
        lines_per_s: what comes.
        scored_per_s: what can be scored.
        says: how it is.
        figures: what was measured.
    """
    if lines_per_s > scored_per_s:
        return problem(check, f"{says}: lines will be skipped", _FASTER, figures=figures)
    if lines_per_s > _AMPLE * scored_per_s:
        return warning(check, f"{says}: there is little to spare", _FASTER, figures=figures)
    return ok(check, says, figures=figures)
