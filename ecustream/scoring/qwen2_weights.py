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
from ecustream.scoring.checkpoint import Checkpoint
from ecustream.scoring.rope import FixedPointRope

__all__ = ["Layer", "Qwen2Weights", "layer_kinds"]

_MOST_LAYERS, _WIDEST_WINDOW = 1024, 1 << 17


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
        file = Checkpoint(config, weights, device or torch.device("cpu"))
        self.dtype = dtype
        self.device = file.device
        self.layers = file.positive("num_hidden_layers")
        self.hidden = file.positive("hidden_size")
        self.heads = file.positive("num_attention_heads")
        self.kv_heads = file.positive("num_key_value_heads")
        self.vocab = file.positive("vocab_size")
        self.eps = file.number("rms_norm_eps")
        if self.eps < 0:
            raise BundleError(f"config.json: rms_norm_eps is {self.eps}, but must be 0 at least")
        self.window = _window(file)
        if config.get("hidden_act", "silu") != "silu":
            raise BundleError(f"config.json: hidden_act {config['hidden_act']!r} is not supported, only silu")
        self.head_dim = file.positive("head_dim") if config.get("head_dim") else self.hidden // self.heads
        if self.heads % self.kv_heads or self.head_dim % 2:
            raise BundleError("config.json: heads must divide by key/value heads, and head_dim by two")
        self.rope = FixedPointRope(self.head_dim, _rope_theta(config)).to(self.device)
        self.embedding = file.tensor("model.embed_tokens.weight", self.vocab, self.hidden)
        self.blocks = [self._layer(file, weights, f"model.layers.{i}.") for i in range(self.layers)]
        head = self.embedding
        if file.has("lm_head.weight") or not file.flag("tie_word_embeddings", default=False):
            head = file.tensor("lm_head.weight", self.vocab, self.hidden)
        self.head = head * file.tensor("model.norm.weight", self.hidden)

    def rolling_window(self) -> int:
        """The window of a model that may be served from a rolling cache.

        Raises:
            BundleError: it was trained with full attention.
        """
        if self.window is None:
            raise BundleError(
                "config.json: layer_types must be sliding_attention in every layer; "
                "a model trained with full attention cannot be served from a rolling cache"
            )
        return self.window

    def flops_per_token(self, attended: float) -> int:
        """`2 N + 4 L A H D` for N weights in products, L layers, A attended tokens, H heads of size D."""
        products = sum(layer.qkv.numel() + layer.out.numel() for layer in self.blocks)
        products += sum(layer.gate_up.numel() + layer.down.numel() for layer in self.blocks)
        attention = self.layers * attended * self.heads * self.head_dim
        return round(2 * (products + self.head.numel()) + 4 * attention)

    def _layer(self, file: Checkpoint, weights: Mapping[str, torch.Tensor], at: str) -> Layer:
        q_rows, kv_rows = self.heads * self.head_dim, self.kv_heads * self.head_dim
        gate = weights.get(f"{at}mlp.gate_proj.weight")
        inner = int(gate.shape[0]) if gate is not None and gate.ndim else 0
        norm1 = file.tensor(f"{at}input_layernorm.weight", self.hidden)
        norm2 = file.tensor(f"{at}post_attention_layernorm.weight", self.hidden)
        attention = f"{at}self_attn."
        qkv, bias = [], []
        for name, rows in (("q", q_rows), ("k", kv_rows), ("v", kv_rows)):
            part = file.tensor(f"{attention}{name}_proj.weight", rows, self.hidden) * norm1
            part_bias = file.tensor(f"{attention}{name}_proj.bias", rows)
            if name != "v":
                part, part_bias = self._pairs_together(part), self._pairs_together(part_bias)
            scale = 1 / math.sqrt(self.head_dim) if name == "q" else 1.0
            qkv.append(part * scale)
            bias.append(part_bias * scale)
        gate_up = [file.tensor(f"{at}mlp.{n}_proj.weight", inner, self.hidden) for n in ("gate", "up")]
        return Layer(
            *(
                tensor.to(self.dtype).contiguous()
                for tensor in (
                    torch.cat(qkv),
                    torch.cat(bias),
                    file.tensor(f"{attention}o_proj.weight", self.hidden, q_rows),
                    torch.cat(gate_up) * norm2,
                    file.tensor(f"{at}mlp.down_proj.weight", self.hidden, inner),
                )
            )
        )

    def _pairs_together(self, rows: torch.Tensor) -> torch.Tensor:
        """Row i and row i + d/2 of each head, which rotate together, become rows 2i and 2i + 1."""
        split = rows.reshape(-1, 2, self.head_dim // 2, *rows.shape[1:])
        return split.transpose(1, 2).reshape(rows.shape)


def layer_kinds(config: Mapping[str, Any]) -> list[str]:
    """The kind of attention of each layer; checkpoints of transformers before 4.53 do not list them.

    Raises:
        BundleError: the list is none of so many names.
    """
    file = Checkpoint(config, {}, torch.device("cpu"))
    layers = file.positive("num_hidden_layers")
    if layers > _MOST_LAYERS:
        raise BundleError(f"config.json: num_hidden_layers is {layers}, but can be {_MOST_LAYERS} at most")
    kinds = config.get("layer_types")
    if kinds is None:
        slides = file.flag("use_sliding_window", default=False) and config.get("sliding_window") is not None
        # 28 is what Qwen2Config of transformers takes where there is none.
        first = int(file.number("max_window_layers")) if "max_window_layers" in config else 28
        return ["sliding_attention" if slides and i >= first else "full_attention" for i in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers or not all(isinstance(k, str) for k in kinds):
        raise BundleError(f"config.json: layer_types must name the attention of each of {layers} layers")
    return kinds


def _window(file: Checkpoint) -> int | None:
    kinds = set(layer_kinds(file.config))
    if kinds == {"full_attention"}:
        return None
    if kinds != {"sliding_attention"}:
        raise BundleError(
            "config.json: layer_types must be sliding_attention in every layer, or full_attention in every "
            "one; a mixture can be served neither from a rolling cache nor by restarts"
        )
    window = file.positive("sliding_window")
    if window > _WIDEST_WINDOW:
        raise BundleError(f"config.json: sliding_window is {window}, but can be {_WIDEST_WINDOW} at most")
    return window


def _rope_theta(config: Mapping[str, Any]) -> float:
    """Base of the rotary phases; transformers 5 keeps it in `rope_parameters`, 4 at the top."""
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(parameters, Mapping) or any(isinstance(v, Mapping) for v in parameters.values()):
        raise BundleError(f"config.json: rope_parameters is {parameters!r}, but must be an object of numbers")
    # transformers 4 wrote `type` where 5 writes `rope_type`.
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind != "default":
        raise BundleError(f"config.json: rope_type {kind!r} is not supported: its phases change with length")
    merged = {"rope_theta": 1e4, **config, **parameters}
    theta = Checkpoint(merged, {}, torch.device("cpu")).number("rope_theta")
    if theta < 1:
        raise BundleError(f"config.json: rope_theta is {theta}, but must be 1 at least")
    return theta
