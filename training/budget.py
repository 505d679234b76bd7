"""A run's cost in FLOPs: measured on one step before it starts, spent during it, ended at a budget.

Counted are matrix products, convolutions and attention, whatever kernel computes them; what a fused kernel
computes again in its backward pass counts once, so a processor and an accelerator give one number. Not
counted is elementwise work: 1 % more in a small Qwen2, 3 % in Mamba 2, and 7 to 12 % in Mamba, whose scan is
elementwise (measured, hidden size 96 and 192). Nor are the optimiser and validation.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from ecustream.errors import ConfigError

__all__ = ["Budget", "flops_text", "measure_step", "parse_flops", "plan_sentence"]

Shape = list[int]
_UNITS = ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP", "ZFLOP")


class Budget:
    """FLOPs spent by a run, and whether its limit leaves enough for another step.

    Args:
        limit: FLOPs of all processes that the run may spend; None for any number.
        spent: FLOPs spent before, by the run that this one goes on with.

    Attributes:
        flops_per_step: cost of the next step; set it before the first one, `spend` keeps it after that.
    """

    def __init__(self, limit: int | None = None, spent: int = 0) -> None:
        self.limit = limit
        self.spent = spent
        self.flops_per_step = 0

    def spend(self, flops: int) -> None:
        """Count a step of all processes; the next one is expected to cost the same."""
        self.spent += flops
        self.flops_per_step = flops

    @property
    def exhausted(self) -> bool:
        """Whether the next step would pass the limit."""
        return self.limit is not None and self.spent + self.flops_per_step > self.limit

    @property
    def share(self) -> float:
        """Spent share of the limit, 0 to 1; always 0 without one."""
        return min(1.0, self.spent / self.limit) if self.limit else 0.0


def measure_step(model: Any, step: Callable[[], Tensor]) -> int:
    """FLOPs of one forward and backward pass in this process, by torch's counter.

    Weights, optimiser and random state stay as they are; gradients are cleared. A model that carries
    state from chunk to chunk keeps that of the measured one: let it forget.

    Args:
        model: whose gradients the step computes; not yet wrapped for several processes.
        step: forward pass and loss of one micro-batch; gives the loss, a scalar with a gradient.

    Returns:
        FLOPs of one micro-batch: times their number and that of processes gives an optimiser step.
    """
    accelerators = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    counting = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    with torch.random.fork_rng(sorted(accelerators)), counting as counter:
        torch.autograd.backward(step())
    model.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())


def plan_sentence(flops_per_step: int, steps: int, limit: int | None, tokens_per_step: int) -> str:
    """What a run will cost, and where its budget ends it.

    Args:
        flops_per_step: of all processes.
        steps: planned optimiser steps.
        limit: the budget in FLOPs; None for none.
        tokens_per_step: of all processes.
    """
    flops = flops_per_step * steps
    text = (
        f"plan: {steps:,} steps of {flops_text(flops_per_step)} and {tokens_per_step:,} tokens, "
        f"{flops_text(flops)} in all"
    )
    if limit is None:
        return text
    budget = f"the budget of {flops_text(limit)}"
    if flops <= limit:
        return f"{text}; {budget} covers it"
    affordable = limit // flops_per_step
    return f"{text}; {budget} {f'ends it after {affordable:,}' if affordable else 'does not cover one step'}"


def parse_flops(text: str) -> int:
    """The value of `--budget-flops`: a number such as 1e15.

    Raises:
        ConfigError: it is not a number, or not at least 1.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1 <= value < math.inf:
        raise ConfigError(f"--budget-flops: {text!r} is not a number of FLOPs, such as 1e15")
    return int(value)


def flops_text(flops: int) -> str:
    """FLOPs in three digits and the fitting unit: 41_200_000_000 is 41.2 GFLOP."""
    value, unit = float(flops), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:,.0f} {_UNITS[unit]}" if value >= 999.5 else f"{value:.3g} {_UNITS[unit]}"


def _attention(query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
    batch, heads, queries, size = query
    return 2 * batch * heads * queries * key[2] * (size + value[3])


def _attention_backward(_: Shape, query: Shape, key: Shape, value: Shape, *__: object, **___: object) -> int:
    return 2 * _attention(query, key, value)


def _convolution_backward(
    gradient: Shape,
    inputs: Shape,
    weight: Shape,
    _bias: object,
    _stride: object,
    _padding: object,
    _dilation: object,
    transposed: bool,
    _output_padding: object,
    _groups: int,
    wanted: Sequence[bool],
    **_: object,
) -> int:
    # torch's own formula leaves out the groups: a depthwise convolution counts a hundredfold.
    return sum(wanted[:2]) * conv_flop_count(inputs, weight, gradient, transposed)


_aten = torch.ops.aten
_FORMULAS = {
    # The kernel of processors is not known to torch's counter, which then counts nothing for it.
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    _aten._scaled_dot_product_flash_attention_backward: _attention_backward,
    _aten._scaled_dot_product_efficient_attention_backward: _attention_backward,
    _aten._scaled_dot_product_cudnn_attention_backward: _attention_backward,
    _aten.convolution_backward: _convolution_backward,
}
