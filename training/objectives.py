"""What training minimises: cross-entropy, and the ways to keep a model unsure of known anomalies.

Symbols: N targets of a step, M of them labelled (tokens of a line that an annotator marked), p the
model's distribution of a target over the vocabulary of V tokens, surprisal -log p of what came.
Every loss is in nats, its sums divided by counts of the *whole* step: the shares of micro-batches and
of processes add up to it. With no label every one of them is plain cross-entropy.

A model's p of a token cannot see that token. So whatever raises surprisal at a known anomaly says
"this context is risky", for normal lines in the same context too; watch the surprisal of unlabelled lines.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ecustream.errors import ConfigError
from ecustream.scores import FIELDS
from training.contrast import labelled_inputs, similarity, without

__all__ = ["OBJECTIVES", "Counts", "Objective", "add", "count", "make_objective"]

OBJECTIVES = ("ce", "mask", "paper", "entropy", "outlier_exposure", "margin", "contrastive")
_IGNORED = -100
_COSINE_MARGIN = 0.5


class Counts(NamedTuple):
    """How much of what a step has, over all its micro-batches and processes.

    Attributes:
        targets: N, targets that are not ignored.
        labelled: M, those of a labelled line.
        windows: windows with a labelled target.
    """

    targets: int
    labelled: int
    windows: int


class Objective(Protocol):
    """A loss that micro-batches share."""

    @property
    def name(self) -> str:
        """One of `OBJECTIVES`."""

    def __call__(self, model: Any, inputs: Mapping[str, Tensor], counts: Counts) -> Tensor:
        """This micro-batch's share of the step's loss, in nats, a scalar to call `backward` on.

        Args:
            model: a causal language model of transformers, or a wrapper; called once.
            inputs: `input_ids`, `targets` (-100 is ignored), `labelled`, `fields`, each (batch, length),
                of the items of `training.crops`; `lane` and `fresh`, where there are, go to the model.
            counts: those of the whole step.
        """


def count(inputs: Mapping[str, Tensor]) -> Counts:
    """Counts of one micro-batch."""
    labelled = _labelled(inputs)
    targets = int((inputs["targets"] != _IGNORED).sum())
    return Counts(targets, int(labelled.sum()), int(labelled.any(dim=1).sum()))


def add(a: Counts, b: Counts) -> Counts:
    """Counts of two micro-batches together."""
    return Counts(a.targets + b.targets, a.labelled + b.labelled, a.windows + b.windows)


def make_objective(
    name: str,
    *,
    alpha: float = 0.5,
    margin_nats: float = 5.0,
    fields_of_tokens: npt.NDArray[np.int64] | None = None,
) -> Objective:
    """The objective called `name`.

    Args:
        name: one of `OBJECTIVES`; their classes and terms say what each is.
        alpha: weight of the term for labelled lines; "ce" and "mask" have none. Its meaning depends on
            the vocabulary, so it wants tuning for each tokenizer.
        margin_nats: surprisal that "margin" asks of a labelled token. 5 nats is 1 in 148: beyond what
            normal traffic does often, within what a uniform guess among the paper's 408 tokens (6 nats) has.
        fields_of_tokens: as `LineTokenizer.fields_of_tokens` gives it, (vocabulary,); with it
            "outlier_exposure" spreads a labelled token over its own field's tokens only.

    Raises:
        ConfigError: the name is unknown, or a number is outside what the objective is bounded for.
    """
    if name not in OBJECTIVES:
        raise ConfigError(f"objective '{name}' is not one of {', '.join(OBJECTIVES)}")
    if not (math.isfinite(alpha) and alpha >= 0):
        raise ConfigError(f"alpha of objective '{name}' must be a number from 0 up, not {alpha}")
    if name == "paper" and alpha > 1:
        raise ConfigError(
            f"alpha of objective 'paper' must be at most 1, not {alpha}: "
            "above it is unbounded: the loss of labelled tokens falls without end"
        )
    if not (math.isfinite(margin_nats) and margin_nats > 0):
        raise ConfigError(f"margin_nats must be a number above 0, not {margin_nats}")
    if name == "paper":
        return Paper(alpha)
    if name == "contrastive":
        return Contrastive(alpha)
    if name == "entropy":
        return Regularised(name, alpha, True, _minus_entropy)
    if name == "outlier_exposure":
        return Regularised(name, alpha, False, _Exposure(fields_of_tokens))
    if name == "margin":
        return Regularised(name, alpha, False, _Margin(margin_nats))
    return Regularised(name, 0.0, name == "ce", None)


class _Labelled(NamedTuple):
    """The m labelled targets of a micro-batch: log p (m, V) in fp32, surprisal (m,), field (m,)."""

    log_p: Tensor
    nats: Tensor
    fields: Tensor


_Term = Callable[[_Labelled], Tensor]
"""A term for labelled targets, in nats each, shape (m,)."""


@dataclass(frozen=True)
class Regularised:
    """Mean cross-entropy + alpha x mean of a term over the labelled targets.

    The means have denominators of their own, N (or N - M without the labelled targets) and M: a step
    with one label and a step with a hundred weigh the term alike.
    """

    name: str
    alpha: float
    learns_labelled: bool
    term: _Term | None

    def __call__(self, model: Any, inputs: Mapping[str, Tensor], counts: Counts) -> Tensor:
        """See `Objective`."""
        log_p = _log_p(_call(model, inputs).logits)
        nats, labelled = _nats(log_p, inputs), _labelled(inputs)
        if self.learns_labelled:
            loss = nats.sum() / max(counts.targets, 1)
        else:
            loss = nats.masked_fill(labelled, 0.0).sum() / max(counts.targets - counts.labelled, 1)
        if self.term is None:
            return loss
        known = _Labelled(log_p[labelled], nats[labelled], inputs["fields"][labelled])
        return loss + self.alpha * self.term(known).sum() / max(counts.labelled, 1)


def _minus_entropy(labelled: _Labelled) -> Tensor:
    """sum_v p_v log p_v: Shannon's entropy, as the paper's prose and figure 4 have it, to be raised.

    Its gradient on the logits, p (log p + H), vanishes where p is peaked: a sure model is moved last.
    """
    return (labelled.log_p.exp() * labelled.log_p).sum(dim=-1)


class _Exposure:
    """Cross-entropy of a uniform distribution against p (Hendrycks et al. 2019, arXiv 1812.04606).

    The uniform distribution is over the tokens of the target's own field, -mean_(v in field) log p_v:
    p itself is not renormalised, so mass on other fields' tokens, which cannot come here, costs too.
    Fields that no token is of alone, and all fields without `fields_of_tokens`, take the whole
    vocabulary. The gradient on the logits, p - uniform, is bounded and stays where p is peaked.
    """

    def __init__(self, fields_of_tokens: npt.NDArray[np.int64] | None) -> None:
        self.uniform: Tensor | None = None
        if fields_of_tokens is not None:
            # One row a field and a last one, which index -1 finds, for targets of none.
            fields = torch.as_tensor(fields_of_tokens)
            rows = [fields == field for field in range(len(FIELDS))]
            rows.append(torch.ones_like(rows[0]))
            weights = torch.stack([row if row.any() else rows[-1] for row in rows]).float()
            self.uniform = weights / weights.sum(dim=1, keepdim=True)

    def __call__(self, labelled: _Labelled) -> Tensor:
        if self.uniform is None:
            return -labelled.log_p.mean(dim=-1)
        self.uniform = self.uniform.to(labelled.log_p.device)
        return -(self.uniform[labelled.fields] * labelled.log_p).sum(dim=-1)


class _Margin:
    """max(0, margin - surprisal): known anomalies are pushed away from normal, but no farther than that.

    The deviation loss of FATE (arXiv 2308.11780), with surprisal in nats for its score.
    """

    def __init__(self, margin_nats: float) -> None:
        self.margin_nats = margin_nats

    def __call__(self, labelled: _Labelled) -> Tensor:
        return (self.margin_nats - labelled.nats).clamp(min=0.0)


@dataclass(frozen=True)
class Paper:
    """Equation 3 of the paper (arXiv 2507.01077) to the letter: cross-entropy - alpha x equation 2.

    Equation 2, called entropy there, is the summed surprisal of the labelled tokens. So this is
    cross-entropy with labelled tokens weighted 1 - alpha: below 1 they are still learned, only less;
    above 1 their loss would fall without end. Both sums have the same denominator N. Were the second
    a mean over the M labelled tokens, each would weigh 1/N - alpha/M, which is negative, and diverges,
    for every alpha > M/N, that is nearly always.
    """

    alpha: float
    name: str = "paper"

    def __call__(self, model: Any, inputs: Mapping[str, Tensor], counts: Counts) -> Tensor:
        """See `Objective`."""
        nats = _nats(_log_p(_call(model, inputs).logits), inputs)
        return (nats.sum() - self.alpha * nats[_labelled(inputs)].sum()) / max(counts.targets, 1)


@dataclass(frozen=True)
class Contrastive:
    """Mean cross-entropy + alpha x mean over windows with labels of max(0, cosine - 0.5).

    The paper's other objective: a window's embedding, the mean of its last hidden states, shall differ
    from that of the same window without its labelled lines. The paper gives no formula; the hinge (an
    angle of 60 degrees is enough) keeps it bounded. A window whose labelled lines are all of it, or
    begin with its last target, has nothing to compare and adds nothing.
    """

    alpha: float
    name: str = "contrastive"

    def __call__(self, model: Any, inputs: Mapping[str, Tensor], counts: Counts) -> Tensor:
        """See `Objective`.

        Raises:
            ConfigError: the inputs are chunks of lanes; what state a repaired chunk begins with is unknown.
        """
        if "lane" in inputs:
            raise ConfigError("objective 'contrastive' compares whole windows, not chunks of carried lanes")
        ids, dropped = inputs["input_ids"], labelled_inputs(inputs["labelled"])
        compared = _labelled(inputs).any(dim=1) & dropped.any(dim=1) & ~dropped.all(dim=1)
        repaired = without(ids[compared], dropped[compared])
        # One call, so that wrappers that gather gradients over processes see one forward pass.
        output = model(input_ids=torch.cat([ids, repaired]), output_hidden_states=True)
        loss = _nats(_log_p(output.logits[: len(ids)]), inputs).sum() / max(counts.targets, 1)
        hidden = output.hidden_states[-1]
        alike = similarity(hidden[: len(ids)][compared], ids[compared], hidden[len(ids) :], repaired)
        penalty = (alike - _COSINE_MARGIN).clamp(min=0.0)
        return loss + self.alpha * penalty.sum() / max(counts.windows, 1)


def _call(model: Any, inputs: Mapping[str, Tensor]) -> Any:
    lanes = {key: inputs[key] for key in ("lane", "fresh") if key in inputs}
    return model(input_ids=inputs["input_ids"], **lanes)


def _log_p(logits: Tensor) -> Tensor:
    return F.log_softmax(logits.float(), dim=-1)


def _nats(log_p: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """Surprisal of each target, (batch, length); 0 of ignored ones."""
    targets = inputs["targets"]
    nats = F.nll_loss(log_p.flatten(0, 1), targets.flatten(), ignore_index=_IGNORED, reduction="none")
    return nats.view_as(targets)


def _labelled(inputs: Mapping[str, Tensor]) -> Tensor:
    """Targets of labelled lines that are not ignored, bool (batch, length)."""
    return inputs["labelled"] & (inputs["targets"] != _IGNORED)
