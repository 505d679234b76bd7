"""Bodies that are scored in the benchmark: named ones with random weights, or a bundle's own."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load as load_safetensors

from ecustream.bench.traffic import simulated_lines
from ecustream.scoring.bundle import Bundle
from ecustream.scoring.fields import FieldsTokenizer
from ecustream.scoring.manifest import read_bundle
from ecustream.scoring.network import AnyNetwork, Surprisal
from ecustream.scoring.scorer import Scorer
from ecustream.scoring.tokenizer import LineTokenizer
from ecustream.traffic import Line

__all__ = ["BODIES", "Body", "BodySize", "Lane", "bundle_body", "random_body"]

FIELDS_TOKENS_PER_LINE = 2
_LINES = 8192
_CYCLES_MS = (10, 20, 20, 40, 50, 100, 100, 200, 500, 1000)


@dataclass(frozen=True)
class BodySize:
    """Sizes of a Qwen2 with a sliding window in every layer.

    Attributes:
        tokens_per_line: 2 are those of the fields tokenizer, whose work is measured as well; with any other
            number random tokens go to the network.
        for_gpu: too slow on a CPU to be measured there unless asked for by name.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    inner: int
    window: int
    vocab: int
    tokens_per_line: int = FIELDS_TOKENS_PER_LINE
    for_gpu: bool = False


BODIES = {
    "4x128": BodySize(4, 128, 2, 2, 512, window=512, vocab=224),
    "2M": BodySize(8, 128, 2, 2, 512, window=512, vocab=224),
    "25M": BodySize(12, 384, 6, 6, 1536, window=512, vocab=224),
    "0.4B": BodySize(24, 896, 14, 2, 4864, window=1024, vocab=408, tokens_per_line=50, for_gpu=True),
}
"""By name; the last is the body of Qwen2-0.5B with a tokenizer's vocabulary for log lines."""


class Lane(Protocol):
    """One stream of a body's traffic, scored by one network; its lines repeat without an end."""

    def score(self, lines: int) -> None:
        """Score the next lines."""

    def nats(self, lines: int) -> npt.NDArray[np.float32]:
        """Score the next lines; surprisal of each of their tokens."""

    def reset(self) -> None:
        """Forget the stream and begin with the first line again."""


@dataclass(frozen=True)
class Body:
    """A model, with the traffic that is scored.

    Attributes:
        name: of the body, or the bundle's path.
        config: Hugging Face's `config.json`.
        weights: tensors by Hugging Face name.
        window_tokens: tokens that a token attends to.
        warming_tokens: tokens until the model is warm, where the network does not know itself.
        tokens_per_line: tokens of a line.
        open_lane: a stream of the body's traffic, scored by a network.
    """

    name: str
    config: Mapping[str, Any]
    weights: Mapping[str, torch.Tensor]
    window_tokens: int
    warming_tokens: int
    tokens_per_line: int
    open_lane: Callable[[AnyNetwork], Lane]


def random_body(name: str, seed: int = 0) -> Body:
    """A body of `BODIES` with random weights, whose logits have a standard deviation of about one."""
    size = BODIES[name]
    warming = size.layers * (size.window - 1) + 1
    open_lane: Callable[[AnyNetwork], Lane]
    if size.tokens_per_line == FIELDS_TOKENS_PER_LINE:
        names = size.vocab - FieldsTokenizer({}).vocabulary_size
        cycles = {f"PDU_{i:02}": _CYCLES_MS[i % len(_CYCLES_MS)] * 1_000_000 for i in range(names)}
        open_lane = _lines_lanes(lambda: FieldsTokenizer(cycles), cycles, seed)
    else:
        ids = np.random.default_rng(seed).integers(0, size.vocab, _LINES * size.tokens_per_line)

        def open_lane(network: AnyNetwork) -> Lane:
            return _TokensLane(network, ids, size.tokens_per_line)

    weights = _random_weights(size, seed)
    return Body(name, _config(size), weights, size.window, warming, size.tokens_per_line, open_lane)


