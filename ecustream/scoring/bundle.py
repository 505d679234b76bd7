"""A bundle as the scoring stage uses it: the model and its tokenizer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors

from ecustream.errors import BundleError, ConfigError
from ecustream.scoring.manifest import BundleFiles, read_bundle
from ecustream.scoring.network import AnyNetwork
from ecustream.scoring.networks import open_network
from ecustream.scoring.scorer import Scorer
from ecustream.scoring.tokenizer import LineTokenizer
from ecustream.scoring.tokenizers import open_tokenizer
from ecustream.stages import StageClock
from ecustream.traffic import Stream

__all__ = ["Bundle", "load_bundle"]

ResultT = TypeVar("ResultT")


class Bundle:
    """The network of a bundle, and tokenizers for it.

    Args:
        files: what `read_bundle` gave.
        max_streams: streams that are scored together.
        device: where the network is computed; None is the CPU.
        dtype: of its products, keys and values.

    Raises:
        BundleError: the model cannot be read, cannot be streamed, or does not fit the tokenizer.
        ConfigError: it does not run on the device.
    """

    def __init__(
        self,
        files: BundleFiles,
        *,
        max_streams: int = 1,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.path = files.path
        self.info = files.info
        self._device, self._dtype = device or torch.device("cpu"), dtype
        try:
            config = json.loads(files.data["config.json"])
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{self.path}: config.json cannot be read: {error}") from None
        try:
            weights: dict[str, torch.Tensor] = load_safetensors(files.data["model.safetensors"])
        except (ValueError, KeyError, SafetensorError) as error:
            raise BundleError(f"{self.path}: model.safetensors cannot be read: {error}") from None
        try:
            text = files.data["tokenizer.json"].decode(errors="replace")
            self._tokenizer = open_tokenizer(self.info, text)
            self.network: AnyNetwork = self._on_device(
                open_network,
                config,
                weights,
                window_tokens=self.info.window_tokens,
                warming_tokens=self.info.receptive_field_tokens,
                max_streams=max_streams,
                device=device,
                dtype=dtype,
            )
            window = getattr(self.network, "window", self.info.window_tokens)
            if window != self.info.window_tokens:
                raise BundleError(
                    f"bundle.json has window_tokens {self.info.window_tokens}, the model a window of {window}"
                )
            self._kind = str(config.get("model_type", "qwen2"))
            tokens = self._tokenizer.vocabulary_size
            if tokens != self.network.vocab:
                raise BundleError(f"the tokenizer has {tokens} tokens, the model {self.network.vocab}")
        except BundleError as error:
            raise BundleError(f"{self.path}: {error}") from None

    def warm_up(self) -> None:
        """See `Network.warm_up`.

        Raises:
            ConfigError: the model does not run on the device.
        """
        self._on_device(self.network.warm_up)

    def _on_device(self, work: Callable[..., ResultT], *args: Any, **named: Any) -> ResultT:
        """Do something on the device, whose libraries raise RuntimeError for whatever goes wrong there."""
        try:
            return work(*args, **named)
        except RuntimeError as error:
            if self._device.type == "cpu":
                raise
            why = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ConfigError(
                f'the model does not run on {self._device}: {why}; scoring.device = "cpu" does without it'
            ) from error

    def new_tokenizer(self) -> LineTokenizer:
        """A tokenizer in its initial state, for one stream."""
        return self._tokenizer.fresh()

    @property
    def served(self) -> str:
        """How the network is served, in words."""
        window = f"{self.info.window_tokens} tokens"
        kept = {
            "rolling": f"rolling cache of {window}",
            "sawtooth": f"trained with full attention and served by restarts within {window}",
            "recurrent": "recurrent state",
        }[self.network.serving]
        dtype = str(self._dtype).removeprefix("torch.")
        return ", ".join([self._kind, kept, f"{dtype} on {self._device}", *self.network.notes])

    def new_scorer(self, clock: StageClock | None = None) -> Scorer:
        """A scorer over the network, with no stream yet; `clock` is told where its time goes."""
        return Scorer(self.network, self.new_tokenizer, clock)

    def expectation(self, token: int, stream: Stream) -> str | None:
        """What a token means for a line of `stream`, in words; None where it means nothing to people."""
        return self._tokenizer.words(token, stream)


def load_bundle(path: Path) -> Bundle:
    """Read, check and load a bundle.

    Raises:
        BundleError: see `read_bundle` and `Bundle`.
    """
    return Bundle(read_bundle(path))
