"""Runs of figure 6: single lines moved at many places, and one example as the paper draws it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ecustream.knowledge import calibration_of
from ecustream.scoring.bundle import Bundle
from ecustream.traffic import STATE_NORMAL, Line
from training.base import Base, open_base
from training.measures import theme
from training.measures.picture import svg_of
from training.moved_line import later_by_lines
from training.perturbation import perturb, read_pieces
from training.perturbation_report import picture
from training.reproduction.plan import PerturbRun
from training.reproduction.records import Perturbed
from training.reproduction.stage import Stage
from training.reproduction.verdicts import Floats

__all__ = ["perturb_start"]

_LINES, _FROM, _BY = 2000, 500, 1000


def perturb_start(stage: Stage, run: PerturbRun) -> tuple[Perturbed, list[tuple[str, str]]]:
    """Perturb the bundle of the start run; also its pictures.

    Raises:
        EcustreamError: see `training.perturbation.perturb`.
    """
    quiet = stage.traffic.quiet
    study = perturb(stage.bundle, [quiet], run.sizes, places=run.places, seed=stage.plan.seed)
    pictures = [
        (f"Figure 6 at {study.places} places: share noticed over size, in {run.sizes.unit}.", picture(study))
    ]
    if run.sizes.unit == "lines":
        example = _example(stage)
        if example is not None:
            pictures.append(example)
    return Perturbed(study=study), pictures


def _example(stage: Stage) -> tuple[str, str] | None:
    """2,000 lines of which one disappears at line 500 and comes back 1,000 lines later, as in the paper."""
    base = open_base(stage.bundle)
    cyclic = {pdu.key for pdu in calibration_of(base.files).pdus if pdu.cycle_ns}
    for lines in read_pieces(base, [stage.traffic.quiet]):
        context = min(len(lines) - _LINES, base.files.info.receptive_field_tokens)
        for at in range(context + _FROM, len(lines) - _LINES + _FROM) if context >= 0 else ():
            if lines[at].stream.key in cyclic and lines[at].state == STATE_NORMAL:
                first = at - _FROM
                before = _perplexity(base, lines[first - context : first + _LINES])[-_LINES:]
                changed = later_by_lines(lines, at, _BY)
                after = _perplexity(base, changed[first - context : first + _LINES])[-_LINES:]
                caption = (
                    f"Figure 6, an example: {lines[at].stream.name} disappears at line {_FROM} and comes "
                    f"back {_BY} lines later. The paper shows perplexity rise there; its top-k, which it "
                    "found to detect less, is left out."
                )
                return caption, _painted(before, after)
    return None


def _perplexity(base: Base, lines: Sequence[Line]) -> Floats:
    scorer = Bundle(base.files).new_scorer()
    return scorer.score([(scorer.open_stream(), lines)])[0].perplexity()


def _painted(before: Floats, after: Floats) -> str:
    def paint(figure: Any) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, sharey=True)
        highest = float(max(before.max(), after.max()))
        for axes, values, name in ((upper, before, "as it was"), (lower, after, "one line moved")):
            for edge in (_FROM, _FROM + _BY):
                axes.axvline(edge, color=theme.FAULT, linewidth=1.2, alpha=0.6)
            axes.plot(np.arange(len(values)), values, color=theme.SCORE, linewidth=0.6)
            axes.set_yscale("log")
            axes.set_ylim(0.9, highest * 1.3)
            axes.set_ylabel(f"perplexity, {name}")
        lower.set_xlabel("line of the log")

    return svg_of("One line disappears and comes back", 4.6, paint)
