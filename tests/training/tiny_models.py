"""Tiny models and batches for tests of objectives."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

VOCABULARY = 12


class Table(nn.Module):
    """A causal model whose logits, (batch, length, V), are its one parameter, whatever comes in."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, input_ids: Tensor) -> Any:
        """The logits, for a batch of their shape."""
        assert input_ids.shape == self.logits.shape[:2]
        return SimpleNamespace(logits=self.logits)


class Bigram(nn.Module):
    """A causal model that looks up logits, (V, V), and hidden states, (V, width), by the last token."""

    def __init__(self, logits: Tensor, hidden: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.hidden = nn.Parameter(hidden)

    def forward(self, input_ids: Tensor, output_hidden_states: bool = False) -> Any:
        """Logits, and where asked for hidden states of two layers, the first all zero."""
        hidden = (torch.zeros_like(self.hidden)[input_ids], self.hidden[input_ids])
        return SimpleNamespace(
            logits=self.logits[input_ids], hidden_states=hidden if output_hidden_states else None
        )


def tiny_qwen2(seed: int = 0) -> Any:
    """A randomly initialised Qwen2 with one layer of width 16 over `VOCABULARY` tokens."""
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=64,
            use_cache=False,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def batch_of(ids: Tensor, labelled: Tensor) -> dict[str, Tensor]:
    """Inputs of an objective from whole token rows (batch, length + 1) with labels of every token.

    Fields alternate, as with two tokens a line.
    """
    fields = (torch.arange(ids.shape[1]) % 2).expand_as(ids)
    return {
        "input_ids": ids[:, :-1],
        "targets": ids[:, 1:].clone(),
        "labelled": labelled[:, 1:].clone(),
        "fields": fields[:, 1:],
    }


def random_batch(rows: int, length: int = 12, seed: int = 0, share: float = 0.3) -> dict[str, Tensor]:
    """Random tokens of lines of two, a share of the lines labelled, one target in ten ignored."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, VOCABULARY, (rows, length + 1), generator=random)
    lines = torch.rand(rows, length // 2 + 1, generator=random) < share
    inputs = batch_of(ids, lines.repeat_interleave(2, dim=1)[:, : length + 1])
    ignored = torch.rand(inputs["targets"].shape, generator=random) < 0.1
    inputs["targets"][ignored] = -100
    return inputs
