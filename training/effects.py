"""What fine-tuning did: how surprising labelled lines are beside the others, and how well that parts them."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812

from ecustream.errors import InputError
from ecustream.scores import FIELD_DELTA
from training.crops import windows_of
from training.ranking import auc, average_precision
from training.shards import Shards
from training.splits import Part

__all__ = ["Effects", "effects"]

_WINDOWS_AT_ONCE = 8
Nats = npt.NDArray[np.float32]


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """Surprisal of lines, and how well it tells labelled from unlabelled ones.

    None is what cannot be said: a mean of no lines, a ranking where one of the kinds is missing. "Delta"
    is the surprisal of a line's deltaTime tokens alone, of lines that have any.
    """

    unlabelled_lines: int
    labelled_lines: int
    unlabelled_nats_per_line: float | None
    labelled_nats_per_line: float | None
    auc: float | None
    average_precision: float | None
    delta_auc: float | None
    delta_average_precision: float | None


def effects(
    model: Any, shards: Shards, parts: Sequence[Part], length: int, *, most_tokens: int = 1_000_000
) -> Effects:
    """Surprisal of the whole lines in the second halves of windows, where there is context enough.

    Args:
        model: a causal language model of transformers; left in the mode that it was in.
        shards: traffic with labels.
        parts: what to score; their rest that fills no window is left out.
        length: tokens of a window, two at least.
        most_tokens: of longer parts, evenly spread windows of so many tokens in all are scored.

    Raises:
        InputError: the shards have no labels, or no part is as long as a window.
    """
    if shards.labelled is None:
        raise InputError(f"{shards.folder}: there are no labels to compare lines by")
    starts = windows_of(parts, shards, length)
    if not len(starts):
        raise InputError(f"{shards.folder}: no part to score has {length} tokens")
    starts = starts[:: math.ceil(len(starts) * length / max(most_tokens, length))]
    training = model.training
    model.eval()
    try:
        scored = [
            _lines(shards, int(start), row)
            for at in range(0, len(starts), _WINDOWS_AT_ONCE)
            for start, row in zip(
                *_nats(model, shards, starts[at : at + _WINDOWS_AT_ONCE], length), strict=True
            )
        ]
    finally:
        model.train(training)
    return _summary(*(np.concatenate(column) for column in zip(*scored, strict=True)))


class _Lines(NamedTuple):
    """Lines of one window: surprisal, that of the delta tokens (nan without any), label; shapes (n,)."""

    nats: Nats
    delta_nats: Nats
    labelled: npt.NDArray[np.bool_]


@torch.no_grad()
def _nats(
    model: Any, shards: Shards, starts: npt.NDArray[np.int64], length: int
) -> tuple[npt.NDArray[np.int64], Nats]:
    """First token of the second half of each window, and the surprisal of its tokens, a row a window."""
    half = length // 2
    ids = torch.from_numpy(
        np.stack([shards.ids[start : start + length] for start in starts]).astype(np.int64)
    )
    ids = ids.to(next(model.parameters()).device)
    logits = model(input_ids=ids).logits[:, half - 1 : -1].float()
    nats = F.cross_entropy(logits.transpose(1, 2), ids[:, half:], reduction="none")
    return starts + half, nats.cpu().numpy()


def _lines(shards: Shards, start: int, nats: Nats) -> _Lines:
    """The lines all of whose tokens are among those from `start` on that `nats` has."""
    assert shards.labelled is not None
    stop = start + len(nats)
    first_line = int(np.searchsorted(shards.first_token, start, side="left"))
    stop_line = max(int(np.searchsorted(shards.first_token, stop, side="right")) - 1, first_line)
    edges = shards.first_token[first_line : stop_line + 1] - start
    is_delta = shards.fields[start : start + edges[-1]] == FIELD_DELTA
    nats = nats[: edges[-1]]
    delta = np.add.reduceat(np.where(is_delta, nats, 0), edges[:-1])
    delta[~np.logical_or.reduceat(is_delta, edges[:-1])] = np.nan
    return _Lines(np.add.reduceat(nats, edges[:-1]), delta, shards.labelled[first_line:stop_line])


def _summary(nats: Nats, delta_nats: Nats, labelled: npt.NDArray[np.bool_]) -> Effects:
    has_delta = ~np.isnan(delta_nats)
    return Effects(
        unlabelled_lines=int((~labelled).sum()),
        labelled_lines=int(labelled.sum()),
        unlabelled_nats_per_line=_mean(nats[~labelled]),
        labelled_nats_per_line=_mean(nats[labelled]),
        auc=auc(nats, labelled),
        average_precision=average_precision(nats, labelled),
        delta_auc=auc(delta_nats[has_delta], labelled[has_delta]),
        delta_average_precision=average_precision(delta_nats[has_delta], labelled[has_delta]),
    )


def _mean(nats: Nats) -> float | None:
    return float(nats.mean(dtype=np.float64)) if len(nats) else None
