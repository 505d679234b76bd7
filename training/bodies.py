"""The bodies of models: what they are made of, and the sizes that have a name."""

from typing import Any, Literal

import msgspec
import torch

from ecustream.errors import ConfigError

__all__ = ["BODIES", "Body", "check_body", "new_model"]


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of a causal language model; its vocabulary comes from the tokenizer.

    Attributes:
        kind: architecture, as Hugging Face names it.
        hidden: width of a token.
        layers: number of layers.
        heads: heads of attention (qwen2).
        kv_heads: heads of keys and values (qwen2); None is as many as `heads`.
        inner: width between the products of the feed-forward part (qwen2).
        window: tokens that a token attends to, itself included (qwen2). With full attention it is the
            length of the texts that the model is trained on.
        attention: every layer looks back over `window` tokens, or over the whole text (qwen2).
        state_size: numbers that each channel remembers (mamba, mamba2).
        head_dim: channels of a head (mamba2).
        expand: channels of the recurrent part for each of `hidden` (mamba, mamba2).
        conv_kernel: tokens that the short convolution sees (mamba, mamba2).
        n_groups: groups of heads that share how the state is fed and read (mamba2).
    """

    kind: Literal["qwen2", "mamba", "mamba2"] = "qwen2"
    hidden: int = 96
    layers: int = 3
    heads: int = 2
    kv_heads: int | None = None
    inner: int = 256
    window: int = 256
    attention: Literal["sliding", "full"] = "sliding"
    state_size: int = 16
    head_dim: int = 64
    expand: int = 2
    conv_kernel: int = 4
    n_groups: int = 1


BODIES: dict[str, Body] = {
    "0.3m": Body(),
    "1m": Body(hidden=128, layers=4, heads=4, inner=512),
    "2m": Body(hidden=128, layers=8, heads=4, inner=512),
    "25m": Body(hidden=384, layers=12, heads=6, kv_heads=2, inner=1536, window=512),
    "0.4b": Body(hidden=896, layers=24, heads=14, kv_heads=2, inner=4864, window=1024),
    "1.3b": Body(hidden=1536, layers=28, heads=12, kv_heads=2, inner=8960, window=1024),
    "mamba-0.3m": Body(kind="mamba", hidden=96, layers=4),
    "mamba-130m": Body(kind="mamba", hidden=768, layers=24),
    "mamba2-0.3m": Body(kind="mamba2", hidden=96, layers=4, state_size=32, head_dim=32),
    "mamba2-130m": Body(kind="mamba2", hidden=768, layers=24, state_size=128),
}
"""Bodies by name; what a name counts is parameters, with a vocabulary of a few hundred tokens.

"0.4b" and "1.3b" are the bodies of Qwen2-0.5B and Qwen2-1.5B (arXiv 2407.10671, table 1) without their
vocabulary; "mamba-130m" and "mamba2-130m" are the checkpoints of that name (arXiv 2312.00752, 2405.21060).
"""


def new_model(body: Body, vocabulary: int) -> Any:
    """A causal language model of Hugging Face, its weights drawn by torch's global generator.

    Embedding and head share their weights. Dropout is 0, so that the data alone are random.

    Raises:
        ConfigError: the sizes do not fit together.
    """
    if vocabulary < 1:
        raise ConfigError(f"vocabulary is {vocabulary}, but must be 1 at least")
    check_body(body)
    if body.kind == "qwen2":
        return _new_qwen2(body, vocabulary)
    return _new_mamba(body, vocabulary)


def _new_qwen2(body: Body, vocabulary: int) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sliding = body.attention == "sliding"
    config = Qwen2Config(
        **_common(body, vocabulary),
        intermediate_size=body.inner,
        num_attention_heads=body.heads,
        num_key_value_heads=body.kv_heads or body.heads,
        max_position_embeddings=body.window * 4 if sliding else body.window,
        use_sliding_window=sliding,
        sliding_window=body.window if sliding else None,
        max_window_layers=0 if sliding else body.layers,
        layer_types=[f"{body.attention}_attention"] * body.layers,
    )
    return Qwen2ForCausalLM._from_config(config, attn_implementation="sdpa")


def _new_mamba(body: Body, vocabulary: int) -> Any:
    from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM

    common = _common(body, vocabulary) | {
        "state_size": body.state_size,
        "expand": body.expand,
        "conv_kernel": body.conv_kernel,
    }
    if body.kind == "mamba":
        return MambaForCausalLM._from_config(MambaConfig(**common))
    config = Mamba2Config(
        **common,
        num_heads=body.hidden * body.expand // body.head_dim,
        head_dim=body.head_dim,
        n_groups=body.n_groups,
        chunk_size=64,
    )
    return Mamba2ForCausalLM._from_config(config)


def _common(body: Body, vocabulary: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": body.hidden,
        "num_hidden_layers": body.layers,
        "tie_word_embeddings": True,
        "dtype": torch.float32,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def check_body(body: Body) -> None:
    """Refuse sizes that do not fit together.

    Raises:
        ConfigError: the sentence names the key.
    """
    for key, value in msgspec.to_builtins(body).items():
        if isinstance(value, int) and value < 1:
            raise ConfigError(f"body.{key} is {value}, but must be 1 at least")
    if body.kind == "qwen2":
        if body.hidden % body.heads or (body.hidden // body.heads) % 2:
            raise ConfigError(f"body.hidden is {body.hidden}, but must be {body.heads} heads of even width")
        if body.heads % (body.kv_heads or body.heads):
            raise ConfigError(f"body.kv_heads is {body.kv_heads}, but must divide {body.heads} heads")
    if body.kind == "mamba2":
        channels = body.hidden * body.expand
        if channels % body.head_dim:
            raise ConfigError(f"body.head_dim is {body.head_dim}, but must divide {channels} channels")
        if (channels // body.head_dim) % body.n_groups:
            heads = channels // body.head_dim
            raise ConfigError(f"body.n_groups is {body.n_groups}, but must divide {heads} heads")
