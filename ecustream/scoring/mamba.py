"""What a Mamba of either kind is around its mixer: streams, their state, and scoring over several of them.

Both kinds are recurrent. A stream's whole past is, for each layer, the last inputs of a short causal
convolution and the state of a scan; so a stream costs the same after any number of tokens, and there are
no positions. Old tokens fade but never leave the state, so how long a stream must warm up is a property of
the trained model, which the bundle states.
Weights in the layout of Hugging Face's `MambaForCausalLM` and `Mamba2ForCausalLM`, whose whole forward
pass without a cache is the oracle in the tests.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812

from ecustream.errors import BundleError
from ecustream.scoring.checkpoint import Checkpoint
from ecustream.scoring.mamba_blocks import Blocks
from ecustream.scoring.network import Serving, Surprisal, check_parts, surprisal_of
from ecustream.scoring.products import exact_onednn, fast_products

__all__ = ["Convolution", "Mamba", "MambaStream", "Mixer"]


class MambaStream:
    """The state of one stream.

    Attributes:
        conv: last inputs of each layer's convolution, oldest first, (layers, kernel - 1, channels).
        scan: state of each layer's scan, (layers, ...).
        last_logits: what the last token predicts, (vocab,); all zero, a uniform guess, after a reset.
        since_reset: tokens taken since the start or the last reset.
    """

    def __init__(self, conv: torch.Tensor, scan: torch.Tensor, last_logits: torch.Tensor) -> None:
        self.conv = conv
        self.scan = scan
        self.last_logits = last_logits
        self.since_reset = 0

    def reset(self) -> None:
        """Forget everything, as after a gap in the capture."""
        for tensor in (self.conv, self.scan, self.last_logits):
            tensor.zero_()
        self.since_reset = 0


class Convolution:
    """A causal convolution over time, each channel for itself, with silu after it.

    Args:
        checkpoint: where the weights are read from.
        at: the mixer's name, with a dot at its end.
        channels: width of a token.
    """

    def __init__(self, checkpoint: Checkpoint, at: str, channels: int) -> None:
        kernel = checkpoint.positive("conv_kernel")
        weight = checkpoint.tensor(f"{at}conv1d.weight", channels, 1, kernel)
        # Row k weighs what came k tokens after the oldest.
        self.weight = weight[:, 0].t().contiguous()
        if checkpoint.flag("use_conv_bias", default=True):
            self.bias = checkpoint.tensor(f"{at}conv1d.bias", channels)
        else:
            self.bias = weight.new_zeros(channels)

    def __call__(self, x: torch.Tensor, past: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """Convolve packed tokens (n, channels); `past`, (streams, kernel - 1, channels), moves on by them."""
        kernel, reach = self.weight.shape[0], self.weight.shape[0] - 1
        pieces = [torch.cat(pair) for pair in zip(past, torch.split(x, list(counts)), strict=True)]
        inputs = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        total = inputs.shape[0] - reach
        y = torch.addcmul(self.bias, inputs[:total], self.weight[0])
        for k in range(1, kernel):
            y.addcmul_(inputs[k : k + total], self.weight[k])
        if len(pieces) > 1:
            # Between two streams lie `reach` outputs that mix both.
            starts = accumulate((count + reach for count in counts[:-1]), initial=0)
            y = torch.cat([y[start : start + count] for start, count in zip(starts, counts, strict=True)])
        for row, piece in zip(past, pieces, strict=True):
            row.copy_(piece[piece.shape[0] - reach :])
        return F.silu(y, inplace=True)


class Mixer(Protocol):
    """One layer's mixer, its norm's weight included; it carries a stream over from token to token.

    Attributes:
        channels: width of its convolution's input.
        state_shape: shape of its scan's state.
        longest_block: tokens that its scan takes at once.
        flops_per_token: twice the multiply-adds that a token needs here.
    """

    channels: int
    state_shape: tuple[int, ...]
    longest_block: int
    flops_per_token: int

    def __call__(
        self, x: torch.Tensor, past: torch.Tensor, state: torch.Tensor, counts: Sequence[int], blocks: Blocks
    ) -> torch.Tensor:
        """What the layer adds to each token.

        Args:
            x: packed tokens, their root mean square made one, (n, hidden).
            past: last inputs of the convolution, (streams, kernel - 1, channels), moved on in place.
            state: of the scan, (streams, ...), the streams in the blocks' order, moved on in place.
            counts: tokens of each stream.
            blocks: the same tokens in blocks.
        """


class Mamba:
    """A frozen Mamba of either kind; a `Network`.

    Attributes:
        flops_per_token: twice the multiply-adds of the layers' mixers and of the head.

    Raises:
        BundleError: a setting is not supported, or a weight is missing or has the wrong shape.
    """

    serving: Serving = "recurrent"
    notes: Sequence[str] = ()

    def __init__(
        self,
        checkpoint: Checkpoint,
        mixer: Callable[[Checkpoint, str], Mixer],
        *,
        tied: bool,
        max_chunk: int,
        warming_tokens: int,
    ) -> None:
        self.max_chunk = max_chunk
        self.warming_tokens = warming_tokens
        self.vocab = checkpoint.positive("vocab_size")
        self._device = checkpoint.device
        self._hidden = checkpoint.positive("hidden_size")
        self._reach = checkpoint.positive("conv_kernel") - 1
        self._eps = checkpoint.number("layer_norm_epsilon")
        activation = checkpoint.config.get("hidden_act", "silu")
        if activation != "silu":
            raise BundleError(f"config.json: hidden_act {activation!r} is not supported, only silu")
        self._embedding = checkpoint.tensor("backbone.embeddings.weight", self.vocab, self._hidden)
        layers = range(checkpoint.positive("num_hidden_layers"))
        self._mixers = [mixer(checkpoint, f"backbone.layers.{i}.") for i in layers]
        head = self._embedding
        if checkpoint.has("lm_head.weight") or not checkpoint.flag("tie_word_embeddings", default=tied):
            head = checkpoint.tensor("lm_head.weight", self.vocab, self._hidden)
        # The norms' weights are folded into the products that follow them.
        self._head = head * checkpoint.tensor("backbone.norm_f.weight", self._hidden)
        mixed = sum(m.flops_per_token for m in self._mixers)
        self.flops_per_token = mixed + 2 * self._hidden * self.vocab

    def warm_up(self) -> None:
        """See `Network.warm_up`."""
        exact_onednn()

    def new_stream(self) -> MambaStream:
        """State of a new stream."""
        layers, one = len(self._mixers), self._mixers[0]
        return MambaStream(
            torch.zeros(layers, self._reach, one.channels, device=self._device),
            torch.zeros(layers, *one.state_shape, device=self._device),
            torch.zeros(self.vocab, device=self._device),
        )

    @torch.inference_mode()
    def score(self, ids: npt.NDArray[np.int64], parts: Sequence[tuple[MambaStream, int]]) -> Surprisal:
        """Surprisal of the next tokens of some streams, as `Network` says."""
        check_parts(len(ids), [count for _, count in parts], self.max_chunk)
        streams = [stream for stream, count in parts if count]
        counts = [count for _, count in parts if count]
        if not streams:
            return Surprisal(np.empty(0, np.float32), np.empty(0, np.int64))
        tokens = torch.from_numpy(ids).to(self._device)
        before = torch.stack([stream.last_logits for stream in streams])
        with fast_products(len(ids), self._hidden):
            logits = self._continue(tokens, streams, counts)
        return surprisal_of(logits, before, tokens, counts)

    def _continue(
        self, ids: torch.Tensor, streams: Sequence[MambaStream], counts: Sequence[int]
    ) -> torch.Tensor:
        """Logits after each token, (n, vocab); the streams move on only when all layers are done."""
        blocks = Blocks(counts, self._mixers[0].longest_block, self._device)
        in_order = [streams[i] for i in blocks.order]
        past = torch.stack([stream.conv for stream in streams], dim=1)
        state = torch.stack([stream.scan for stream in in_order], dim=1)
        x = F.embedding(ids, self._embedding)
        for layer, mixer in enumerate(self._mixers):
            x += mixer(self._norm(x), past[layer], state[layer], counts, blocks)
        logits = F.linear(self._norm(x), self._head)
        for i, end in enumerate(accumulate(counts)):
            streams[i].conv.copy_(past[:, i])
            in_order[i].scan.copy_(state[:, i])
            streams[i].last_logits.copy_(logits[end - 1])
            streams[i].since_reset += counts[i]
        return logits

    def _norm(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, (self._hidden,), eps=self._eps)
