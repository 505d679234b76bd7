"""What scoring is compared with: Hugging Face's model with its cache, and windows computed again each line.

All of them are networks, so that the same lines pass through the same tokenizer and scorer.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ecustream.scoring.network import AnyNetwork, Serving, Surprisal, surprisal_of

__all__ = ["HuggingFaceRolling", "Recomputing", "hugging_face_model", "hugging_face_pass", "own_pass"]

WholePass = Callable[[npt.NDArray[np.int64]], Surprisal]
"""Surprisal of the tokens of a text, the first of which is held against a uniform guess."""


def hugging_face_model(
    config: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    """Hugging Face's model of a `config.json` with these weights, attention by torch's own kernels.

    Raises:
        ImportError: transformers is not installed.
        ValueError: a weight has no place in it, or a place no weight.
    """
    import transformers

    made = transformers.AutoConfig.for_model(**({"model_type": "qwen2"} | dict(config)))
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(made, attn_implementation="sdpa", dtype=dtype)
    loaded = model.load_state_dict(dict(weights), strict=False)
    # The head of a model with tied embeddings is no tensor of its own.
    missing = set(loaded.missing_keys) - ({"lm_head.weight"} if made.tie_word_embeddings else set())
    if missing or loaded.unexpected_keys:
        raise ValueError(f"weights missing: {sorted(missing)}, without a place: {loaded.unexpected_keys}")
    return model.eval()


class _Cached:
    """The state of one stream: Hugging Face's cache, and what follows its last token."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.reset()

    def reset(self) -> None:
        from transformers import DynamicCache

        config = self._model.config
        # Without the configuration the cache would grow for ever.
        self.cache = DynamicCache(config=config)
        self.last_logits = torch.zeros(config.vocab_size, device=self._model.device)
        self.since_reset = 0


class HuggingFaceRolling:
    """A network of Hugging Face's model over its own rolling cache, one stream a call.

    Args:
        model: what `hugging_face_model` gave, with a sliding window in every layer.
        like: the network that it is compared with, which gives the largest chunk.
    """

    serving: Serving = "rolling"
    notes: Sequence[str] = ()

    def __init__(self, model: Any, like: AnyNetwork) -> None:
        self._model = model
        self.vocab = like.vocab
        self.max_chunk = like.max_chunk
        self.warming_tokens = like.warming_tokens
        self.flops_per_token = like.flops_per_token

    def warm_up(self) -> None:
        """There is nothing to prepare."""

    def new_stream(self) -> _Cached:
        """State of a new stream."""
        return _Cached(self._model)

    @torch.inference_mode()
    def score(self, ids: npt.NDArray[np.int64], parts: Sequence[tuple[_Cached, int]]) -> Surprisal:
        """See `Network.score`."""
        ((state, count),) = parts
        tokens = torch.from_numpy(ids).to(self._model.device)
        logits = self._model(tokens[None], past_key_values=state.cache, use_cache=True).logits[0].float()
        said = surprisal_of(logits, state.last_logits[None], tokens, [count])
        state.last_logits = logits[-1].clone()
        state.since_reset += count
        return said


class _Text:
    """The state of one stream: the tokens of its last window."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.ids = np.empty(0, dtype=np.int64)
        self.since_reset = 0


class Recomputing:
    """A network that computes the whole last window again in each call, as the paper does for each line.

    Its scores are not those of a rolling cache: what left the window can no longer influence them.

    Args:
        whole_pass: computes a window.
        like: the network whose vocabulary and sizes it has.
        window: tokens of a window, those of the call included.
    """

    serving: Serving = "rolling"
    notes: Sequence[str] = ()

    def __init__(self, whole_pass: WholePass, like: AnyNetwork, window: int) -> None:
        self._whole_pass = whole_pass
        self.vocab = like.vocab
        self.max_chunk = window
        self.warming_tokens = window
        self.flops_per_token = like.flops_per_token

    def warm_up(self) -> None:
        """There is nothing to prepare."""

    def new_stream(self) -> _Text:
        """State of a new stream."""
        return _Text()

    def score(self, ids: npt.NDArray[np.int64], parts: Sequence[tuple[_Text, int]]) -> Surprisal:
        """See `Network.score`."""
        ((state, count),) = parts
        state.ids = np.concatenate([state.ids, ids])[-self.max_chunk :]
        state.since_reset += count
        said = self._whole_pass(state.ids)
        return Surprisal(said.nats[-count:], said.best[-count:])


def hugging_face_pass(model: Any) -> WholePass:
    """Whole passes of what `hugging_face_model` gave."""

    @torch.inference_mode()
    def whole_pass(ids: npt.NDArray[np.int64]) -> Surprisal:
        tokens = torch.from_numpy(ids).to(model.device)
        logits = model(tokens[None], use_cache=False).logits[0].float()
        return surprisal_of(logits, torch.zeros_like(logits[:1]), tokens, [len(ids)])

    return whole_pass


def own_pass(network: AnyNetwork) -> WholePass:
    """Whole passes of a network, in a stream that forgets between them."""
    state = network.new_stream()

    def whole_pass(ids: npt.NDArray[np.int64]) -> Surprisal:
        state.reset()
        starts = range(0, len(ids), network.max_chunk)
        parts = [ids[first : first + network.max_chunk] for first in starts]
        said = [network.score(part, [(state, len(part))]) for part in parts]
        return Surprisal(*(np.concatenate(column) for column in zip(*said, strict=True)))

    return whole_pass
