"""Digests of what a run was made of, so that no other run is taken for it."""

import hashlib
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import torch

from training.shards import Shards
from training.splits import Part

__all__ = ["traffic_digest", "weights_digest"]


def traffic_digest(shards: Shards, parts: Sequence[Part | Sequence[Part]]) -> str:
    """SHA-256 of drives, tokenizer and labels, and of the parts that are taken of them."""
    pieces = [(piece.name, piece.sha256, piece.lines) for piece in shards.pieces]
    labels = b"" if shards.labelled is None else np.packbits(shards.labelled).tobytes()
    return hashlib.sha256(msgspec.json.encode([pieces, shards.tokenizer_json, labels, parts])).hexdigest()


def weights_digest(weights: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of tensors by name, as float32."""
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().float().numpy().data)
    return digest.hexdigest()
