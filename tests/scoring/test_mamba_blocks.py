"""How packed tokens of several streams are laid out in blocks for a scan."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from ecustream.scoring.mamba_blocks import Blocks

CPU = torch.device("cpu")


@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=6), longest=st.integers(1, 12))
def test_every_token_lies_in_the_block_that_its_stream_continues_with(
    counts: list[int], longest: int
) -> None:
    """Step by step, row r of the blocks goes on with stream `order[r]`; what is left over is zero."""
    blocks = Blocks(counts, longest, CPU)
    tokens = [torch.arange(1, n + 1) + 100 * i for i, n in enumerate(counts, 1)]
    packed = torch.cat(tokens)[:, None]
    laid_out = blocks.split(packed)
    assert torch.equal(blocks.join(laid_out), packed)
    found: list[list[torch.Tensor]] = [[] for _ in counts]
    for step in blocks.steps:
        for row, stream in zip(laid_out[step, :, 0], blocks.order, strict=False):
            found[stream].append(row)
    for mine, rows in zip(tokens, found, strict=True):
        in_turn = torch.cat(rows)
        assert torch.equal(in_turn[: len(mine)], mine)
        assert not in_turn[len(mine) :].any()
    assert sum(len(rows) for rows in found) == len(laid_out) == blocks.steps[-1].stop


@given(count=st.integers(1, 400), longest=st.integers(1, 70))
def test_a_stream_alone_is_cut_into_even_blocks(count: int, longest: int) -> None:
    """No more blocks than needed, none longer than allowed, and less than one token of padding in each."""
    blocks = Blocks([count], longest, CPU)
    assert blocks.length <= longest
    assert blocks.rows == len(blocks.steps)
    assert (blocks.rows - 1) * longest < count
    assert 0 <= blocks.rows * blocks.length - count < blocks.rows