def bundle_body(path: Path, seed: int = 0) -> Body:
    """The model of a bundle, with simulated lines of the PDUs that it knows.

    Raises:
        BundleError: the bundle cannot be used.
    """
    files = read_bundle(path)
    bundle = Bundle(files)  # refuses what is damaged or does not fit, in its own words
    info = files.info
    return Body(
        str(path),
        json.loads(files.data["config.json"]),
        load_safetensors(files.data["model.safetensors"]),
        info.window_tokens,
        info.receptive_field_tokens,
        max(1, round(info.tokens_per_line)),
        _lines_lanes(bundle.new_tokenizer, {pdu.key: pdu.cycle_ns for pdu in info.pdus}, seed),
    )


class _LinesLane:
    """Lines through the tokenizer and the network, as the service has them scored."""

    def __init__(self, scorer: Scorer, lines: list[Line]) -> None:
        self._scorer = scorer
        self._stream = scorer.open_stream()
        self._lines = lines
        self._next: Iterator[Line] = cycle(lines)

    def score(self, lines: int) -> None:
        self._scorer.score([(self._stream, list(islice(self._next, lines)))])

    def nats(self, lines: int) -> npt.NDArray[np.float32]:
        field_nats = self._scorer.score([(self._stream, list(islice(self._next, lines)))])[0].field_nats
        return field_nats[~np.isnan(field_nats)]

    def reset(self) -> None:
        self._stream.reset()
        self._next = cycle(self._lines)


class _TokensLane:
    """Tokens straight to the network, at most as many in a call as it takes."""

    def __init__(self, network: AnyNetwork, ids: npt.NDArray[np.int64], tokens_per_line: int) -> None:
        self._network = network
        self._state = network.new_stream()
        self._ids = ids
        self._tokens_per_line = tokens_per_line
        self._at = 0

    def score(self, lines: int) -> None:
        self._said(lines)

    def nats(self, lines: int) -> npt.NDArray[np.float32]:
        return np.concatenate([part.nats for part in self._said(lines)])

    def reset(self) -> None:
        self._state.reset()
        self._at = 0

    def _said(self, lines: int) -> list[Surprisal]:
        tokens, step = lines * self._tokens_per_line, self._network.max_chunk
        ids = self._ids.take(range(self._at, self._at + tokens), mode="wrap")
        self._at = (self._at + tokens) % len(self._ids)
        parts = [ids[first : first + step] for first in range(0, tokens, step)]
        return [self._network.score(part, [(self._state, len(part))]) for part in parts]


def _lines_lanes(
    new_tokenizer: Callable[[], LineTokenizer], cycles_ns: Mapping[str, int], seed: int
) -> Callable[[AnyNetwork], Lane]:
    lines = simulated_lines(cycles_ns, _LINES, seed)
    return lambda network: _LinesLane(Scorer(network, new_tokenizer), lines)


def _config(size: BodySize) -> dict[str, Any]:
    return {
        "model_type": "qwen2",
        "vocab_size": size.vocab,
        "hidden_size": size.hidden,
        "intermediate_size": size.inner,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "use_sliding_window": True,
        "sliding_window": size.window,
        "max_window_layers": 0,
        "layer_types": ["sliding_attention"] * size.layers,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "tie_word_embeddings": True,
    }


def _random_weights(size: BodySize, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int, scale: float) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).mul_(scale)

    hidden, head_dim = size.hidden, size.hidden // size.heads
    rows = {"q": size.heads * head_dim, "k": size.kv_heads * head_dim, "v": size.kv_heads * head_dim}
    into, branch = 1 / math.sqrt(hidden), 1 / math.sqrt(2 * size.layers)
    weights = {
        "model.embed_tokens.weight": noise(size.vocab, hidden, scale=into),
        "model.norm.weight": torch.ones(hidden),
    }
    for layer in range(size.layers):
        at = f"model.layers.{layer}."
        weights[f"{at}input_layernorm.weight"] = torch.ones(hidden)
        weights[f"{at}post_attention_layernorm.weight"] = torch.ones(hidden)
        for name, count in rows.items():
            weights[f"{at}self_attn.{name}_proj.weight"] = noise(count, hidden, scale=into)
            weights[f"{at}self_attn.{name}_proj.bias"] = noise(count, scale=0.1)
        weights[f"{at}self_attn.o_proj.weight"] = noise(hidden, rows["q"], scale=branch * into)
        for name in ("gate", "up"):
            weights[f"{at}mlp.{name}_proj.weight"] = noise(size.inner, hidden, scale=into)
        weights[f"{at}mlp.down_proj.weight"] = noise(hidden, size.inner, scale=branch / math.sqrt(size.inner))
    return weights
