"""Qwen2 with a sliding window in every layer, computed over a rolling key/value cache.

The cache holds keys and values in order in a buffer of `2 * window + max_chunk` positions; when a chunk
does not fit, the last `window - 1` positions move to the front. A token therefore attends to exactly
the same `window` positions (itself included) as in one whole forward pass with the sliding-window mask
that the model was trained with, and a stream costs the same after any number of tokens.
Architecture: Qwen2 technical report, arXiv 2407.10671; weights in the layout of Hugging Face's
`Qwen2ForCausalLM`, which is the oracle in the tests.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from ecustream.errors import BundleError
from ecustream.scoring.rope import FixedPointRope

__all__ = ["Qwen2", "Window", "receptive_field"]

_QUERY_BLOCK = 64
"""Queries that attend at once: small, so that few keys outside the window are multiplied in vain."""


def receptive_field(layers: int, window: int) -> int:
    """Tokens back from a token, itself included, that can influence its score."""
    return layers * (window - 1) + 1


class Window:
    """The state of one stream: its cached keys and values and its position."""

    def __init__(self, model: "Qwen2", max_chunk: int) -> None:
        capacity = 2 * model.window + max_chunk
        shape = (model.layers, 2, model.kv_heads, capacity, model.head_dim)
        self.cache = torch.zeros(shape)
        self.filled = 0
        self.position = 0
        self.since_reset = 0
        self.max_chunk = max_chunk
        self.last_logits: torch.Tensor | None = None

    def reset(self) -> None:
        """Forget everything, as after a gap in the capture."""
        self.filled = 0
        self.since_reset = 0
        self.last_logits = None


class Qwen2:
    """A frozen Qwen2 for scoring: logits for a chunk of tokens that continue a `Window`.

    Args:
        config: the Hugging Face `config.json` as a mapping.
        weights: tensors by Hugging Face name.

    Raises:
        BundleError: not every layer slides, or a weight is missing or has the wrong shape.
    """

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> None:
        if not isinstance(config, Mapping):
            raise BundleError("config.json: is not an object")
        self.layers = _positive(config, "num_hidden_layers")
        self.hidden = _positive(config, "hidden_size")
        self.heads = _positive(config, "num_attention_heads")
        self.kv_heads = _positive(config, "num_key_value_heads")
        self.window = _positive(config, "sliding_window")
        self.vocab = _positive(config, "vocab_size")
        self.eps = _number(config, "rms_norm_eps")
        if config.get("layer_types") != ["sliding_attention"] * self.layers:
            raise BundleError(
                "config.json: layer_types must be sliding_attention in every layer; "
                "a model trained with full attention cannot be served from a rolling cache"
            )
        if config.get("hidden_act", "silu") != "silu":
            raise BundleError(f"config.json: hidden_act {config['hidden_act']!r} is not supported, only silu")
        self.head_dim = _positive(config, "head_dim") if config.get("head_dim") else self.hidden // self.heads
        if self.heads % self.kv_heads or self.head_dim % 2:
            raise BundleError("config.json: heads must divide by key/value heads, and head_dim by two")
        self.rope = FixedPointRope(self.head_dim, _rope_theta(config))
        self._take_weights(weights)
        # Row i hides from query i of a block all keys but itself and the `window - 1` before it; blocks
        # with fewer queries or keys use the corner that fits.
        distance = torch.arange(_QUERY_BLOCK)[:, None] + self.window - 1
        distance = distance - torch.arange(_QUERY_BLOCK + self.window - 1)[None]
        hidden = (distance < 0) | (distance >= self.window)
        self._whole_mask = torch.zeros(hidden.shape).masked_fill(hidden, float("-inf"))

    def _take_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        def weight(name: str, *shape: int) -> torch.Tensor:
            tensor = weights.get(name)
            if tensor is None:
                raise BundleError(f"model.safetensors: tensor {name} is missing")
            if not bool(torch.isfinite(tensor).all()):
                raise BundleError(f"model.safetensors: tensor {name} holds values that are no numbers")
            if tuple(tensor.shape) != shape:
                raise BundleError(
                    f"model.safetensors: tensor {name} has shape {tuple(tensor.shape)}, not {shape}"
                )
            return tensor.float()

        q_rows, kv_rows = self.heads * self.head_dim, self.kv_heads * self.head_dim
        self.embedding = weight("model.embed_tokens.weight", self.vocab, self.hidden)
        self.blocks: list[tuple[torch.Tensor, ...]] = []
        for i in range(self.layers):
            at = f"model.layers.{i}."
            rows = (("q", q_rows), ("k", kv_rows), ("v", kv_rows))
            qkv = torch.cat([weight(f"{at}self_attn.{n}_proj.weight", r, self.hidden) for n, r in rows])
            qkv_bias = torch.cat([weight(f"{at}self_attn.{n}_proj.bias", r) for n, r in rows])
            out = weight(f"{at}self_attn.o_proj.weight", self.hidden, q_rows)
            gate = weights.get(f"{at}mlp.gate_proj.weight")
            inner = int(gate.shape[0]) if gate is not None else 0
            gate_up = torch.cat(
                [weight(f"{at}mlp.{n}_proj.weight", inner, self.hidden) for n in ("gate", "up")]
            )
            down = weight(f"{at}mlp.down_proj.weight", self.hidden, inner)
            norm1 = weight(f"{at}input_layernorm.weight", self.hidden)
            norm2 = weight(f"{at}post_attention_layernorm.weight", self.hidden)
            # The norms' weights are folded into the products that follow them.
            self.blocks.append((qkv * norm1, qkv_bias, out, gate_up * norm2, down))
        head = weights.get("lm_head.weight")
        head = self.embedding if head is None else weight("lm_head.weight", self.vocab, self.hidden)
        self.head = head * weight("model.norm.weight", self.hidden)

    def new_window(self, max_chunk: int) -> Window:
        """State for a new stream whose chunks have at most `max_chunk` tokens."""
        return Window(self, max_chunk)

    @torch.inference_mode()
    def logits(self, ids: torch.Tensor, window: Window) -> torch.Tensor:
        """Logits after each of the n tokens in `ids`, shape (n, vocab); `window` moves on by n."""
        count = ids.shape[0]
        start = self._make_room(window, count)
        cos, sin = self.rope.tables(window.position, count)
        x = F.embedding(ids, self.embedding)
        q_end = self.heads * self.head_dim
        k_end = q_end + self.kv_heads * self.head_dim
        for layer, (qkv_weight, qkv_bias, out, gate_up, down) in enumerate(self.blocks):
            qkv = F.linear(self._norm(x), qkv_weight, qkv_bias)
            q, k, v = qkv[:, :q_end], qkv[:, q_end:k_end], qkv[:, k_end:]
            keys, values = window.cache[layer, 0], window.cache[layer, 1]
            keys[:, start : start + count] = self._rotate(k, self.kv_heads, cos, sin)
            values[:, start : start + count] = v.reshape(count, self.kv_heads, self.head_dim).transpose(0, 1)
            attended = self._attend(self._rotate(q, self.heads, cos, sin), keys, values, start)
            x = x + F.linear(attended, out)
            gate, up = F.linear(self._norm(x), gate_up).chunk(2, dim=1)
            x = x + F.linear(F.silu(gate) * up, down)
        window.filled = start + count
        window.position += count
        window.since_reset += count
        return F.linear(self._norm(x), self.head)

    def _make_room(self, window: Window, count: int) -> int:
        if count > window.max_chunk:
            raise ValueError(f"a chunk of {count} tokens, the window was made for {window.max_chunk}")
        keep = min(window.filled, self.window - 1)
        if window.filled + count > window.cache.shape[3]:
            kept = window.cache[:, :, :, window.filled - keep : window.filled].clone()
            window.cache[:, :, :, :keep] = kept
            window.filled = keep
        return window.filled

    def _norm(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, (self.hidden,), eps=self.eps)

    def _rotate(self, x: torch.Tensor, heads: int, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Split into heads and rotate: (n, heads * d) to (heads, n, d)."""
        low, high = x.reshape(-1, heads, self.head_dim).transpose(0, 1).chunk(2, dim=2)
        return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=2)

    def _attend(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, start: int) -> torch.Tensor:
        out = torch.empty(q.shape[1], self.heads, self.head_dim)
        for first in range(0, q.shape[1], _QUERY_BLOCK):
            block = q[:, first : first + _QUERY_BLOCK]
            end = start + first + block.shape[1]
            begin = max(0, start + first - self.window + 1)
            attended = F.scaled_dot_product_attention(
                block[None],
                keys[None, :, begin:end],
                values[None, :, begin:end],
                attn_mask=self._mask(block.shape[1], end - begin),
                enable_gqa=self.kv_heads != self.heads,
            )
            out[first : first + block.shape[1]] = attended[0].transpose(0, 1)
        return out.view(q.shape[1], -1)

    def _mask(self, queries: int, keys: int) -> torch.Tensor:
        """Additive mask of the last `queries` of `keys` positions: causal, and at most `window` back."""
        first = self.window - 1 + queries - keys
        return self._whole_mask[:queries, first : first + keys]


def _number(config: Mapping[str, Any], key: str) -> float:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BundleError(f"config.json: {key} is {value!r}, but must be a number")
    return float(value)


def _positive(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise BundleError(f"config.json: {key} is {value!r}, but must be a positive whole number")
    return value


def _rope_theta(config: Mapping[str, Any]) -> float:
    """Base of the rotary phases; transformers 5 keeps it in `rope_parameters`, 4 at the top."""
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(parameters, Mapping):
        raise BundleError(f"config.json: rope_parameters is {parameters!r}, but must be an object")
    kind = parameters.get("rope_type", "default")
    if kind != "default":
        raise BundleError(f"config.json: rope_type {kind!r} is not supported: its phases change with length")
    return _number({"rope_theta": 1e4, **config, **parameters}, "rope_theta")
