"""What a network owes the scorer: to continue token streams, each with a state of its own."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["AnyNetwork", "Network", "Serving", "StreamState", "Surprisal", "check_parts", "surprisal_of"]

Serving = Literal["rolling", "sawtooth", "recurrent"]
"""How an endless stream is served: by a rolling cache of a sliding window, by a cache that restarts with its
younger half whenever it is full, or by a recurrent state."""


class Surprisal(NamedTuple):
    """What a network says of n tokens.

    Attributes:
        nats: surprisal of each token, shape (n,).
        best: the token that was most probable in its place, shape (n,).
    """

    nats: npt.NDArray[np.float32]
    best: npt.NDArray[np.int64]


class StreamState(Protocol):
    """What a network remembers of one stream; `since_reset` counts its tokens since the start or a reset."""

    since_reset: int

    def reset(self) -> None:
        """Forget everything, as after a gap in the stream."""


StateT = TypeVar("StateT", bound=StreamState)


class Network(Protocol[StateT]):
    """A frozen causal language model that continues streams.

    How tokens are cut into calls, and which streams share a call, never changes a score by more than
    1e-4 nats (in fp32).

    Attributes:
        vocab: number of token ids.
        serving: how the state of an endless stream is kept bounded.
        warming_tokens: so many tokens after a reset have not yet the past that they have in a long stream.
        max_chunk: tokens that one stream may add in a call.
        flops_per_token: floating-point operations that a token needs in a full window, the formula being
            the network's own.
    """

    vocab: int
    serving: Serving
    warming_tokens: int
    max_chunk: int
    flops_per_token: int

    @property
    def notes(self) -> Sequence[str]:
        """What else is worth knowing about how it computes here, a few words each."""

    def warm_up(self) -> None:
        """Do now, once, what the first calls would otherwise have to wait for."""

    def new_stream(self) -> StateT:
        """State of a new stream."""

    def score(self, ids: npt.NDArray[np.int64], parts: Sequence[tuple[StateT, int]]) -> Surprisal:
        """Surprisal of the next tokens of some streams.

        The first token of a stream, and the first after a reset, is held against a uniform guess.

        Args:
            ids: the tokens, shape (n,), one stream after the other.
            parts: each stream with how many of the tokens are its own, 0 to `max_chunk`; no stream twice.

        Raises:
            ValueError: the counts do not add up to n, or one is larger than `max_chunk`.
        """


AnyNetwork = Network[Any]


def surprisal_of(
    logits: torch.Tensor, before: torch.Tensor, ids: torch.Tensor, counts: Sequence[int]
) -> Surprisal:
    """Surprisal of tokens from the logits after each of them.

    Args:
        logits: what follows each token, shape (n, vocab), one part after the other.
        before: what each part's first token was predicted from, shape (parts, vocab).
        ids: the tokens, shape (n,).
        counts: tokens of each part, none of them 0.
    """
    predicting = torch.cat([before[:1], logits[:-1]])
    first = 0
    for row, count in zip(before[1:], counts, strict=False):
        first += count
        predicting[first] = row
    nats = -torch.log_softmax(predicting, dim=1).gather(1, ids[:, None])[:, 0]
    # numpy finds the largest of a row ten times faster than torch does.
    return Surprisal(nats.cpu().numpy(), predicting.cpu().numpy().argmax(axis=1))


def check_parts(tokens: int, counts: Sequence[int], max_chunk: int) -> None:
    """Refuse counts that do not add up, or are too large for the states.

    Raises:
        ValueError: so.
    """
    if sum(counts) != tokens:
        raise ValueError(f"{tokens} tokens, but the streams' counts add up to {sum(counts)}")
    if any(not 0 <= count <= max_chunk for count in counts):
        raise ValueError(f"counts of {list(counts)} tokens, the states were made for 0 to {max_chunk}")
