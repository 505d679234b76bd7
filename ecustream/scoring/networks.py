"""Which network serves a bundle's model: chosen by the model's own `config.json`."""

from collections.abc import Mapping
from typing import Any

import torch

from ecustream.errors import BundleError
from ecustream.scoring.network import AnyNetwork
from ecustream.scoring.qwen2_weights import layer_kinds

__all__ = ["open_network"]

_MAX_CHUNK = 1024


def open_network(
    config: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    *,
    window_tokens: int,
    warming_tokens: int,
    max_streams: int = 1,
    max_chunk: int = _MAX_CHUNK,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> AnyNetwork:
    """The network for a model.

    Args:
        config: the Hugging Face `config.json` as a mapping.
        weights: tensors by Hugging Face name.
        window_tokens: length of the texts that a model with full attention was trained on.
        warming_tokens: tokens after which a recurrent model counts as warm.
        max_streams: streams that are scored together.
        max_chunk: tokens that one stream may add in a call.
        device: where it is computed; None is the CPU.
        dtype: of products, keys and values.

    Raises:
        BundleError: the model cannot be streamed exactly, or is damaged.
    """
    device = device or torch.device("cpu")
    kind = config.get("model_type", "qwen2") if isinstance(config, Mapping) else "qwen2"
    if kind in ("mamba", "mamba2"):
        if dtype != torch.float32:
            raise BundleError(f"config.json: a {kind} keeps its state in float32; scoring.dtype must be so")
        from ecustream.scoring.mamba1 import Mamba1
        from ecustream.scoring.mamba2 import Mamba2

        made = Mamba1 if kind == "mamba" else Mamba2
        return made(config, weights, max_chunk=max_chunk, warming_tokens=warming_tokens, device=device)
    if kind != "qwen2":
        raise BundleError(f"config.json: model_type {kind!r} is not supported, only qwen2, mamba and mamba2")
    if set(layer_kinds(config)) == {"full_attention"}:
        from ecustream.scoring.sawtooth import SawtoothQwen2

        return SawtoothQwen2(
            config, weights, length=window_tokens, max_chunk=max_chunk, dtype=dtype, device=device
        )
    if device.type != "cpu":
        from ecustream.scoring.batched import BatchedQwen2

        return BatchedQwen2(
            config, weights, device=device, dtype=dtype, max_streams=max_streams, max_chunk=max_chunk
        )
    from ecustream.scoring.qwen2 import Qwen2

    return Qwen2(config, weights, max_chunk=max_chunk, dtype=dtype)
