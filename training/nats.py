"""How well a model predicts traffic: nats a token, a line and a field, measured as it will be served."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
import torch.distributed
import torch.nn.functional as F  # noqa: N812

from ecustream.errors import InputError
from ecustream.scores import FIELDS
from ecustream.scoring.products import fast_products
from training.crops import windows_of
from training.shards import Shards
from training.splits import Part

__all__ = ["Nats", "measure"]

_TOKENS_AT_ONCE = 8192


class Nats(msgspec.Struct, frozen=True, kw_only=True):
    """Surprisal of traffic that a model reads.

    Attributes:
        per_token: mean surprisal of a token, nats.
        per_line: mean surprisal of a line, nats; what models with different tokenizers are compared by.
        per_field: nats a line of each of `ecustream.scores.FIELDS`; they add up to `per_line`.
        accuracy: share of tokens that were the most probable one in their place.
        field_accuracy: the same by field, of the tokens of that field.
        tokens_per_line: mean tokens of a line.
        lines: lines that were measured.
        tokens: their tokens.
    """

    per_token: float
    per_line: float
    per_field: dict[str, float]
    accuracy: float
    field_accuracy: dict[str, float]
    tokens_per_line: float
    lines: int
    tokens: int

    @property
    def perplexity(self) -> float:
        """What one token costs, exp of its mean nats: the choices that the model wavers between."""
        return math.exp(self.per_token) if self.per_token < 700 else math.inf


def measure(
    model: Any, shards: Shards, parts: Sequence[Part], length: int, *, most_tokens: int = 24 * 512
) -> Nats:
    """Nats of a model over the second halves of windows of traffic.

    There attention sees whole windows, and a recurrent state has had as many tokens to form; every window
    starts from nothing. Of all windows so many are taken, evenly spread over the parts, that some
    `most_tokens` tokens are scored. Processes of a distributed run share them out; each gets the same answer.

    Args:
        model: causal language model; it is left in the mode that it is in.
        shards: the traffic.
        parts: which lines of it.
        length: tokens of a window, two at least.
        most_tokens: how many are scored, roughly; at least one window is.

    Raises:
        InputError: no part has so many tokens.
    """
    starts = windows_of(parts, shards, length)
    if not len(starts):
        raise InputError(
            f"{shards.folder}: too little traffic to measure a model on: "
            f"needs a piece of {length} tokens at least"
        )
    half = length // 2
    wanted = min(len(starts), max(1, most_tokens // (length - half)))
    chosen = starts[np.arange(wanted) * len(starts) // wanted]
    sums = _sums(model, shards, chosen, length)
    tokens, lines = sums[:, _TOKENS].sum(), max(float(sums[:, _LINES].sum()), 1.0)
    return Nats(
        per_token=float(sums[:, _NATS].sum() / tokens),
        per_line=float(sums[:, _NATS].sum() / lines),
        per_field={name: float(sums[i, _NATS] / lines) for i, name in enumerate(FIELDS)},
        accuracy=float(sums[:, _HITS].sum() / tokens),
        field_accuracy={
            name: float(sums[i, _HITS] / max(sums[i, _TOKENS], 1)) for i, name in enumerate(FIELDS)
        },
        tokens_per_line=float(tokens / lines),
        lines=round(lines),
        tokens=round(float(tokens)),
    )


_NATS, _HITS, _TOKENS, _LINES = range(4)


@torch.no_grad()
def _sums(model: Any, shards: Shards, starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.float64]:
    """Of each field: nats, hits, tokens and lines, summed over all windows and processes; (fields, 4)."""
    device = next(model.parameters()).device
    spread = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank, processes = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if spread else (0, 1)
    mine, rows = starts[rank::processes], max(1, _TOKENS_AT_ONCE // length)
    half, width = length // 2, getattr(getattr(model, "config", None), "hidden_size", 0)
    sums = np.zeros((len(FIELDS), 4))
    training = model.training
    model.eval()
    for chunk in (mine[i : i + rows] for i in range(0, len(mine), rows)):
        at = chunk[:, None] + np.arange(length)
        ids = torch.from_numpy(shards.ids[at].astype(np.int64)).to(device)
        with fast_products(ids.numel(), width):
            logits = model(input_ids=ids).logits[:, half - 1 : -1].float()
        targets = ids[:, half:]
        nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        hits = (logits.argmax(dim=-1) == targets).flatten()
        scored = at[:, half:].ravel()
        fields = shards.fields[scored].astype(np.int64)
        first = _begins_line(shards, scored)
        for column, values in (
            (_NATS, nats.double().cpu().numpy()),
            (_HITS, hits.double().cpu().numpy()),
            (_TOKENS, None),
            (_LINES, first),
        ):
            sums[:, column] += np.bincount(fields, values, minlength=len(FIELDS))
    model.train(training)
    if spread:
        total = torch.from_numpy(sums).to(device)
        torch.distributed.all_reduce(total)
        sums[:] = total.cpu().numpy()
    return sums


def _begins_line(shards: Shards, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """1 for each token that is its line's first, else 0."""
    line = np.searchsorted(shards.first_token, tokens)
    firsts: npt.NDArray[np.float64] = (shards.first_token[line] == tokens).astype(np.float64)
    return firsts
