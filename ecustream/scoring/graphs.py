"""Passes over a device in a few fixed shapes, each recorded once as a CUDA graph and replayed from then on.

Launching the kernels of a small model one by one takes longer than running them; a graph is one launch.
It replays the same kernels on the same memory, so its input and output stay where they were recorded, and
a pass may depend on values in tensors only, never on values that the host knows. All graphs share one
memory pool: no two of them run at once.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Passes", "sizes_up_to"]

_TRIAL_RUNS = 2


def sizes_up_to(largest: int, smallest: int = 1) -> list[int]:
    """`smallest` and its doubles, ending in `largest` itself."""
    sizes = []
    size = smallest
    while size < largest:
        sizes.append(size)
        size *= 2
    return [*sizes, largest]


class Passes:
    """Runs a function of the device on input of the host, one prepared pass for each shape of input.

    Args:
        run: takes an int64 tensor on the device, gives an int32 tensor on the device; may write to tensors
            of its own, and waits for nothing.
        idle: an input of a shape that changes nothing that matters, with which a pass is tried out.
        device: where passes run.
        graphs: whether passes are recorded as CUDA graphs, where the device has them.

    Attributes:
        prepared: how many shapes have been met so far, each of which cost a preparation.
    """

    def __init__(
        self,
        run: Callable[[torch.Tensor], torch.Tensor],
        idle: Callable[[int, int], npt.NDArray[np.int64]],
        device: torch.device,
        *,
        graphs: bool,
    ) -> None:
        self._run = run
        self._idle = idle
        self._device = device
        self._graphs = graphs and device.type == "cuda"
        self._pool = torch.cuda.graph_pool_handle() if self._graphs else None
        self._passes: dict[tuple[int, int], _Pass] = {}

    @property
    def prepared(self) -> int:
        """How many shapes have been met so far."""
        return len(self._passes)

    def prepare(self, shapes: Iterable[tuple[int, int]]) -> None:
        """Prepare passes for inputs of these shapes; from the largest on they share most memory."""
        for shape in sorted(shapes, key=lambda shape: shape[0] * shape[1], reverse=True):
            self._pass(shape)

    def __call__(self, inputs: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """What the function gives for a 2-D input; valid until the next call with this shape."""
        return self._pass((inputs.shape[0], inputs.shape[1]))(inputs)

    def _pass(self, shape: tuple[int, int]) -> "_Pass":
        prepared = self._passes.get(shape)
        if prepared is None:
            idle = self._idle(*shape)
            if self._device.type != "cuda":
                prepared = _Pass(self._run, idle, self._device)
            else:
                with torch.cuda.device(self._device):
                    prepared = _CudaPass(self._run, idle, self._device, self._pool)
            self._passes[shape] = prepared
        return prepared


class _Pass:
    """A pass that is run anew each time, as on a CPU."""

    def __init__(
        self,
        run: Callable[[torch.Tensor], torch.Tensor],
        idle: npt.NDArray[np.int64],
        device: torch.device,
    ) -> None:
        self._run = run
        self._device = device
        self(idle)

    def __call__(self, inputs: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        said: npt.NDArray[np.int32] = self._run(torch.from_numpy(inputs).to(self._device)).cpu().numpy()
        return said


class _CudaPass(_Pass):
    """A pass on a CUDA device: one copy to it, a graph if there is a pool for it, one copy back."""

    def __init__(
        self,
        run: Callable[[torch.Tensor], torch.Tensor],
        idle: npt.NDArray[np.int64],
        device: torch.device,
        pool: Any,
    ) -> None:
        self._run = run
        self._device = device
        # Memory that the device can read by itself: only from there are copies not waited for.
        self._host_in = torch.from_numpy(idle).pin_memory()
        self._host_in_view = self._host_in.numpy()
        self._in = self._host_in.to(device)
        out = self._tried_out()
        self._graph: torch.cuda.CUDAGraph | None = None
        if pool is not None:
            self._graph = torch.cuda.CUDAGraph()
            # Another model may be scoring in another thread meanwhile, whose calls are none of this graph's.
            with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                out = run(self._in)
            self._out = out
        self._host_out = torch.empty(out.shape, dtype=out.dtype, pin_memory=True)
        self._host_out_view: npt.NDArray[np.int32] = self._host_out.numpy()

    def _tried_out(self) -> torch.Tensor:
        """What libraries set up at their first use must not happen while a graph is recorded."""
        aside = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(aside):
            for _ in range(_TRIAL_RUNS):
                out = self._run(self._in)
        torch.cuda.current_stream(self._device).wait_stream(aside)
        return out

    def __call__(self, inputs: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        self._host_in_view[:] = inputs
        with torch.cuda.device(self._device):
            self._in.copy_(self._host_in, non_blocking=True)
            if self._graph is None:
                out = self._run(self._in)
            else:
                self._graph.replay()
                out = self._out
            self._host_out.copy_(out, non_blocking=True)
            torch.cuda.current_stream(self._device).synchronize()
        return self._host_out_view
