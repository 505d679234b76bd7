"""Measures how fast this machine multiplies matrices, the bound for how fast a model can be."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from ecustream.scoring.products import exact_onednn, fast_products

__all__ = ["MachineProducts", "shapes_of"]

Shape = tuple[int, int, int]

_SECONDS = 0.01
_CPU_SQUARES = (512, 1024)
_GPU_SQUARES = (2048, 4096, 8192)
_ROWS = (256, 1024)


def shapes_of(hidden: int, inner: int, device: torch.device) -> list[Shape]:
    """Products (rows, from, to) of a model with these sizes, and some large ones."""
    squares = _CPU_SQUARES if device.type == "cpu" else _GPU_SQUARES
    layers = [(hidden, hidden), (hidden, 2 * inner), (inner, hidden)]
    return [*((m, k, n) for m in _ROWS for k, n in layers), *((size, size, size) for size in squares)]


class MachineProducts:
    """Products of several shapes, measured as often as wanted; the best counts.

    Args:
        shapes: (rows, from, to) of each product.
        device: where they are computed.
        dtype: of the factors.
    """

    def __init__(self, shapes: Sequence[Shape], device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype
        self._factors = [
            (torch.randn(m, k, device=device, dtype=dtype), torch.randn(n, k, device=device, dtype=dtype))
            for m, k, n in shapes
        ]
        self._ways: dict[str, Callable[[int, int], AbstractContextManager[None]]]
        self._ways = {"plain": lambda rows, width: nullcontext()}
        if device.type == "cpu" and dtype == torch.float32 and exact_onednn():
            self._ways["fast_products"] = fast_products
        self._best = {(way, shape): 0.0 for way in self._ways for shape in shapes}

    def measure(self) -> None:
        """Measure every product once more."""
        for (way, shape), (a, b) in zip(
            self._best, [factors for _ in self._ways for factors in self._factors], strict=True
        ):
            with self._ways[way](shape[0], shape[1]), torch.inference_mode():
                rate = 2.0 * shape[0] * shape[1] * shape[2] / self._seconds(a, b)
            self._best[way, shape] = max(self._best[way, shape], rate)

    def _seconds(self, a: torch.Tensor, b: torch.Tensor) -> float:
        """Of one product, over some that take 10 ms together."""
        times = 1
        while (taken_s := self._timed(a, b, times)) < _SECONDS:
            times *= max(2, min(10, int(_SECONDS / max(taken_s, 1e-9))))
        return taken_s / times

    def _timed(self, a: torch.Tensor, b: torch.Tensor, times: int) -> float:
        self._wait()
        begin_s = time.perf_counter()
        for _ in range(times):
            torch.nn.functional.linear(a, b)
        self._wait()
        return time.perf_counter() - begin_s

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def report(self) -> dict[str, Any]:
        """The best rate in `flops_per_s` with its `shape` and `way`, and `rows` of all with these keys."""
        rows = [
            {"way": way, "dtype": str(self._dtype).removeprefix("torch."), "shape": list(shape)}
            | {"flops_per_s": rate}
            for (way, shape), rate in self._best.items()
        ]
        return {**max(rows, key=lambda row: float(str(row["flops_per_s"]))), "rows": rows}
