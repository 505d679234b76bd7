"""Keys and values of the tokens before a chunk, for a Qwen2 with a sliding window in every layer.

Rotary attention depends on distances only, so positions start anew with every chunk: the past lies at 0 to
`window - 2`, the chunk after it, and keys that are kept are turned back by as much. So positions stay small
and as exact at the millionth chunk as at the first.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ecustream.errors import ConfigError

__all__ = ["SlidingPast"]


class SlidingPast:
    """Stands in for the cache of one forward pass over a chunk of each sequence.

    Args:
        model: the Qwen2ForCausalLM.
        input_ids: the chunk, (batch, length).
        past: what `after` was at the end of each sequence's last chunk; None: all begin anew.

    Attributes:
        after: keys and values of each layer, (batch, heads, window - 1, head size) each, zeros before a
            stream's first token; then (tokens that each stream has had, (batch,)).

    Raises:
        ConfigError: its attention is computed by a kernel that takes no mask.
    """

    def __init__(self, model: Any, input_ids: Tensor, past: Sequence[tuple[Tensor, ...]] | None) -> None:
        self._batch, self._length = input_ids.shape
        self._device = input_ids.device
        self._past = past
        self._reach: int = model.config.sliding_window - 1
        attention = model.config._attn_implementation
        if attention not in ("eager", "sdpa"):
            raise ConfigError(f"keys and values are carried by eager or sdpa attention, not by {attention}")
        self._eager = attention == "eager"
        rotary = next(m for m in model.modules() if type(m).__name__ == "Qwen2RotaryEmbedding")
        angles = rotary.inv_freq.double() * self._length
        self._turn = torch.cat([angles.cos()] * 2), torch.cat([angles.sin()] * 2)
        self._had = past[-1][0] if past else input_ids.new_zeros(self._batch)
        layers = model.config.num_hidden_layers
        self.after: list[tuple[Tensor, ...]] = [()] * layers + [(self._had + self._length,)]

    def arguments(self) -> dict[str, Any]:
        """What the model's forward pass takes besides the tokens."""
        places = torch.arange(self._reach + self._length, device=self._device)
        queries = places[self._reach :, None]
        near = (places <= queries) & (places >= queries - self._reach)
        begun = places >= (self._reach - self._had)[:, None]
        mask = (near & begun[:, None])[:, None]
        if self._eager:
            mask = torch.zeros(mask.shape, device=self._device).masked_fill(~mask, -torch.inf)
        return {
            "past_key_values": self,
            "position_ids": places[None, self._reach :],
            "attention_mask": {"sliding_attention": mask},
        }

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the past and of the chunk, as the attention of a layer asks for them."""
        if self._past is None:
            zeros = keys.new_zeros(*keys.shape[:2], self._reach, keys.shape[3])
            keys, values = torch.cat([zeros, keys], dim=2), torch.cat([zeros, values], dim=2)
        else:
            old_keys, old_values = self._past[layer]
            keys = torch.cat([old_keys.to(keys.dtype), keys], dim=2)
            values = torch.cat([old_values.to(values.dtype), values], dim=2)
        self.after[layer] = (
            self._turned_back(keys[:, :, self._length :]),
            values[:, :, self._length :].detach(),
        )
        return keys, values

    def _turned_back(self, keys: Tensor) -> Tensor:
        keys = keys.detach()
        cos, sin = (part.to(keys.dtype) for part in self._turn)
        first, second = keys.chunk(2, dim=3)
        return keys * cos + torch.cat([second, -first], dim=3) * sin
