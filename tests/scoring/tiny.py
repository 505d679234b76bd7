"""Tiny random models, streams and lines for the tests of the scoring stage."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from ecustream.scoring.qwen2 import Qwen2
from ecustream.traffic import Line, Stream

__all__ = [
    "CYCLES_NS",
    "config_of",
    "full_attention_oracle",
    "make_line",
    "make_lines",
    "make_stream",
    "oracle",
    "oracle_logits",
    "served",
]

CYCLES_NS = {"fast": 10_000_000, "slow": 1_000_000_000, "on_event": 0}
"""Cycles by key of the PDUs that the tokenizers of the tests know."""


def oracle(window: int, *, layers: int = 2, kv_heads: int = 2, vocabulary: int = 40, hidden: int = 16) -> Any:
    """A Qwen2ForCausalLM of Hugging Face with a sliding window in every layer and no trivial weight."""
    torch.manual_seed(window * 100 + layers * 10 + kv_heads)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        use_sliding_window=True,
        sliding_window=window,
        max_window_layers=0,
        layer_types=["sliding_attention"] * layers,
        tie_word_embeddings=True,
    )
    model = Qwen2ForCausalLM._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms of 1 and biases of 0 would hide that they are not used
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def full_attention_oracle(*, layers: int = 2) -> Any:
    """As `oracle`, but every token attends to all before it."""
    model = oracle(64, layers=layers)
    config = Qwen2Config(
        **(
            config_of(model)
            | {
                "use_sliding_window": False,
                "sliding_window": None,
                "layer_types": ["full_attention"] * layers,
            }
        )
    )
    full = Qwen2ForCausalLM._from_config(config, attn_implementation="eager").eval()
    full.load_state_dict(model.state_dict())
    return full


def oracle_logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Logits (n, vocabulary) of one whole forward pass of the oracle, without any cache."""
    with torch.no_grad():
        logits: torch.Tensor = model(ids[None], use_cache=False).logits[0]
    return logits


def config_of(model: Any) -> dict[str, Any]:
    """The model's `config.json` as a mapping."""
    config: dict[str, Any] = model.config.to_dict()
    return config


def served(
    model: Any,
    changes: Mapping[str, Any] | None = None,
    *,
    max_chunk: int = 1024,
    dtype: torch.dtype = torch.float32,
) -> Qwen2:
    """The oracle's weights in our own Qwen2, with some keys of its configuration replaced."""
    config = config_of(model) | dict(changes or {})
    return Qwen2(config, model.state_dict(), max_chunk=max_chunk, dtype=dtype)


def make_stream(index: int, key: str) -> Stream:
    """A stream whose PDU name is its key."""
    return Stream(index, key, key, "ETH1", "10.0.0.1", 42994, "239.0.0.1", 42557)


def make_line(number: int, stream: Stream, delta_ns: int | None, state: int = 1) -> Line:
    """A line; the scoring stage looks at stream, state and delta time only."""
    return Line(number, number + 1, 1_700_000_000_000_000_000 + number, stream, state, delta_ns)


def make_lines(rows: Sequence[tuple[Stream, int | None, int]]) -> list[Line]:
    """Lines of (stream, delta time, state)."""
    return [make_line(number, *row) for number, row in enumerate(rows)]
