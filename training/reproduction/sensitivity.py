"""Runs of figure 6: single lines moved at many places, and one example as the paper draws it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ecustream.knowledge import calibration_of
from ecustream.scoring.bundle import Bundle
from ecustream.traffic import STATE_NORMAL, Line
from training.base import Base, open_base
from training.lora import open_model
from training.measures import theme
from training.measures.picture import svg_of
from training.moved_line import later_by_lines
from training.perturbation import perturb, read_pieces
from training.perturbation_report import picture
from training.reproduction.plan import PerturbRun
from training.reproduction.records import Perturbed
from training.reproduction.stage import Stage
from training.reproduction.verdicts import Bools, Floats

__all__ = ["lines_within", "perturb_start"]

_LINES, _FROM, _BY = 2000, 500, 1000
_TOP, _MEAN_OF, _EVERY = 5, 50, 10


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
                read = slice(first - context, first + _LINES)
                before, after = (_seen(base, log[read]) for log in (lines, later_by_lines(lines, at, _BY)))
                caption = (
                    f"Figure 6, an example: {lines[at].stream.name} disappears at line {_FROM} and comes "
                    f"back {_BY} lines later. The paper shows perplexity rise and top-k fall there. Top-k "
                    f"here: the share, of {_MEAN_OF} lines at a time, of lines whose tokens are all among "
                    f"the {_TOP} that the model held most probable; the paper does not say its k."
                )
                return caption, _painted(before, after)
    return None


class _Seen(NamedTuple):
    """The last lines of a log as the model sees them.

    Attributes:
        perplexity: shape (lines,).
        within: whether all tokens of a line are among the most probable ones, shape (lines,).
    """

    perplexity: Floats
    within: Bools


def _seen(base: Base, lines: Sequence[Line]) -> _Seen:
    scorer = Bundle(base.files).new_scorer()
    perplexity = scorer.score([(scorer.open_stream(), lines)])[0].perplexity()
    return _Seen(perplexity[-_LINES:], lines_within(base, lines)[-_LINES:])


@torch.no_grad()
def lines_within(base: Base, lines: Sequence[Line], top: int = _TOP) -> Bools:
    """Whether the tokens of a line are all among the `top` most probable ones in their places.

    Returns:
        Shape (lines,). Of the very first token nothing was expected: it counts as one of them.
    """
    encoded = base.tokenizer.fresh().encode(lines)
    ids = torch.from_numpy(encoded.ids)
    logits = open_model(base.path)(input_ids=ids[None]).logits[0, :-1]
    better = (logits > logits.gather(1, ids[1:, None])).sum(dim=1).numpy()
    within = np.ones(len(lines), np.bool_)
    within[encoded.line_of[1:][better >= top]] = False
    return within


def _painted(before: _Seen, after: _Seen) -> str:
    def paint(figure: Any) -> None:
        upper, middle, lower = figure.subplots(3, 1, sharex=True)
        both = ((upper, before, "as it was"), (middle, after, "one line moved"))
        highest = max(float(seen.perplexity.max()) for _, seen, _ in both)
        for axes, seen, name in both:
            axes.plot(np.arange(_LINES), seen.perplexity, color=theme.SCORE, linewidth=0.6)
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
            axes.set_ylim(0.9, highest * 1.3)
            axes.set_ylabel(f"perplexity,\n{name}")
        centres = np.arange(_MEAN_OF // 2, _LINES - _MEAN_OF // 2 + 1)[::_EVERY]
        for (_, seen, name), colour, dashes in zip(
            both, (theme.MUTED, theme.SCORE), ("--", "-"), strict=True
        ):
            means = np.convolve(seen.within, np.full(_MEAN_OF, 1 / _MEAN_OF), "valid")[::_EVERY]
            lower.plot(centres, means, color=colour, linestyle=dashes, linewidth=1.2, label=name)
        lower.yaxis.set_major_formatter("{x:.0%}")
        lower.set_ylabel(f"lines within\ntop {_TOP}")
        lower.set_xlabel("line of the log")
        lower.legend(frameon=False, fontsize=8, ncols=2)
        for axes in (upper, middle, lower):
            for edge in (_FROM, _FROM + _BY):
                axes.axvline(edge, color=theme.FAULT, linewidth=1.2, alpha=0.6)

    return svg_of("One line disappears and comes back", 5.6, paint)
