"""A Qwen2 as Hugging Face writes it, checked and folded into the fewest products that serve it.

Folded are: the three projections of attention into one, gate and up projection into one, the weights of each
norm and the scale of attention into the product that follows. Rows of queries and keys are reordered
so that the two numbers that rotate together lie side by side; no score of attention changes by that.
Architecture: Qwen2 technical report, arXiv 2407.10671; names as in Hugging Face's `Qwen2ForCausalLM`.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from ecustream.errors import BundleError
from ecustream.scoring.rope import FixedPointRope

__all__ = ["Layer", "Qwen2Weights", "number", "positive", "rope_of"]


class Layer(NamedTuple):
    """Folded weights of one layer, as `torch.nn.functional.linear` takes them (rows are outputs)."""

    qkv: torch.Tensor
    qkv_bias: torch.Tensor
    out: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


class Qwen2Weights:
    """Sizes and folded weights of a Qwen2.

    Args:
        config: the Hugging Face `config.json` as a mapping.
        weights: tensors by Hugging Face name.
        dtype: of the products; embedding and head stay in fp32.
        device: where the tensors are put.

    Attributes:
        window: tokens that a token attends to, itself included; None where every layer attends to all.

    Raises:
        BundleError: the configuration cannot be served, or a weight is missing or has the wrong shape.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        weights: Mapping[str, torch.Tensor],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        if not isinstance(config, Mapping):
            raise BundleError("config.json: is not an object")
        self.dtype = dtype
        self.device = device or torch.device("cpu")
        self.layers = positive(config, "num_hidden_layers")
        self.hidden = positive(config, "hidden_size")
        self.heads = positive(config, "num_attention_heads")
        self.kv_heads = positive(config, "num_key_value_heads")
        self.vocab = positive(config, "vocab_size")
        self.eps = number(config, "rms_norm_eps")
        self.window = _window(config, self.layers)
        if config.get("hidden_act", "silu") != "silu":
            raise BundleError(f"config.json: hidden_act {config['hidden_act']!r} is not supported, only silu")
        self.head_dim = positive(config, "head_dim") if config.get("head_dim") else self.hidden // self.heads
        if self.heads % self.kv_heads or self.head_dim % 2:
            raise BundleError("config.json: heads must divide by key/value heads, and head_dim by two")
        self.theta = rope_of(config)
        self.rope = FixedPointRope(self.head_dim, self.theta).to(self.device)
        self._weights = weights
        self.embedding = self._plain("model.embed_tokens.weight", self.vocab, self.hidden)
        self.blocks = [self._layer(f"model.layers.{i}.") for i in range(self.layers)]
        head = self.embedding
        if "lm_head.weight" in weights:
            head = self._plain("lm_head.weight", self.vocab, self.hidden)
        self.head = (head * self._plain("model.norm.weight", self.hidden)).to(self.device)
        self.embedding = self.embedding.to(self.device)
        self.inner = self.blocks[0].down.shape[1]
        del self._weights

    def flops_per_token(self, attended: float) -> int:
        """`2 N + 4 L A H D` for N weights in products, L layers, A attended tokens, H heads of size D."""
        products = sum(layer.qkv.numel() + layer.out.numel() for layer in self.blocks)
        products += sum(layer.gate_up.numel() + layer.down.numel() for layer in self.blocks)
        attention = self.layers * attended * self.heads * self.head_dim
        return round(2 * (products + self.head.numel()) + 4 * attention)

    def _layer(self, at: str) -> Layer:
        q_rows, kv_rows = self.heads * self.head_dim, self.kv_heads * self.head_dim
        gate = self._weights.get(f"{at}mlp.gate_proj.weight")
        inner = int(gate.shape[0]) if gate is not None else 0
        norm1 = self._plain(f"{at}input_layernorm.weight", self.hidden)
        norm2 = self._plain(f"{at}post_attention_layernorm.weight", self.hidden)
        attention = f"{at}self_attn."
        qkv, bias = [], []
        for name, rows in (("q", q_rows), ("k", kv_rows), ("v", kv_rows)):
            part = self._plain(f"{attention}{name}_proj.weight", rows, self.hidden) * norm1
            part_bias = self._plain(f"{attention}{name}_proj.bias", rows)
            if name != "v":
                part, part_bias = self._pairs_together(part), self._pairs_together(part_bias)
            scale = 1 / math.sqrt(self.head_dim) if name == "q" else 1.0
            qkv.append(part * scale)
            bias.append(part_bias * scale)
        gate_up = [self._plain(f"{at}mlp.{n}_proj.weight", inner, self.hidden) for n in ("gate", "up")]
        return Layer(
            self._placed(torch.cat(qkv)),
            self._placed(torch.cat(bias)),
            self._placed(self._plain(f"{attention}o_proj.weight", self.hidden, q_rows)),
            self._placed(torch.cat(gate_up) * norm2),
            self._placed(self._plain(f"{at}mlp.down_proj.weight", self.hidden, inner)),
        )

    def _pairs_together(self, rows: torch.Tensor) -> torch.Tensor:
        """Row i and row i + d/2 of each head, which rotate together, become rows 2i and 2i + 1."""
        split = rows.reshape(-1, 2, self.head_dim // 2, *rows.shape[1:])
        return split.transpose(1, 2).reshape(rows.shape)

    def _placed(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.device, self.dtype).contiguous()

    def _plain(self, name: str, *shape: int) -> torch.Tensor:
        tensor = self._weights.get(name)
        if tensor is None:
            raise BundleError(f"model.safetensors: tensor {name} is missing")
        if not bool(torch.isfinite(tensor).all()):
            raise BundleError(f"model.safetensors: tensor {name} holds values that are no numbers")
        if tuple(tensor.shape) != shape:
            raise BundleError(
                f"model.safetensors: tensor {name} has shape {tuple(tensor.shape)}, not {shape}"
            )
        return tensor.float()


def number(config: Mapping[str, Any], key: str) -> float:
    """A number of `config.json`; BundleError where it is none."""
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BundleError(f"config.json: {key} is {value!r}, but must be a number")
    return float(value)


def positive(config: Mapping[str, Any], key: str) -> int:
    """A positive whole number of `config.json`; BundleError where it is none."""
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        raise BundleError(f"config.json: {key} is {value!r}, but must be a positive whole number")
    return value


def rope_of(config: Mapping[str, Any]) -> float:
    """Base of the rotary phases; transformers 5 keeps it in `rope_parameters`, 4 at the top."""
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(parameters, Mapping):
        raise BundleError(f"config.json: rope_parameters is {parameters!r}, but must be an object")
    kind = parameters.get("rope_type", "default")
    if kind != "default":
        raise BundleError(f"config.json: rope_type {kind!r} is not supported: its phases change with length")
    return number({"rope_theta": 1e4, **config, **parameters}, "rope_theta")


def _window(config: Mapping[str, Any], layers: int) -> int | None:
    kinds = config.get("layer_types")
    if kinds == ["sliding_attention"] * layers:
        return positive(config, "sliding_window")
    if kinds == ["full_attention"] * layers:
        return None
    raise BundleError(
        "config.json: layer_types must be sliding_attention in every layer, or full_attention in every one; "
        "a mixture of both can be served neither from a rolling cache nor by restarts"
    )
