"""Hugging Face's Mamba mixers continued from a given past, differentiable.

`MambaMixer` starts every scan of more than one token from zero, whatever its cache holds, and
`Mamba2Mixer` overwrites in place what its gradient still needs. These functions compute the same layers
from the same modules, but take a past and return the next.
Mamba, arXiv 2312.00752; Mamba2, structured state space duality, arXiv 2405.21060, section 6.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from training.selective_scan import selective_scan

__all__ = ["Past", "mamba2_mixer", "mamba_mixer"]

Past = tuple[Tensor, Tensor]
"""Of one layer: the last inputs of its convolution, oldest first, (batch, kernel - 1, channels), and the
state of its scan, (batch, ...)."""

_BLOCK = 64
"""Tokens of a block of Mamba2's scan."""


def mamba_mixer(mixer: Any, hidden: Tensor, past: Past | None) -> tuple[Tensor, Past]:
    """What a `MambaMixer` adds to each token.

    Args:
        mixer: the module.
        hidden: normed tokens, (batch, length, hidden).
        past: of each sequence; None is a past of zeros.

    Returns:
        Like `hidden`; and the past of what follows.
    """
    wide = torch.promote_types(hidden.dtype, torch.float32)
    x, gate = mixer.in_proj(hidden).chunk(2, dim=2)
    x, conv = _convolve(mixer, x, None if past is None else past[0])
    size, rank = mixer.ssm_state_size, mixer.time_step_rank
    dt, b, c = torch.split(mixer.x_proj(x), [rank, size, size], dim=2)
    dt = F.linear(dt, mixer.dt_proj.weight)
    with torch.autocast(hidden.device.type, enabled=False):
        dt = F.softplus(dt.to(wide) + mixer.dt_proj.bias.to(wide))
        rates = -torch.exp(mixer.A_log.to(wide)).t()
        state = x.new_zeros(len(x), *rates.shape, dtype=wide) if past is None else past[1]
        y, state = selective_scan(x.to(wide), dt, rates, b.to(wide), c.to(wide), state)
        y = (y + x * mixer.D) * F.silu(gate)
    return mixer.out_proj(y.to(hidden.dtype)), (conv, state.detach())


def mamba2_mixer(mixer: Any, hidden: Tensor, past: Past | None) -> tuple[Tensor, Past]:
    """What a `Mamba2Mixer` adds to each token; see `mamba_mixer`."""
    wide = torch.promote_types(hidden.dtype, torch.float32)
    batch, length = hidden.shape[:2]
    groups, size = mixer.n_groups, mixer.ssm_state_size
    inner, heads, width = mixer.intermediate_size, mixer.num_heads, mixer.head_dim
    gate, xbc, dt = torch.split(mixer.in_proj(hidden), [inner, mixer.conv_dim, heads], dim=2)
    xbc, conv = _convolve(mixer, xbc, None if past is None else past[0])
    with torch.autocast(hidden.device.type, enabled=False):
        x, b, c = torch.split(xbc.to(wide), [inner, groups * size, groups * size], dim=2)
        dt = F.softplus(dt.to(wide) + mixer.dt_bias.to(wide)).clamp(*mixer.time_step_limit)
        x = x.view(batch, length, groups, heads // groups, width)
        state = None if past is None else past[1]
        y, state = _scan_blocks(
            x * dt.view(batch, length, groups, -1, 1),
            # In fp64: the decay between two tokens is a small difference of what may be large sums.
            (dt.double() * -torch.exp(mixer.A_log.double())).view(batch, length, groups, -1),
            b.reshape(batch, length, groups, size),
            c.reshape(batch, length, groups, size),
            state,
        )
        y = (y + x * mixer.D.view(groups, -1, 1)).reshape(batch, length, inner)
        y = _gated_norm(y, gate.to(wide), mixer.norm)
    return mixer.out_proj(y.to(hidden.dtype)), (conv, state.detach())


def _convolve(mixer: Any, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
    """The causal convolution and its activation, (batch, length, channels), and its last inputs."""
    reach = mixer.conv_kernel_size - 1
    if past is None:
        past = x.new_zeros(len(x), reach, x.shape[2])
    inputs = torch.cat([past.to(x.dtype), x], dim=1)
    y = F.conv1d(inputs.transpose(1, 2), mixer.conv1d.weight, mixer.conv1d.bias, groups=x.shape[2])
    return mixer.act(y).transpose(1, 2), inputs[:, inputs.shape[1] - reach :].detach()


def _scan_blocks(
    fed: Tensor, exponents: Tensor, b: Tensor, c: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Mamba2's scan.

    Args:
        fed: dt * x, (batch, length, groups, heads of a group, head size).
        exponents: dt * A, in fp64, (batch, length, groups, heads of a group).
        b: how the state takes what is fed, (batch, length, groups, state size).
        c: how the state is read, like b.
        state: before the first token, (batch, groups, heads of a group, state size, head size).

    Returns:
        What was read after each token, like `fed`; the state after the last.
    """
    length = fed.shape[1]
    block = min(_BLOCK, length)
    fed, exponents, b, c = (_in_blocks(part, block) for part in (fed, exponents, b, c))
    # Now (batch, blocks, groups, [heads,] block, ...).
    fed = fed.permute(0, 1, 3, 4, 2, 5)
    sums = exponents.permute(0, 1, 3, 4, 2).cumsum(dim=-1)
    b, c = b.transpose(2, 3), c.transpose(2, 3)
    later = torch.ones(block, block, dtype=torch.bool, device=fed.device).triu(1)
    shares = (sums[..., :, None] - sums[..., None, :]).to(fed.dtype)
    shares = shares.masked_fill(later, -math.inf).exp() * (c @ b.transpose(3, 4))[:, :, :, None]
    y = shares @ fed
    left = (sums[..., -1:] - sums).exp().to(fed.dtype)
    added = b.transpose(3, 4)[:, :, :, None] @ (fed * left[..., None])
    kept = sums[..., -1].exp().to(fed.dtype)[..., None, None]
    state = torch.zeros_like(added[:, 0]) if state is None else state
    found = []
    for i in range(added.shape[1]):
        found.append(state)
        state = added[:, i] + kept[:, i] * state
    read = c[:, :, :, None] @ torch.stack(found, dim=1)
    y = y + read * sums.exp().to(fed.dtype)[..., None]
    return y.permute(0, 1, 4, 2, 3, 5).flatten(1, 2)[:, :length], state


def _in_blocks(part: Tensor, block: int) -> Tensor:
    """(batch, length, ...) as (batch, blocks, block, ...), filled up with zeros, which change nothing."""
    batch, length, *others = part.shape
    if length % block:
        part = torch.cat([part, part.new_zeros(batch, -length % block, *others)], dim=1)
    return part.reshape(batch, -1, block, *others)


def _gated_norm(y: Tensor, gate: Tensor, norm: Any) -> Tensor:
    groups = (y * F.silu(gate)).view(*y.shape[:2], -1, norm.group_size)
    normed = F.rms_norm(groups, (norm.group_size,), eps=norm.variance_epsilon).view(y.shape)
    weight: Tensor = norm.weight
    return weight * normed
