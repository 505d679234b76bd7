"""Exact fp32 matrix products by the faster of torch's two CPU libraries.

torch computes fp32 products by MKL, which uses half the width of the vector units on processors not made
by Intel, and by oneDNN only where a lower precision is allowed ("bf16"). On processors without matrix
units for bf16 oneDNN computes in fp32 then, all the same, at twice MKL's speed on an AMD Zen 5. Whether this
processor is one of them is found out by trying: both libraries against fp64, once a process.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["exact_onednn", "fast_products"]

_LEAST_WORK = 5_000
"""Rows times width below which oneDNN's overhead, some 20 µs a product, costs more than its speed gains;
measured with networks of widths 96, 128 and 384."""


@contextmanager
def fast_products(rows: int, width: int) -> Iterator[None]:
    """Products with matrices of so many rows and columns are computed by whichever library is faster here."""
    if rows * width < _LEAST_WORK or not exact_onednn():
        yield
        return
    settings = _settings()
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


def _settings() -> Any:
    """Torch's switch for oneDNN's products, which has no types; None where this torch has none."""
    mkldnn: Any = torch.backends.mkldnn
    return getattr(mkldnn, "matmul", None) if mkldnn.is_available() else None


@functools.cache
def exact_onednn() -> bool:
    """Whether oneDNN, allowed to use bf16, still computes with the precision of fp32 on this processor."""
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
