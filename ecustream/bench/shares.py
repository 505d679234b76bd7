"""Finds out which kinds of work the time of scoring goes to, operator by operator."""

import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

__all__ = ["KINDS", "kind_of", "work_shares"]

KINDS = ("matrix products", "softmax", "elementwise", "copies", "fused attention", "the rest")
"""The rest is Python, numpy, and what torch needs to choose an operator and to make its tensors."""

_WORDS = (
    ("fused attention", ("flash", "scaled_dot_product", "fmha", "flex_attention", "varlen_attn")),
    ("softmax", ("softmax", "logsumexp")),
    (
        "matrix products",
        ("addmm", "bmm", "::mm", "gemm", "gemv", "matmul", "cutlass", "nvjet", "splitk", "_linear"),
    ),
    (
        "copies",
        ("copy", "memcpy", "memset", "::cat", "catarray", "clone", "index", "gather", "embedding", "fill"),
    ),
)
_DISPATCH = (
    "alias as_strided chunk contiguous detach empty empty_like empty_strided expand expand_as "
    "item linear lift_fresh matmul narrow permute reshape resize_ select slice softmax split "
    "split_with_sizes squeeze stack t to transpose unbind unfold unsqueeze view view_as "
    "view_as_complex view_as_real _local_scalar_dense _reshape_alias _unsafe_view _to_copy "
    "is_nonzero resolve_conj result_type zeros"
)
"""Operators of torch that compute nothing themselves."""


def kind_of(operator: str) -> str:
    """Which of `KINDS` an operator's own work is; by the names of torch's operators and CUDA's kernels."""
    if operator.removeprefix("aten::") in _DISPATCH.split() or operator.startswith(("cuda", "Activity")):
        return "the rest"
    lower = operator.lower()
    for kind, words in _WORDS:
        if any(word in lower for word in words):
            return kind
    return "elementwise"


def work_shares(call: Callable[[], None], calls: int, device: torch.device) -> dict[str, Any]:
    """Profile some calls.

    Args:
        call: what is called; it ends when its work has ended, on a GPU as well.
        calls: how often.
        device: on a GPU the time of kernels counts, and the rest is when none runs.

    Returns:
        `shares`: the share of the wall time for each of `KINDS`; `us_per_call`: wall time of a call as
        profiled; `slowdown`: by which factor the profiler made it longer, most of it in the rest; and
        `operators`: the ten that take longest, each with `name`, `kind`, `share` and `calls`.
    """
    call()
    plain_s = _timed(call, calls)
    on_gpu = device.type == "cuda"
    # Else it writes to stderr that it began, and that it ended.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    activities = [ProfilerActivity.CUDA] if on_gpu else [ProfilerActivity.CPU]
    with profile(activities=activities) as profiler:
        wall_s = _timed(call, calls)
    taken_s = dict.fromkeys(KINDS, 0.0)
    operators = []
    for entry in profiler.key_averages():
        # On a GPU operators are given the time of their kernels, which are entries as well.
        if on_gpu and (entry.device_type.name != "CUDA" or entry.is_user_annotation):
            continue
        own_us = entry.self_device_time_total if on_gpu else entry.self_cpu_time_total
        kind = kind_of(entry.key)
        if kind != "the rest":
            taken_s[kind] += own_us / 1e6
            operators.append((own_us / 1e6 / wall_s, entry.key, kind, entry.count))
    taken_s["the rest"] = max(0.0, wall_s - sum(taken_s.values()))
    return {
        "shares": {kind: seconds / wall_s for kind, seconds in taken_s.items()},
        "us_per_call": wall_s / calls * 1e6,
        "slowdown": wall_s / plain_s,
        "operators": [
            {"name": name, "kind": kind, "share": share, "calls": count / calls}
            for share, name, kind, count in sorted(operators, reverse=True)[:10]
        ],
    }


def _timed(call: Callable[[], None], calls: int) -> float:
    begin_s = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - begin_s
