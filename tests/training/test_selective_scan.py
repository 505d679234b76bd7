"""Mamba's scan and its gradient against a plain loop that autograd follows."""

import pytest
import torch
from torch import Tensor

from training import selective_scan as module
from training.selective_scan import selective_scan


def inputs(batch: int = 3, length: int = 13, channels: int = 5, size: int = 4) -> list[Tensor]:
    """Random arguments in fp64, all of which require a gradient."""
    random = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    parts = [
        draw(batch, length, channels),
        draw(batch, length, channels).exp(),
        -draw(size, channels).exp(),
        draw(batch, length, size),
        draw(batch, length, size),
        draw(batch, size, channels),
    ]
    return [part.requires_grad_() for part in parts]


def plain(x: Tensor, dt: Tensor, rates: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence, one token after the other."""
    read = []
    for t in range(x.shape[1]):
        state = torch.exp(dt[:, t, None] * rates) * state + (dt * x)[:, t, None] * b[:, t, :, None]
        read.append((c[:, t, :, None] * state).sum(dim=1))
    return torch.stack(read, dim=1), state


@pytest.mark.parametrize("at_once", [1, 60, 3 * 20 * 5, 10**6])
@pytest.mark.parametrize("length", [1, 2, 13])
def test_reads_state_and_all_gradients_are_those_of_a_plain_loop(
    at_once: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In blocks of one, some or all tokens; losses on what is read and on the last state alike."""
    monkeypatch.setitem(module._AT_ONCE, "cpu", at_once)
    ours, theirs = inputs(length=length), inputs(length=length)
    weights = torch.randn(3, length, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for scan, arguments in ((selective_scan, ours), (plain, theirs)):
        y, state = scan(*arguments)
        ((y * weights).sum() + state.pow(2).sum()).backward()  # type: ignore[no-untyped-call]
    for mine, their in zip(selective_scan(*ours), plain(*theirs), strict=True):
        torch.testing.assert_close(mine, their, rtol=1e-12, atol=1e-12)
    for mine, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, their.grad, rtol=1e-10, atol=1e-10)


def test_arguments_stay_as_they_are() -> None:
    """Neither pass writes into what it was given, the state above all."""
    arguments = inputs()
    before = [part.detach().clone() for part in arguments]
    y, state = selective_scan(*arguments)
    (y.sum() + state.sum()).backward()  # type: ignore[no-untyped-call]
    for part, was in zip(arguments, before, strict=True):
        torch.testing.assert_close(part.detach(), was, rtol=0, atol=0)
