"""Tiny random Mambas of both kinds for the tests: Hugging Face's, and the same weights in ours."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM

from ecustream.scoring.mamba import Mamba, MambaStream
from ecustream.scoring.mamba1 import Mamba1
from ecustream.scoring.mamba2 import Mamba2
from ecustream.scoring.network import Surprisal

__all__ = ["HIDDEN", "VOCAB", "cut", "oracle", "oracle_nats", "served", "tokens"]

VOCAB = 40
HIDDEN = 16


def oracle(kind: str, **settings: Any) -> Any:
    """A model of Hugging Face, of kind mamba or mamba2, with no trivial weight."""
    torch.manual_seed(7)
    common = {"vocab_size": VOCAB, "hidden_size": HIDDEN, "num_hidden_layers": 2, "state_size": 8}
    if kind == "mamba":
        model = MambaForCausalLM(MambaConfig(**common | settings)).eval()
    else:
        heads = {"num_heads": 4, "head_dim": 8, "n_groups": 2, "chunk_size": 32}
        model = Mamba2ForCausalLM(Mamba2Config(**common | heads | settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms of 1 and biases of 0 would hide that they are not used
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def served(
    model: Any,
    changes: Mapping[str, Any] | None = None,
    weights: Mapping[str, torch.Tensor] | None = None,
    max_chunk: int = 4096,
) -> Mamba:
    """The oracle in our own network, with some keys of its configuration or all its weights replaced."""
    config = model.config.to_dict() | dict(changes or {})
    network = Mamba1 if config["model_type"] == "mamba" else Mamba2
    weights = model.state_dict() if weights is None else weights
    return network(config, weights, max_chunk=max_chunk, warming_tokens=100)


def tokens(count: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Random tokens."""
    return np.random.default_rng(seed).integers(0, VOCAB, count)


def oracle_nats(model: Any, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Surprisal of each token by one whole pass of the oracle; of the first, that of a uniform guess."""
    with torch.no_grad():
        logits = model(torch.from_numpy(ids)[None], use_cache=False).logits[0, :-1]
    after = -torch.log_softmax(logits, dim=1).gather(1, torch.from_numpy(ids)[1:, None])[:, 0]
    return np.concatenate([[np.float32(np.log(VOCAB))], after.numpy()])


def cut(network: Mamba, stream: MambaStream, ids: npt.NDArray[np.int64], sizes: Sequence[int]) -> Surprisal:
    """Scores of a stream that comes in pieces of these sizes, over and over."""
    scores, first, turn = [], 0, 0
    while first < len(ids):
        piece = ids[first : first + sizes[turn % len(sizes)]]
        scores.append(network.score(piece, [(stream, len(piece))]))
        first += len(piece)
        turn += 1
    return Surprisal(np.concatenate([s.nats for s in scores]), np.concatenate([s.best for s in scores]))
