"""Prepared passes: one for each shape of input, the same results whether recorded or not."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ecustream.scoring.graphs import Passes, sizes_up_to
from ecustream.scoring.kernels import AttentionKind
from tests.scoring.on_devices import DEVICES, batched, needs_cuda, needs_flash, random_ids
from tests.scoring.tiny import oracle


class Sums:
    """Adds each row of the input to a total that it keeps, and gives the total and the input."""

    def __init__(self, device: torch.device) -> None:
        self.total = torch.zeros((), dtype=torch.int64, device=device)
        self.calls = 0
        self.idled: list[tuple[int, int]] = []

    def run(self, inputs: torch.Tensor) -> torch.Tensor:
        """The total and the input, as int32."""
        self.calls += 1
        self.total += inputs.sum()
        return torch.cat([self.total.expand(1, inputs.shape[1]), inputs]).to(torch.int32)

    def idle(self, rows: int, width: int) -> npt.NDArray[np.int64]:
        """Zeros: nothing is added."""
        self.idled.append((rows, width))
        return np.zeros((rows, width), np.int64)

    def passes(self, *, graphs: bool = True) -> Passes:
        """Passes that run this."""
        return Passes(self.run, self.idle, self.total.device, graphs=graphs)


def numbers(rows: int, width: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Any input."""
    return np.random.default_rng(seed).integers(0, 1000, (rows, width))


@pytest.mark.parametrize(
    ("largest", "smallest", "sizes"),
    [(1, 1, [1]), (6, 1, [1, 2, 4, 6]), (64, 8, [8, 16, 32, 64]), (50, 8, [8, 16, 32, 50]), (5, 8, [5])],
)
def test_sizes_double_up_to_the_largest(largest: int, smallest: int, sizes: list[int]) -> None:
    """No size is larger than the largest, which is always there."""
    assert sizes_up_to(largest, smallest) == sizes


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_each_input_runs_once_in_the_order_of_the_calls(device: torch.device, graphs: bool) -> None:
    """Shapes in turn, met for the first time or again: every input counts once, trial runs count nothing."""
    sums = Sums(device)
    passes = sums.passes(graphs=graphs)
    total = 0
    for seed in range(12):
        given = numbers(1 + seed % 3, 4 + seed % 2, seed)
        total += int(given.sum())
        with torch.inference_mode():
            said = passes(given)
        assert said.dtype == np.int32
        np.testing.assert_array_equal(said[0], total)
        np.testing.assert_array_equal(said[1:], given)
    assert passes.prepared == 6


@pytest.mark.parametrize("device", DEVICES)
def test_a_shape_is_prepared_once_the_largest_first(device: torch.device) -> None:
    """Prepared ahead or on first use, each shape is tried out with idle input exactly once."""
    sums = Sums(device)
    passes = sums.passes()
    shapes = [(1, 4), (2, 8), (1, 8), (2, 4)]
    with torch.inference_mode():
        passes.prepare(shapes)
        assert sums.idled[0] == (2, 8)
        assert sorted(sums.idled) == sorted(shapes)
        assert sums.calls >= 4
        passes.prepare(shapes)
        for rows, width in shapes:
            passes(numbers(rows, width))
        assert len(sums.idled) == passes.prepared == 4
        passes(numbers(3, 4))
    assert len(sums.idled) == passes.prepared == 5


@needs_cuda
def test_a_recorded_pass_is_replayed_without_its_python() -> None:
    """After a shape was recorded, its Python is not run again, and yet every input counts."""
    sums = Sums(torch.device("cuda"))
    passes = sums.passes()
    with torch.inference_mode():
        passes.prepare([(2, 4)])
        calls = sums.calls
        said = [passes(numbers(2, 4, seed))[0, 0] for seed in range(5)]
    assert sums.calls == calls
    assert said == np.cumsum([numbers(2, 4, seed).sum() for seed in range(5)]).tolist()


@pytest.mark.parametrize(
    ("attention", "dtype"),
    [
        pytest.param("sdpa", torch.float32, marks=needs_cuda),
        pytest.param("flex", torch.float32, marks=needs_cuda),
        pytest.param("flash", torch.bfloat16, marks=needs_flash),
    ],
)
def test_graphs_change_no_score(attention: AttentionKind, dtype: torch.dtype) -> None:
    """The network says the same, to the bit, replayed and launched kernel by kernel."""
    model = oracle(24)
    said = []
    for graphs in (False, True):
        network = batched(
            model, torch.device("cuda"), attention=attention, dtype=dtype, max_streams=3, graphs=graphs
        )
        streams = [network.new_stream() for _ in range(3)]
        said.append(
            [
                network.score(random_ids(6 + 3 * step, seed=step), [(s, 2 + step) for s in streams]).nats
                for step in range(30)
            ]
        )
    for launched, replayed in zip(*said, strict=True):
        np.testing.assert_array_equal(launched, replayed)
