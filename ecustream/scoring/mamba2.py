"""Mamba2: its scan over time computed in blocks, as a product of matrices with a decay in it.

Within a block, token t takes from token s <= t the share `C_t . B_s * exp(sum of dt * A over s+1..t)`,
which is attention with a decaying mask; what came before the block reaches it through the state that the
block before left. No token is a step of a Python loop, and the state enters and leaves in fp32.
Structured state space duality, arXiv 2405.21060, section 6; weights in the layout of Hugging Face's
`Mamba2ForCausalLM`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from ecustream.errors import BundleError
from ecustream.scoring.checkpoint import Checkpoint
from ecustream.scoring.mamba import Convolution, Mamba
from ecustream.scoring.mamba_blocks import Blocks

__all__ = ["Mamba2"]


class Mamba2(Mamba):
    """A frozen Mamba2; a `Network`.

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
        if not checkpoint.flag("rms_norm", default=True):
            raise BundleError("config.json: rms_norm false is not supported, the gated norm is always there")
        super().__init__(checkpoint, _Mixer, tied=False, max_chunk=max_chunk, warming_tokens=warming_tokens)


class _Mixer:
    """One layer's mixer; its state is (groups, state size, heads of the group, head size)."""

    longest_block = 64

    def __init__(self, checkpoint: Checkpoint, at: str) -> None:
        hidden = checkpoint.positive("hidden_size")
        self.inner = checkpoint.positive("expand") * hidden
        self.heads = checkpoint.positive("num_heads")
        self.head_dim = checkpoint.positive("head_dim")
        self.groups = checkpoint.positive("n_groups")
        self.state_size = checkpoint.positive("state_size")
        self.eps = checkpoint.number("layer_norm_epsilon")
        self.dt_limit = _time_step_limit(checkpoint.config)
        if self.heads * self.head_dim != self.inner:
            raise BundleError("config.json: num_heads * head_dim must be expand * hidden_size")
        if self.heads % self.groups:
            raise BundleError("config.json: num_heads must be a multiple of n_groups")
        self.channels = self.inner + 2 * self.groups * self.state_size
        self.state_shape: tuple[int, ...] = (
            self.groups,
            self.state_size,
            self.heads // self.groups,
            self.head_dim,
        )
        rows = self.inner + self.channels + self.heads
        bias = checkpoint.flag("use_bias", default=False)
        mixer = f"{at}mixer."
        norm = checkpoint.tensor(f"{at}norm.weight", hidden)
        self.in_weight = checkpoint.tensor(f"{mixer}in_proj.weight", rows, hidden) * norm
        self.in_bias = checkpoint.tensor(f"{mixer}in_proj.bias", rows) if bias else None
        self.conv = Convolution(checkpoint, mixer, self.channels)
        self.dt_bias = checkpoint.tensor(f"{mixer}dt_bias", self.heads)
        self.rates = checkpoint.decay(f"{mixer}A_log", self.heads).double()
        self.skip = checkpoint.tensor(f"{mixer}D", self.heads).repeat_interleave(self.head_dim)
        gated_norm = checkpoint.tensor(f"{mixer}norm.weight", self.inner)
        self.out_weight = checkpoint.tensor(f"{mixer}out_proj.weight", hidden, self.inner) * gated_norm
        self.out_bias = checkpoint.tensor(f"{mixer}out_proj.bias", hidden) if bias else None
        # Each entry of the state is decayed, fed and read once a token.
        scan = 3 * self.inner * self.state_size + self.inner
        convolved = self.channels * self.conv.weight.shape[0]
        self.flops_per_token = 2 * (hidden * rows + convolved + scan + self.inner * hidden)

    def __call__(
        self, x: torch.Tensor, past: torch.Tensor, state: torch.Tensor, counts: Sequence[int], blocks: Blocks
    ) -> torch.Tensor:
        projected = F.linear(x, self.in_weight, self.in_bias)
        gate, xbc, dt = torch.split(projected, [self.inner, self.channels, self.heads], dim=1)
        xbc = self.conv(xbc, past, counts)
        dt = F.softplus(dt + self.dt_bias).clamp(*self.dt_limit)
        y = blocks.join(self._scan(blocks.split(xbc), blocks.split(dt), state, blocks))
        y.addcmul_(xbc[:, : self.inner], self.skip).mul_(F.silu(gate))
        width = self.inner // self.groups
        y = F.rms_norm(y.view(-1, self.groups, width), (width,), eps=self.eps)
        return F.linear(y.view(-1, self.inner), self.out_weight, self.out_bias)

    def _scan(self, xbc: torch.Tensor, dt: torch.Tensor, state: torch.Tensor, blocks: Blocks) -> torch.Tensor:
        """Scan blocks and move `state` on.

        Args:
            xbc: what the state takes, and how it takes and gives it, (rows, length, channels).
            dt: time steps (rows, length, heads), 0 where there is no token: such a token neither decays the
                state nor adds to it.
            state: (streams, groups, state size, heads of the group, head size).
            blocks: which row continues which stream.

        Returns:
            What was read after each token, (rows, length, groups, heads of the group, head size).
        """
        rows, length = xbc.shape[:2]
        groups, size = self.state_shape[:2]
        x, b, c = torch.split(xbc, [self.inner, groups * size, groups * size], dim=2)
        x = x.view(rows, length, self.heads, self.head_dim) * dt[..., None]
        b = b.view(rows, length, groups, size).transpose(1, 2)
        c = c.view(rows, length, groups, size).transpose(1, 2)
        # In fp64: the decay between two tokens is a small difference of what may be large sums.
        sums = (dt.double() * self.rates).cumsum(dim=1)
        y = self._from_past(x, b, c, sums, state, blocks)
        return y.add_(self._from_block(x, b, c, sums).view_as(y))

    def _from_past(
        self,
        x: torch.Tensor,
        b: torch.Tensor,
        c: torch.Tensor,
        sums: torch.Tensor,
        state: torch.Tensor,
        blocks: Blocks,
    ) -> torch.Tensor:
        """What each token reads from the blocks before its own; `state` moves on over all blocks."""
        rows, length = x.shape[:2]
        groups, size, in_group, width = self.state_shape
        left = (sums[:, -1:] - sums).exp().float()
        by_group = (x * left[..., None]).view(rows, length, groups, in_group * width).transpose(1, 2)
        fed = (b.transpose(2, 3) @ by_group).view(rows, *self.state_shape)
        kept = sums[:, -1].exp().float().view(rows, groups, 1, in_group, 1)
        found = torch.empty_like(fed)
        for step in blocks.steps:
            active = state[: step.stop - step.start]
            found[step] = active
            torch.addcmul(fed[step], active, kept[step], out=active)
        read = c @ found.view(rows, groups, size, in_group * width)
        read = read.view(rows, groups, length, in_group, width).transpose(1, 2)
        return read * sums.exp().float().view(rows, length, groups, in_group, 1)

    def _from_block(
        self, x: torch.Tensor, b: torch.Tensor, c: torch.Tensor, sums: torch.Tensor
    ) -> torch.Tensor:
        """What each token reads from its own block up to itself, (rows, length, heads, head size)."""
        rows, length = x.shape[:2]
        by_head = sums.transpose(1, 2)
        shares = (by_head[..., :, None] - by_head[..., None, :]).float()
        later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu_(1)
        shares.masked_fill_(later, -math.inf).exp_()
        shares.view(rows, self.groups, -1, length, length).mul_((c @ b.transpose(2, 3))[:, :, None])
        return (shares @ x.transpose(1, 2)).transpose(1, 2)


def _time_step_limit(config: Mapping[str, Any]) -> tuple[float, float]:
    """Bounds of the time step; transformers 5 writes an infinite one as `{"__float__": "Infinity"}`."""
    limit = config.get("time_step_limit", (0.0, math.inf))
    if isinstance(limit, list | tuple) and len(limit) == 2:
        low, high = (math.inf if bound == {"__float__": "Infinity"} else bound for bound in limit)
        numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (low, high))
        if numbers and 0 <= low <= high and low < math.inf:
            return float(low), float(high)
    raise BundleError(
        f"config.json: time_step_limit is {limit!r}, but must be two numbers, from 0 on and rising"
    )
