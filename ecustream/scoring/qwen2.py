"""Qwen2 with a sliding window in every layer, computed over rolling key/value caches on a CPU.

A cache holds keys and values in order in a buffer of `2 * window + max_chunk` positions; when a chunk
does not fit, the last `window - 1` positions move to the front. A token therefore attends to exactly
the same `window` positions (itself included) as in one whole forward pass with the sliding-window mask
that the model was trained with, and a stream costs the same after any number of tokens.
Hugging Face's `Qwen2ForCausalLM` is the oracle in the tests.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812

from ecustream.scoring.attention import WindowAttention
from ecustream.scoring.network import Serving, Surprisal, check_parts, surprisal_of
from ecustream.scoring.products import exact_onednn, fast_products, round_rows
from ecustream.scoring.qwen2_weights import Qwen2Weights

__all__ = ["Qwen2", "Window", "receptive_field"]

_ROTATIONS_AHEAD = 1024


def receptive_field(layers: int, window: int) -> int:
    """Tokens back from a token, itself included, that can influence its score."""
    return layers * (window - 1) + 1


class Window:
    """The state of one stream: its cached keys and values, its position, and what follows its last token."""

    def __init__(self, weights: Qwen2Weights, capacity: int) -> None:
        shape = (weights.layers, 2, weights.kv_heads, capacity, weights.head_dim)
        self.cache = torch.zeros(shape, dtype=weights.dtype, device=weights.device)
        self.filled = 0
        self.position = 0
        self.since_reset = 0
        self.last_logits = torch.zeros(weights.vocab, device=weights.device)
        self._rope = weights.rope
        self._rotations = weights.rope.rotations(0, _ROTATIONS_AHEAD)
        self._rotations_from = 0

    def reset(self) -> None:
        """Forget everything, as after a gap in the capture."""
        self.filled = 0
        self.since_reset = 0
        # Nothing came before the first token: a uniform guess.
        self.last_logits.zero_()

    def rotations(self, count: int) -> torch.Tensor:
        """Rotations of the next `count` positions, made for many chunks at once."""
        first = self.position - self._rotations_from
        if first < 0 or first + count > len(self._rotations):
            self._rotations = self._rope.rotations(self.position, max(count, _ROTATIONS_AHEAD))
            self._rotations_from, first = self.position, 0
        return self._rotations[first : first + count]


class Qwen2:
    """A frozen Qwen2 for scoring; a `Network` served from a rolling cache.

    Args:
        config: the Hugging Face `config.json` as a mapping.
        weights: tensors by Hugging Face name.
        max_chunk: tokens that one stream may add in a call.
        dtype: of products, keys and values; what is summed over layers stays in fp32.

    Raises:
        BundleError: not every layer slides, or a weight is missing or has the wrong shape.
    """

    serving: Serving = "rolling"
    notes: Sequence[str] = ()

    def __init__(
        self,
        config: Mapping[str, Any],
        weights: Mapping[str, torch.Tensor],
        *,
        max_chunk: int = 1024,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.weights = Qwen2Weights(config, weights, dtype=dtype)
        self.window = self.weights.rolling_window()
        self.max_chunk = max_chunk
        self.layers = self.weights.layers
        self.vocab = self.weights.vocab
        self.warming_tokens = receptive_field(self.layers, self.window)
        self.flops_per_token = self.weights.flops_per_token(self.window)
        self._core = Qwen2Core(self.weights, self.window)

    def warm_up(self) -> None:
        """See `Network.warm_up`."""
        exact_onednn()

    def new_stream(self) -> Window:
        """State of a new stream."""
        return Window(self.weights, 2 * self.window + self.max_chunk)

    @torch.inference_mode()
    def score(self, ids: npt.NDArray[np.int64], parts: Sequence[tuple[Window, int]]) -> Surprisal:
        """See `Network.score`."""
        parts = [(window, count) for window, count in parts if count]
        check_parts(len(ids), [count for _, count in parts], self.max_chunk)
        if not parts:
            return Surprisal(np.empty(0, np.float32), np.empty(0, np.int64))
        tokens = torch.from_numpy(ids)
        before = torch.stack([window.last_logits for window, _ in parts])
        logits = self._logits(tokens, parts)
        return surprisal_of(logits, before, tokens, [count for _, count in parts])

    @torch.inference_mode()
    def logits(self, ids: torch.Tensor, window: Window) -> torch.Tensor:
        """Logits after each of the n tokens of one stream, shape (n, vocab); the stream moves on by n."""
        check_parts(len(ids), [len(ids)], self.max_chunk)
        return self._logits(ids, [(window, len(ids))])

    def _logits(self, ids: torch.Tensor, parts: Sequence[tuple[Window, int]]) -> torch.Tensor:
        for window, count in parts:
            self._make_room(window, count)
        logits = self._core.logits(ids, parts)
        first = 0
        for window, count in parts:
            window.position += count
            window.since_reset += count
            first += count
            window.last_logits.copy_(logits[first - 1])
        return logits

    def _make_room(self, window: Window, count: int) -> None:
        keep = min(window.filled, self.window - 1)
        if window.filled + count > window.cache.shape[3]:
            kept = window.cache[:, :, :, window.filled - keep : window.filled].clone()
            window.cache[:, :, :, :keep] = kept
            window.filled = keep


class Qwen2Core:
    """The layers, over any caches that have room: tokens in, logits out.

    Args:
        weights: what is computed with.
        window: tokens that a token attends to, itself included.
    """

    def __init__(self, weights: Qwen2Weights, window: int) -> None:
        self._w = weights
        self._attend = WindowAttention(window, weights.heads, weights.kv_heads, weights.dtype, weights.device)
        self._norm_scale = weights.hidden**-0.5
        self._root_eps = torch.tensor(weights.eps, device=weights.device).sqrt()

    def logits(self, ids: torch.Tensor, parts: Sequence[tuple[Window, int]]) -> torch.Tensor:
        """Logits after each token, shape (n, vocab); keys and values are appended to the caches."""
        rows = round_rows(len(ids), self._w.hidden)
        with fast_products(rows, self._w.hidden):
            return self._forward(F.pad(ids, (0, rows - len(ids))), parts)[: len(ids)]

    def _forward(self, ids: torch.Tensor, parts: Sequence[tuple[Window, int]]) -> torch.Tensor:
        """The same for tokens behind which there may be padding, which changes no cache."""
        w, total = self._w, len(ids)
        rotations = [window.rotations(count) for window, count in parts]
        padding = total - sum(count for _, count in parts)
        if padding:
            rotations.append(rotations[0].new_zeros(padding, w.head_dim // 2))
        rotation = (rotations[0] if len(rotations) == 1 else torch.cat(rotations))[:, None]
        rotating = w.heads + w.kv_heads
        parted = []
        first = 0
        for window, count in parts:
            stretches = self._attend.stretches(first, count, window.filled)
            written = slice(window.filled, window.filled + count)
            parted.append((window.cache, slice(first, first + count), written, stretches))
            window.filled += count
            first += count
        attended = torch.zeros(total, w.heads, w.head_dim, dtype=w.dtype, device=w.device)
        x = F.embedding(ids, w.embedding)
        for index, layer in enumerate(w.blocks):
            # (n, queries' heads, then keys', then values', d): the first two kinds are rotated.
            qkv = F.linear(self._norm(x), layer.qkv, layer.qkv_bias).view(total, -1, w.head_dim)
            turned = qkv[:, :rotating]
            pairs = torch.view_as_complex(turned.float().view(total, rotating, -1, 2))
            pairs.mul_(rotation)
            if w.dtype != torch.float32:
                turned.copy_(torch.view_as_real(pairs).flatten(2))
            kv = qkv[:, w.heads :].view(total, 2, w.kv_heads, w.head_dim).permute(1, 2, 0, 3)
            for cache, rows, written, stretches in parted:
                keys_values = cache[index]
                keys_values[:, :, written] = kv[:, :, rows]
                self._attend(stretches, qkv[:, : w.heads], keys_values[0], keys_values[1], attended)
            x = self._add(x, attended.view(total, -1), layer.out)
            gate, up = F.linear(self._norm(x), layer.gate_up).chunk(2, dim=1)
            x = self._add(x, F.silu(gate).mul_(up), layer.down)
        return F.linear(self._rms_norm(x), w.head)

    def _norm(self, x: torch.Tensor) -> torch.Tensor:
        normed = self._rms_norm(x)
        return normed if self._w.dtype == torch.float32 else normed.to(self._w.dtype)

    def _rms_norm(self, x: torch.Tensor) -> torch.Tensor:
        """What `torch.nn.functional.rms_norm` gives, in half as many operations."""
        root_mean_square: torch.Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        return x / root_mean_square.mul_(self._norm_scale).hypot_(self._root_eps)

    def _add(self, x: torch.Tensor, change: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """`x` and a product with `weight`, in fp32."""
        if weight.dtype == x.dtype:
            return torch.addmm(x, change, weight.t())
        return x + F.linear(change, weight)
