"""Attention of the newest tokens of a stream to its cached window, on a CPU.

Queries are taken in blocks, each of which needs `window - 1` keys more than it has queries. All full blocks
of a head are one batched product over overlapping views of the cache, and few keys outside the window are
multiplied in vain. A single block, and blocks while the window is not yet full, take all heads at once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from ecustream.scoring.products import plain_products

__all__ = ["Stretch", "WindowAttention"]

_QUERY_BLOCK, _WIDE_QUERY_BLOCK, _WIDE_WINDOW = 64, 128, 512
"""Large blocks multiply more keys in vain, small ones copy more keys within the product: in wide windows the
larger is 1 to 7 % faster a pass, in narrow ones slower."""


class Stretch(NamedTuple):
    """Tokens of a pass that attend together: what of it is the same in every layer.

    Attributes:
        rows: which tokens of the pass, all of one stream.
        keys: which positions of the stream's cache they attend to.
        blocks: how many full blocks they are, with full windows; 0 is one block of any size.
        mask: added to the scores of one block, shape (group * tokens, keys); None where nothing is hidden.
    """

    rows: slice
    keys: slice
    blocks: int
    mask: torch.Tensor | None


class WindowAttention:
    """Attention within a window of so many tokens, the token itself included.

    Args:
        window: tokens that a token attends to.
        heads: query heads.
        kv_heads: heads of keys and values, each shared by `heads / kv_heads` query heads.
        dtype: of queries, keys and values.
        device: where they are.
    """

    def __init__(
        self,
        window: int,
        heads: int,
        kv_heads: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        self.window = window
        self._kv_heads = kv_heads
        self._group = heads // kv_heads
        self._block = block = _WIDE_QUERY_BLOCK if window >= _WIDE_WINDOW else _QUERY_BLOCK
        # Row i hides from query i of a block all keys but itself and the `window - 1` before it; blocks
        # with fewer queries or keys use the corner that fits.
        distance = torch.arange(block)[:, None] + window - 1
        distance = distance - torch.arange(block + window - 1)[None]
        hidden = (distance < 0) | (distance >= window)
        self._mask = torch.zeros(hidden.shape, dtype=dtype).masked_fill(hidden, float("-inf")).to(device)
        # A full block hides nothing but the oldest and the newest of its keys.
        self._edge = min(block, window)
        rows = self._mask.repeat(self._group, 1)
        self._oldest, self._newest = rows[:, : self._edge].contiguous(), rows[:, window:].contiguous()

    def stretches(self, first_row: int, count: int, start: int) -> list[Stretch]:
        """How `count` tokens of a pass, from a row on, attend to a cache in which `start` tokens were."""
        done = 0
        stretches = []
        full = count // self._block if start >= self.window - 1 else 0
        if full > 1:
            done = full * self._block
            keys = slice(start - self.window + 1, start + done)
            stretches.append(Stretch(slice(first_row, first_row + done), keys, full, None))
        while done < count:
            tokens = min(count - done, self._block)
            begin, end = max(0, start + done - self.window + 1), start + done + tokens
            mask = None
            if tokens > 1:
                skipped = self.window - 1 - (start + done - begin)
                mask = self._mask[:tokens, skipped : skipped + end - begin].repeat(self._group, 1)
            rows = slice(first_row + done, first_row + done + tokens)
            stretches.append(Stretch(rows, slice(begin, end), 0, mask))
            done += tokens
        return stretches

    def __call__(
        self,
        stretches: Sequence[Stretch],
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        out: torch.Tensor,
    ) -> None:
        """Attend from the tokens of one stream in one layer.

        Args:
            stretches: which tokens, and to what.
            queries: those of the whole pass, shape (n, heads, d), scaled.
            keys: the stream's cache of the layer, shape (kv_heads, capacity, d), the tokens' own included.
            values: likewise.
            out: where the result goes, shape (n, heads, d).
        """
        for stretch in stretches:
            attend = self._attend_blocks if stretch.blocks else self._attend_block
            attend(stretch, queries[stretch.rows], keys, values, out[stretch.rows])

    def _attend_blocks(
        self,
        stretch: Stretch,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        out: torch.Tensor,
    ) -> None:
        """Full blocks with full windows, a batched product for each key/value head."""
        size, group, blocks = queries.shape[2], self._group, stretch.blocks
        shape = (blocks, self._block + self.window - 1, size)
        strides = (self._block * size, size, 1)
        # (kv_heads, blocks, group, 64, d): the query heads that share keys lie side by side.
        apart = (blocks, self._block, self._kv_heads, group, size)
        query_blocks = queries.view(apart).permute(2, 0, 3, 1, 4)
        out_blocks = out.view(apart).permute(2, 0, 3, 1, 4)
        for head in range(self._kv_heads):
            key, value = (
                cache[head, stretch.keys].as_strided(
                    shape, strides, cache[head, stretch.keys].storage_offset()
                )
                for cache in (keys, values)
            )
            query = query_blocks[head].reshape(blocks, group * self._block, size)
            weights = torch.bmm(query, key.transpose(1, 2))
            weights[:, :, : self._edge] += self._oldest
            weights[:, :, self.window :] += self._newest
            attended = torch.bmm(torch.softmax(weights, dim=2), value)
            out_blocks[head].copy_(attended.view(blocks, group, self._block, size))

    def _attend_block(
        self,
        stretch: Stretch,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        out: torch.Tensor,
    ) -> None:
        """One block of any size with a window as full as it is, all heads in one batched product."""
        if self._group == 1:
            query = queries.transpose(0, 1)
        else:
            count, size = queries.shape[0], queries.shape[2]
            apart = (count, self._kv_heads, self._group, size)
            query = queries.view(apart).permute(1, 2, 0, 3).reshape(self._kv_heads, -1, size)
        with plain_products():
            weights = torch.bmm(query, keys[:, stretch.keys].transpose(1, 2))
            if stretch.mask is not None:
                weights += stretch.mask
            attended = torch.bmm(torch.softmax(weights, dim=2), values[:, stretch.keys])
        if self._group == 1:
            out.copy_(attended.transpose(0, 1))
        else:
            out.view(apart).copy_(attended.view(self._kv_heads, self._group, count, size).permute(2, 0, 1, 3))
