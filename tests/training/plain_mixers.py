"""Mamba's layers as their papers write them: token after token, one plain recurrence, no cache, no blocks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["forgetting_gradients", "plain_mixer"]


def plain_mixer(mixer: Any, hidden: Tensor, stop: int | None = None, **others: Any) -> Tensor:
    """What a MambaMixer or Mamba2Mixer adds to each token of whole sequences, (batch, length, hidden).

    From token `stop` on nothing sends a gradient back to what came before it.
    """
    first = hasattr(mixer, "x_proj")
    inner, size = mixer.intermediate_size, mixer.ssm_state_size
    projected = mixer.in_proj(hidden)
    if first:
        x, gate = projected.chunk(2, dim=2)
    else:
        gate, x, dt = torch.split(projected, [inner, mixer.conv_dim, mixer.num_heads], dim=2)
    kernel, conv = mixer.conv_kernel_size, mixer.conv1d
    outputs, state = [], None
    for t in range(hidden.shape[1]):
        total = torch.zeros_like(x[:, 0])
        for k in range(max(0, t - kernel + 1), t + 1):
            seen = x[:, k].detach() if stop is not None and k < stop <= t else x[:, k]
            total = total + seen * conv.weight[:, 0, kernel - 1 - (t - k)]
        seen = F.silu(total if conv.bias is None else total + conv.bias)
        if first:
            rank = mixer.time_step_rank
            low, b, c = torch.split(mixer.x_proj(seen), [rank, size, size], dim=1)
            step = F.softplus(mixer.dt_proj(low))[:, :, None]  # (batch, channels, 1)
            b, c, fed, skip = b[:, None], c[:, None], seen[:, :, None], mixer.D
            rates = -torch.exp(mixer.A_log)
        else:
            share = (len(seen), mixer.n_groups, size)
            fed, b, c = torch.split(seen, [inner, share[1] * size, share[1] * size], dim=1)
            repeats = mixer.num_heads // mixer.n_groups
            b = b.reshape(share).repeat_interleave(repeats, dim=1)[:, :, None]
            c = c.reshape(share).repeat_interleave(repeats, dim=1)[:, :, None]
            step = F.softplus(dt[:, t] + mixer.dt_bias).clamp(*mixer.time_step_limit)[:, :, None, None]
            seen, skip = fed, mixer.D.repeat_interleave(mixer.head_dim)
            fed = fed.view(len(fed), mixer.num_heads, mixer.head_dim, 1)
            rates = -torch.exp(mixer.A_log)[:, None, None]
        state = torch.zeros_like(fed * b) if state is None else state
        state = state.detach() if t == stop else state
        state = torch.exp(step * rates) * state + step * fed * b
        y = (state * c).sum(dim=-1).flatten(1) + seen * skip
        y = y * F.silu(gate[:, t])
        if not first:
            groups = y.view(len(y), mixer.n_groups, -1)
            scale = torch.rsqrt(groups.pow(2).mean(dim=2, keepdim=True) + mixer.norm.variance_epsilon)
            y = mixer.norm.weight * (groups * scale).flatten(1)
        outputs.append(mixer.out_proj(y))
    return torch.stack(outputs, dim=1)


def forgetting_gradients(model: Any, stop: int) -> None:
    """Let the layers of a model, which sees whole sequences, send no gradient back over token `stop`.

    Mixers become `plain_mixer`; of attention, later tokens see keys and values of earlier ones detached.
    """
    for module in model.modules():
        if type(module).__name__ in ("MambaMixer", "Mamba2Mixer"):
            module.forward = _ignoring_cache(partial(plain_mixer, module, stop=stop))
        if type(module).__name__ == "Qwen2Attention":
            module.forward = partial(_attend, module, stop)


def _ignoring_cache(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda hidden, cache_params=None, **others: compute(hidden)


def _attend(module: Any, stop: int, hidden_states: Tensor, position_embeddings: Any, **others: Any) -> Any:
    from transformers.models.qwen2.modeling_qwen2 import apply_rotary_pos_emb

    batch, length, _ = hidden_states.shape
    parts = (project(hidden_states) for project in (module.q_proj, module.k_proj, module.v_proj))
    q, k, v = (part.view(batch, length, -1, module.head_dim).transpose(1, 2) for part in parts)
    q, k = apply_rotary_pos_emb(q, k, *position_embeddings)
    repeats = module.num_key_value_groups
    k, v = (part.repeat_interleave(repeats, dim=1) for part in (k, v))
    rows = []
    for t in range(length):
        first = max(0, t - module.sliding_window + 1)
        border = min(max(stop, first), t + 1) if t >= stop else first
        near_k, near_v = (
            torch.cat([part[:, :, first:border].detach(), part[:, :, border : t + 1]], dim=2)
            for part in (k, v)
        )
        shares = torch.softmax(q[:, :, t : t + 1] @ near_k.transpose(2, 3) * module.scaling, dim=3)
        rows.append(shares @ near_v)
    mixed = torch.cat(rows, dim=2).transpose(1, 2).reshape(batch, length, -1)
    return module.o_proj(mixed), None
