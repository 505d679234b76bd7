"""Qwen2 trained with full attention, served as a sawtooth: context grows and restarts.

A model that saw nothing but whole texts of W tokens must never be rolled: it has not learned to do without
the first of them. So the cache grows to W tokens and goes on with one that holds only the younger half.
That one is filled while the older one is still in use (each token of its second half goes through both),
so no token waits for a restart. Every token is scored with the `W / 2` to `W - 1` tokens before it, exactly
as a whole forward pass over them does, at twice the cost of a rolling cache. The restarts lie at fixed
token numbers from the last reset, so chunks do not change scores. (The half-window evaluation of
llama.cpp's `perplexity` is the offline form of it.)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ecustream.errors import BundleError
from ecustream.scoring.network import Serving, Surprisal, check_parts, surprisal_of
from ecustream.scoring.products import exact_onednn
from ecustream.scoring.qwen2 import Qwen2Core, Window
from ecustream.scoring.qwen2_weights import Qwen2Weights

__all__ = ["SawtoothQwen2", "Teeth"]

_LONGEST = 1 << 17


class Teeth:
    """The state of one stream: the cache in use, and the one that takes over when it is full."""

    def __init__(self, weights: Qwen2Weights, length: int) -> None:
        self.front = Window(weights, length)
        self.back = Window(weights, length)
        self.since_reset = 0

    def reset(self) -> None:
        """Forget everything, as after a gap in the capture."""
        for window in (self.front, self.back):
            _restart(window)
        self.since_reset = 0


class SawtoothQwen2:
    """A frozen Qwen2 for scoring with full attention over its training length; a `Network`.

    Args:
        config: the Hugging Face `config.json` as a mapping.
        weights: tensors by Hugging Face name.
        length: tokens of the texts that it was trained on.
        max_chunk: tokens that one stream may add in a call.
        dtype: of products, keys and values.
        device: where it is computed.

    Raises:
        BundleError: a layer slides, a weight is missing or has the wrong shape, or `length` is below 2.
    """

    serving: Serving = "sawtooth"
    notes: Sequence[str] = ()

    def __init__(
        self,
        config: Mapping[str, Any],
        weights: Mapping[str, torch.Tensor],
        *,
        length: int,
        max_chunk: int = 1024,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        self.weights = Qwen2Weights(config, weights, dtype=dtype, device=device)
        if self.weights.window is not None:
            raise BundleError("config.json: a model with sliding layers is served from a rolling cache")
        if not 2 <= length <= _LONGEST:
            raise BundleError(f"bundle.json: window_tokens is {length}, but restarts need 2 to {_LONGEST}")
        self.length = length
        self.half = length // 2
        self.max_chunk = max_chunk
        self.vocab = self.weights.vocab
        self.warming_tokens = self.half
        # A token goes through both caches, with half the length behind it on average.
        self.flops_per_token = 2 * self.weights.flops_per_token(length / 2)
        self._core = Qwen2Core(self.weights, length)

    def warm_up(self) -> None:
        """See `Network.warm_up`."""
        exact_onednn()

    def new_stream(self) -> Teeth:
        """State of a new stream."""
        return Teeth(self.weights, self.length)

    @torch.inference_mode()
    def score(self, ids: npt.NDArray[np.int64], parts: Sequence[tuple[Teeth, int]]) -> Surprisal:
        """See `Network.score`."""
        counts = [count for _, count in parts]
        check_parts(len(ids), counts, self.max_chunk)
        nats, best = np.empty(len(ids), np.float32), np.empty(len(ids), np.int64)
        ends = np.cumsum(counts).tolist()
        todo = [(teeth, end - count, end) for (teeth, count), end in zip(parts, ends, strict=True) if count]
        while todo:
            pieces = [
                (teeth, first, min(last, first + self._until_turn(teeth))) for teeth, first, last in todo
            ]
            said = self._score_pieces(ids, pieces)
            taken = np.concatenate([np.arange(first, last) for _, first, last in pieces])
            nats[taken], best[taken] = said
            todo = [
                (teeth, stop, last)
                for (teeth, _, last), (_, _, stop) in zip(todo, pieces, strict=True)
                if stop < last
            ]
        return Surprisal(nats, best)

    def _until_turn(self, teeth: Teeth) -> int:
        """Tokens until the back cache joins in, or the front one is full."""
        filled, joins = teeth.front.filled, self.length - self.half
        return (joins if filled < joins else self.length) - filled

    def _score_pieces(
        self, ids: npt.NDArray[np.int64], pieces: Sequence[tuple[Teeth, int, int]]
    ) -> Surprisal:
        """Pieces of streams, none of which goes past a turn."""
        fronts = [(teeth.front, last - first) for teeth, first, last in pieces]
        joined = [piece for piece in pieces if piece[0].front.filled >= self.length - self.half]
        backs = [(teeth.back, last - first) for teeth, first, last in joined]
        tokens = torch.from_numpy(np.concatenate([ids[first:last] for _, first, last in pieces]))
        tokens = tokens.to(self.weights.device)
        again = [torch.from_numpy(ids[first:last]).to(self.weights.device) for _, first, last in joined]
        before = torch.stack([window.last_logits for window, _ in fronts])
        windows = [*fronts, *backs]
        logits = self._core.logits(torch.cat([tokens, *again]), windows)
        first = 0
        for window, count in windows:
            first += count
            window.position += count
            window.last_logits.copy_(logits[first - 1])
        for teeth, start, last in pieces:
            teeth.since_reset += last - start
            if teeth.front.filled == self.length:
                _restart(teeth.front)
                teeth.front, teeth.back = teeth.back, teeth.front
        return surprisal_of(logits[: len(tokens)], before, tokens, [count for _, count in fronts])


def _restart(window: Window) -> None:
    """Empty a cache; positions begin at 0 again, as they did in training."""
    window.reset()
    window.position = 0
