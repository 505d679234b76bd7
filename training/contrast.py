"""Windows with their labelled lines taken out, and how alike two windows look to a model."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ecustream.scoring.tokenizer import PAD_TOKEN

__all__ = ["labelled_inputs", "similarity", "without"]


def labelled_inputs(labelled: Tensor) -> Tensor:
    """Which input tokens are of a labelled line, from which targets are: bool, both (batch, length).

    Input t + 1 is target t. The first input is no target and takes the label of the token after it, which
    is its own where a window begins with a line of two tokens or more.
    """
    return torch.cat([labelled[:, :1], labelled[:, :-1]], dim=1)


def without(input_ids: Tensor, dropped: Tensor) -> Tensor:
    """`input_ids` (batch, length) without the tokens marked in `dropped`; ranks closed, padded at the end."""
    order = dropped.to(torch.int8).argsort(dim=1, stable=True)
    kept = (~dropped).sum(dim=1, keepdim=True)
    places = torch.arange(input_ids.shape[1], device=input_ids.device)
    return input_ids.gather(1, order).masked_fill(places >= kept, PAD_TOKEN)


def similarity(hidden: Tensor, input_ids: Tensor, other_hidden: Tensor, other_ids: Tensor) -> Tensor:
    """Cosine between the windows' mean hidden states, in fp32, shape (batch,); padding is left out.

    Args:
        hidden: last hidden states (batch, length, width) of the windows `input_ids` (batch, length).
        input_ids: their tokens; at least one of each window is no padding.
        other_hidden: those of the windows that they are compared with.
        other_ids: their tokens.
    """
    return F.cosine_similarity(_mean(hidden, input_ids), _mean(other_hidden, other_ids), dim=-1)


def _mean(hidden: Tensor, input_ids: Tensor) -> Tensor:
    real = (input_ids != PAD_TOKEN).unsqueeze(-1)
    return (hidden.float() * real).sum(dim=1) / real.sum(dim=1)
