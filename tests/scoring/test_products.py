"""Products by the faster library: as precise as fp32, few shapes, and a setting that comes back."""

import subprocess
import sys
import threading
from typing import Any

import pytest
import torch

from ecustream.scoring.products import exact_onednn, fast_products, plain_products, round_rows

WIDTH = 512


def setting() -> str:
    """What torch's products by oneDNN are allowed to do."""
    mkldnn: Any = torch.backends.mkldnn
    return str(mkldnn.matmul.fp32_precision)


@pytest.mark.parametrize("rows", [1, 9, 10, 64, 192, 200])
def test_products_have_the_precision_of_fp32(rows: int) -> None:
    """Whichever library computes them, they differ from fp64 by what fp32 rounds."""
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(rows, WIDTH, generator=generator), torch.randn(WIDTH, 300, generator=generator)
    with fast_products(rows, WIDTH):
        product = a @ b
    assert float((product.double() - a.double() @ b.double()).abs().max()) < 2e-4


@pytest.mark.parametrize(("rows", "fast"), [(1, False), (9, False), (64, True), (65, False), (160, True)])
def test_only_round_numbers_of_rows_are_fast(rows: int, fast: bool) -> None:
    """Others take the library that keeps nothing for each shape; so do blocks that say so."""
    before = setting()
    with fast_products(rows, WIDTH):
        assert (setting() != before) == (fast and exact_onednn())
        with plain_products():
            assert setting() == before
        assert (setting() != before) == (fast and exact_onednn())
    assert setting() == before


def test_rows_are_rounded_up_to_few_numbers() -> None:
    """Small ones stay as they are; of the others there are not many, and none is much too large."""
    rounded = [round_rows(rows, WIDTH) for rows in range(1, 4097)]
    assert rounded[:9] == list(range(1, 10))
    assert rounded == sorted(rounded)
    assert len(set(rounded[9:])) <= (32 if exact_onednn() else 4096)
    for rows, padded in enumerate(rounded, 1):
        assert rows <= padded <= max(rows + 15, 1.25 * rows)


def test_the_setting_comes_back_also_after_errors_and_from_many_threads() -> None:
    """However blocks of several threads overlap, the process is left as it was found."""
    before = setting()
    with pytest.raises(ZeroDivisionError), fast_products(64, WIDTH):
        _ = 1 / 0
    assert setting() == before

    def enter_often() -> None:
        for _ in range(3000):
            with fast_products(1024, WIDTH), plain_products():
                pass

    threads = [threading.Thread(target=enter_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert setting() == before


_VARIED = """
import numpy as np
from ecustream.bench.bodies import random_body
from ecustream.scoring.machine import prepare_machine
from ecustream.scoring.networks import open_network
prepare_machine(1)
body = random_body("4x128")
network = open_network(body.config, body.weights, window_tokens=512, warming_tokens=1)
stream = network.new_stream()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
def score(sizes):
    for size in sizes:
        network.score(np.zeros(size, np.int64), [(stream, size)])
    return resident()
first = score([512] * 5 + [100, 64, 900])
print(score(range(40, 520, 3)) - first)
"""


def test_chunks_of_every_size_do_not_fill_the_memory() -> None:
    """A service meets every number of tokens; what the libraries keep for them stays far below a gigabyte."""
    told = subprocess.run([sys.executable, "-c", _VARIED], capture_output=True, text=True, check=True).stdout
    assert int(told) < 100_000_000
