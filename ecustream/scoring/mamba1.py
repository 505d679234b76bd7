"""Mamba (the first kind): its scan over time computed by a tree of pairs.

Each channel has a state of its own that decays at its own rates, `h_t = a_t * h_(t-1) + b_t`, and two steps
after one another are again such a step. A block of tokens is therefore paired up, the half as many pairs
are scanned the same way, and their states give those in between: log2 many vector operations, no division
by a product of decays. The state enters at a block's first token, in fp32.
Mamba, arXiv 2312.00752; prefix sums by a tree: Blelloch, CMU-CS-90-190; weights in the layout of Hugging
Face's `MambaForCausalLM`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from ecustream.scoring.checkpoint import Checkpoint
from ecustream.scoring.mamba import Convolution, Mamba
from ecustream.scoring.mamba_blocks import Blocks

__all__ = ["Mamba1"]

_AT_ONCE = {"cpu": (64, 2**19)}
"""Tokens of a block, and entries of all its tokens' states, that are scanned at once. On a CPU they should
stay in its cache; elsewhere launches are what costs."""


class Mamba1(Mamba):
    """A frozen Mamba; a `Network`.

    Args:
        config: the Hugging Face `config.json` as a mapping.
        weights: tensors by Hugging Face name.
        max_chunk: tokens that one stream may add per call.
        warming_tokens: tokens after a reset whose scores are not yet those of a long stream.
        device: where weights and states live.

    Raises:
        BundleError: a setting is not supported, or a weight is missing or has the wrong shape.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        weights: Mapping[str, torch.Tensor],
        *,
        max_chunk: int,
        warming_tokens: int,
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ) -> None:
        checkpoint = Checkpoint(config, weights, device)
        super().__init__(checkpoint, _Mixer, tied=True, max_chunk=max_chunk, warming_tokens=warming_tokens)


class _Mixer:
    """One layer's mixer; its state is (state size, channels)."""

    def __init__(self, checkpoint: Checkpoint, at: str) -> None:
        hidden = checkpoint.positive("hidden_size")
        # Hugging Face lets this key overrule `expand`.
        stated = "intermediate_size" in checkpoint.config
        inner = checkpoint.positive("intermediate_size") if stated else checkpoint.positive("expand") * hidden
        size = checkpoint.positive("state_size")
        automatic = checkpoint.config.get("time_step_rank", "auto") == "auto"
        rank = math.ceil(hidden / 16) if automatic else checkpoint.positive("time_step_rank")
        self.longest_block, entries = _AT_ONCE.get(checkpoint.device.type, (512, 2**26))
        self.rows_at_once = max(1, entries // (self.longest_block * size * inner))
        self.channels = inner
        self.state_shape: tuple[int, ...] = (size, inner)
        self.widths = [rank, size, size]
        bias = checkpoint.flag("use_bias", default=False)
        mixer = f"{at}mixer."
        norm = checkpoint.tensor(f"{at}norm.weight", hidden)
        self.in_weight = checkpoint.tensor(f"{mixer}in_proj.weight", 2 * inner, hidden) * norm
        self.in_bias = checkpoint.tensor(f"{mixer}in_proj.bias", 2 * inner) if bias else None
        self.conv = Convolution(checkpoint, mixer, inner)
        self.x_weight = checkpoint.tensor(f"{mixer}x_proj.weight", rank + 2 * size, inner)
        self.dt_weight = checkpoint.tensor(f"{mixer}dt_proj.weight", inner, rank)
        self.dt_bias = checkpoint.tensor(f"{mixer}dt_proj.bias", inner)
        # Channels last, so that vector operations run along the long side.
        self.rates = checkpoint.decay(f"{mixer}A_log", inner, size).t().contiguous()
        self.skip = checkpoint.tensor(f"{mixer}D", inner)
        self.out_weight = checkpoint.tensor(f"{mixer}out_proj.weight", hidden, inner)
        self.out_bias = checkpoint.tensor(f"{mixer}out_proj.bias", hidden) if bias else None
        linear = 2 * inner * hidden + inner * (rank + 2 * size) + rank * inner + inner * hidden
        # Each entry of the state is decayed, fed and read once a token.
        scan = 3 * inner * size + inner
        self.flops_per_token = 2 * (linear + inner * self.conv.weight.shape[0] + scan)

    def __call__(
        self, x: torch.Tensor, past: torch.Tensor, state: torch.Tensor, counts: Sequence[int], blocks: Blocks
    ) -> torch.Tensor:
        x, gate = F.linear(x, self.in_weight, self.in_bias).chunk(2, dim=1)
        x = self.conv(x, past, counts)
        dt, b, c = torch.split(F.linear(x, self.x_weight), self.widths, dim=1)
        dt = F.softplus(F.linear(dt, self.dt_weight, self.dt_bias))
        dt, fed, b, c = (blocks.split(part) for part in (dt, dt * x, b, c))
        y = torch.empty_like(fed)
        for step in blocks.steps:
            for first in range(step.start, step.stop, self.rows_at_once):
                rows = slice(first, min(first + self.rows_at_once, step.stop))
                active = state[first - step.start : rows.stop - step.start]
                y[rows] = self._scan(dt[rows], fed[rows], b[rows], c[rows], active)
        y = blocks.join(y).addcmul_(x, self.skip).mul_(F.silu(gate))
        return F.linear(y, self.out_weight, self.out_bias)

    def _scan(
        self, dt: torch.Tensor, fed: torch.Tensor, b: torch.Tensor, c: torch.Tensor, state: torch.Tensor
    ) -> torch.Tensor:
        """Scan one block of each stream.

        Args:
            dt: time steps (streams, length, channels), 0 where there is no token: such a token neither
                decays the state nor adds to it.
            fed: dt * x, like dt.
            b: how the state takes what is fed, (streams, length, state size).
            c: how the state is read, like b.
            state: (streams, state size, channels), moved on in place.

        Returns:
            What was read after each token, (streams, length, channels).
        """
        decay = (dt[:, :, None] * self.rates).exp_()
        states = fed[:, :, None] * b[..., None]
        states[:, 0].addcmul_(decay[:, 0], state)
        _scan_pairs(decay, states)
        state.copy_(states[:, -1])
        return (c[:, :, None] @ states)[:, :, 0]


def _scan_pairs(decay: torch.Tensor, states: torch.Tensor) -> None:
    """In place along dimension 1: `states[:, t] += decay[:, t] * states[:, t - 1]`, one t after the other."""
    if states.shape[1] == 1:
        return
    # Without its last token an odd block is even; that token is mended with those between the pairs.
    second = slice(1, None, 2)
    first = slice(0, states.shape[1] - states.shape[1] % 2, 2)
    pairs = torch.addcmul(states[:, second], decay[:, second], states[:, first])
    _scan_pairs(decay[:, second] * decay[:, first], pairs)
    states[:, second] = pairs
    between = states[:, 2::2]
    between.addcmul_(decay[:, 2::2], pairs[:, : between.shape[1]])
