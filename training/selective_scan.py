"""Mamba's scan over time from a given state, with its gradient.

`h_t = exp(dt_t * A) * h_(t-1) + (dt_t * x_t) * B_t`, read as `y_t = C_t . h_t`; the gradient is the same
recurrence run backwards. Of the states only those between blocks are kept, and the backward pass computes
the others anew: one instruction a token over all sequences and channels, on memory that stays in the cache.
On an accelerator that is a launch a token, whatever kernels are installed: Mamba2 suits it better.
Mamba, arXiv 2312.00752, section 3.3.
"""

from typing import Any

import torch
from torch import Tensor

__all__ = ["selective_scan"]

_AT_ONCE = {"cpu": 2**19}
"""Entries of all states of a block. On a CPU they should stay in its cache; elsewhere launches cost."""


def selective_scan(
    x: Tensor, dt: Tensor, rates: Tensor, b: Tensor, c: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Scan a batch of sequences; differentiable in all arguments.

    Args:
        x: what is fed, (batch, length, channels).
        dt: time steps, like x.
        rates: A, negative, (state size, channels).
        b: how the state takes what is fed, (batch, length, state size).
        c: how the state is read, like b.
        state: before the first token, (batch, state size, channels).

    Returns:
        What was read after each token, like x; the state after the last, like `state`.
    """
    x, dt, b, c = (part.transpose(0, 1).contiguous() for part in (x, dt, b, c))
    scan: Any = _Scan
    y, state = scan.apply(x, dt, rates.contiguous(), b, c, state)
    return y.transpose(0, 1), state


class _Scan(torch.autograd.Function):
    """The scan with time as the first dimension, so that a token's states lie together."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dt: Tensor, rates: Tensor, b: Tensor, c: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        y = torch.empty_like(x)
        starts = []
        for block in _blocks(x, rates):
            starts.append(state)
            _, states = _states(x[block], dt[block], rates, b[block], state)
            y[block] = (c[block][:, :, None] @ states)[:, :, 0]
            state = states[-1].clone()
        ctx.save_for_backward(x, dt, rates, b, c, *starts)
        return y, state

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, ...]:
        grad_y, grad_state = grad_outputs
        x, dt, rates, b, c, *starts = ctx.saved_tensors
        grad_x, grad_dt, grad_b, grad_c = (torch.empty_like(part) for part in (x, dt, b, c))
        grad_rates = torch.zeros_like(rates)
        for block, start in reversed(list(zip(_blocks(x, rates), starts, strict=True))):
            decay, states = _states(x[block], dt[block], rates, b[block], start)
            grad_c[block] = (states @ grad_y[block][..., None])[..., 0]
            grad = grad_y[block][:, :, None] * c[block][..., None]
            grad[-1] += grad_state
            rows, decays = grad.unbind(), decay.unbind()
            for t in range(len(rows) - 2, -1, -1):
                rows[t].addcmul_(decays[t + 1], rows[t + 1])
            fed = dt[block] * x[block]
            grad_b[block] = (grad @ fed[..., None])[..., 0]
            grad_fed = (b[block][:, :, None] @ grad)[:, :, 0]
            # What remains is the gradient of the exponent dt * A.
            grad *= decay
            grad_state = grad[0].clone()
            grad[1:] *= states[:-1]
            grad[0] *= start
            torch.mul(grad_fed, dt[block], out=grad_x[block])
            torch.addcmul((grad * rates).sum(dim=2), grad_fed, x[block], out=grad_dt[block])
            grad_rates += (grad * dt[block][:, :, None]).sum(dim=(0, 1))
        return grad_x, grad_dt, grad_rates, grad_b, grad_c, grad_state


def _blocks(x: Tensor, rates: Tensor) -> list[slice]:
    length, entries = x.shape[0], x.shape[1] * rates.numel()
    step = max(1, _AT_ONCE.get(x.device.type, 2**27) // entries)
    return [slice(first, min(first + step, length)) for first in range(0, length, step)]


def _states(x: Tensor, dt: Tensor, rates: Tensor, b: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Decays and states of a block's tokens, (length, batch, state size, channels) each."""
    decay = (dt[:, :, None] * rates).exp_()
    states = (dt * x)[:, :, None] * b[..., None]
    for here, kept in zip(states.unbind(), decay.unbind(), strict=True):
        here.addcmul_(kept, state)
        state = here
    return decay, states
