"""Reads the settings and tensors of a Hugging Face checkpoint, refusing in one sentence what does not fit."""

from collections.abc import Mapping
from typing import Any

import torch

from ecustream.errors import BundleError

__all__ = ["Checkpoint"]

_LARGEST = 1e300
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class Checkpoint:
    """A checkpoint's `config.json` and `model.safetensors`, read key by key.

    Args:
        config: the Hugging Face `config.json` as a mapping.
        weights: tensors by Hugging Face name.
        device: where the tensors that are read shall live.

    Raises:
        BundleError: `config` is not an object; every method raises it for what it cannot read.
    """

    def __init__(
        self, config: Mapping[str, Any], weights: Mapping[str, torch.Tensor], device: torch.device
    ) -> None:
        if not isinstance(config, Mapping):
            raise BundleError("config.json: is not an object")
        self.config = config
        self.device = device
        self._weights = weights

    def positive(self, key: str) -> int:
        """A positive whole number."""
        value = self.config.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
            raise BundleError(f"config.json: {key} is {value!r}, but must be a positive whole number")
        return value

    def number(self, key: str) -> float:
        """A finite number."""
        value = self.config.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
            raise BundleError(f"config.json: {key} is {value!r}, but must be a number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false; `default` where the file does not say."""
        value = self.config.get(key, default)
        if not isinstance(value, bool):
            raise BundleError(f"config.json: {key} is {value!r}, but must be true or false")
        return value

    def has(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return name in self._weights

    def tensor(self, name: str, *shape: int) -> torch.Tensor:
        """The tensor of this name, which must have this shape and hold finite numbers, as fp32."""
        tensor = self._weights.get(name)
        if tensor is None:
            raise BundleError(f"model.safetensors: tensor {name} is missing")
        if tuple(tensor.shape) != shape:
            raise BundleError(
                f"model.safetensors: tensor {name} has shape {tuple(tensor.shape)}, not {shape}"
            )
        if tensor.dtype not in _DTYPES:
            raise BundleError(f"model.safetensors: tensor {name} is of {tensor.dtype}, which is not served")
        if not bool(torch.isfinite(tensor).all()):
            raise BundleError(f"model.safetensors: tensor {name} holds values that are no numbers")
        return tensor.detach().to(self.device, torch.float32)

    def decay(self, name: str, *shape: int) -> torch.Tensor:
        """The state's decay rates `-exp(A_log)` from the tensor of their logarithms."""
        rates = -self.tensor(name, *shape).exp()
        if not bool(torch.isfinite(rates).all()):
            raise BundleError(f"model.safetensors: tensor {name} holds values whose exponential is infinite")
        return rates
