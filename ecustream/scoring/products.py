"""Exact fp32 matrix products by the faster of torch's two CPU libraries.

For fp32 torch takes MKL, which uses half the width of the vector units on processors not made by Intel, and
takes oneDNN only where a lower precision is allowed ("bf16"). On processors without matrix units for
bf16 oneDNN computes in fp32 then, all the same, at twice MKL's speed on an AMD Zen 5. Whether this
processor is one of them is found out by trying: both libraries against fp64, once a process.

oneDNN keeps the code that it makes for each shape of product, 0.5 to 1 MB, and never gives it back. So it is
used for few numbers of rows only, to which `round_rows` rounds up.
"""

import functools
import threading
from types import TracebackType
from typing import Any

import torch

__all__ = ["exact_onednn", "fast_products", "plain_products", "round_rows"]

_LEAST_WORK = 5_000
"""Rows times width below which oneDNN's overhead, some 20 µs a product, costs more than its speed gains;
measured with networks of widths 96, 128 and 384."""

_STEPS = ((128, 16), (256, 32), (512, 64), (1024, 128), (2048, 256))


def round_rows(rows: int, width: int) -> int:
    """Rows to which matrices of so many rows and columns are padded, for `fast_products` to take them."""
    if rows * width < _LEAST_WORK or not exact_onednn():
        return rows
    step = next((step for most, step in _STEPS if rows <= most), 512)
    return -(-rows // step) * step


class _Switch:
    """Turns oneDNN on while any block of `fast_products` is open, and off in blocks of `plain_products`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = 0
        self._before = ""

    def on(self) -> None:
        with self._lock:
            if not self._open:
                self._before = _settings().fp32_precision
                _settings().fp32_precision = "bf16"
            self._open += 1

    def off(self) -> None:
        with self._lock:
            self._open -= 1
            if not self._open:
                _settings().fp32_precision = self._before

    def pause(self) -> None:
        with self._lock:
            if self._open:
                _settings().fp32_precision = self._before

    def go_on(self) -> None:
        with self._lock:
            if self._open:
                _settings().fp32_precision = "bf16"


_switch = _Switch()


class fast_products:  # noqa: N801 - used like a function
    """A block in which products of matrices with so many rows and columns use the faster library.

    It has to be entered for rows that `round_rows` leaves as they are; others take MKL. The setting behind it
    is the process's: where several threads score, each computes exactly, by one library or the other.
    """

    def __init__(self, rows: int, width: int) -> None:
        worth_it = rows * width >= _LEAST_WORK and exact_onednn()
        self._fast = worth_it and rows == round_rows(rows, width)

    def __enter__(self) -> None:
        if self._fast:
            _switch.on()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fast:
            _switch.off()


class plain_products:  # noqa: N801 - used like a function
    """A block within `fast_products` for products of any shape, which MKL computes."""

    def __enter__(self) -> None:
        _switch.pause()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _switch.go_on()


def _settings() -> Any:
    """Torch's switch for oneDNN's products, which has no types; None where this torch has none."""
    mkldnn: Any = torch.backends.mkldnn
    return getattr(mkldnn, "matmul", None) if mkldnn.is_available() else None


_trial_lock = threading.Lock()


def exact_onednn() -> bool:
    """Whether oneDNN, allowed to use bf16, still computes with the precision of fp32 on this processor."""
    with _trial_lock:
        return _exact_onednn()


@functools.cache
def _exact_onednn() -> bool:
    settings = _settings()
    if settings is None:
        return False
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(128, 256, generator=generator), torch.randn(256, 192, generator=generator)
    before = settings.fp32_precision
    try:
        settings.fp32_precision = "bf16"
        products = torch.nn.functional.linear(a, b.t().contiguous()), torch.bmm(a[None], b[None])[0]
    finally:
        settings.fp32_precision = before
    exact = a.double() @ b.double()
    # Rounding the factors to bf16 would cost some 0.1 here, fp32 some 0.00003.
    return all(float((product.double() - exact).abs().max()) < 1e-3 for product in products)
