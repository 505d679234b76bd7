"""Attention of the newest tokens of a stream to its cached window, on a CPU.

Queries are taken in blocks, each of which needs `window - 1` keys more than it has queries. All full blocks
of a head are one batched product over overlapping views of the cache, so nothing is copied and few keys
outside the window are multiplied in vain. While the window is not yet full, block by block.
"""

import torch

__all__ = ["WindowAttention"]

_QUERY_BLOCK = 64


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
        # Row i hides from query i of a block all keys but itself and the `window - 1` before it; blocks
        # with fewer queries or keys use the corner that fits.
        distance = torch.arange(_QUERY_BLOCK)[:, None] + window - 1
        distance = distance - torch.arange(_QUERY_BLOCK + window - 1)[None]
        hidden = (distance < 0) | (distance >= window)
        mask = torch.zeros(hidden.shape, dtype=dtype).masked_fill(hidden, float("-inf")).to(device)
        self._mask = mask
        # A full block hides nothing but the oldest and the newest of its keys.
        self._edge = min(_QUERY_BLOCK, window)
        rows = mask.repeat(self._group, 1)
        self._oldest, self._newest = rows[:, : self._edge].contiguous(), rows[:, window:].contiguous()

    def __call__(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, start: int, out: torch.Tensor
    ) -> None:
        """Attend from the tokens at cache positions `start` and on.

        Args:
            queries: shape (n, heads, d), scaled.
            keys: the stream's cache of a layer, shape (kv_heads, capacity, d), filled up to `start + n`.
            values: likewise.
            start: position of the first query in the cache.
            out: where the result goes, shape (n, heads, d).
        """
        count, _, size = queries.shape
        # (kv_heads, group, n, d): the query heads that share keys lie side by side.
        grouped = queries.view(count, self._kv_heads, self._group, size).permute(1, 2, 0, 3)
        result = out.view(count, self._kv_heads, self._group, size).permute(1, 2, 0, 3)
        first = 0
        if start >= self.window - 1 and count >= _QUERY_BLOCK:
            first = count // _QUERY_BLOCK * _QUERY_BLOCK
            self._attend_blocks(grouped[:, :, :first], keys, values, start, result[:, :, :first])
        while first < count:
            last = min(first + _QUERY_BLOCK, count)
            self._attend_block(
                grouped[:, :, first:last], keys, values, start + first, result[:, :, first:last]
            )
            first = last

    def _attend_blocks(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, start: int, out: torch.Tensor
    ) -> None:
        """Any number of full blocks whose windows are full, a batched product for each key/value head."""
        _, group, count, size = queries.shape
        blocks, wide = count // _QUERY_BLOCK, _QUERY_BLOCK + self.window - 1
        shape, strides = (blocks, wide, size), (_QUERY_BLOCK * size, size, 1)
        begin = (start - self.window + 1) * size
        for head in range(self._kv_heads):
            key, value = (
                cache.as_strided(shape, strides, cache.storage_offset() + head * cache.stride(0) + begin)
                for cache in (keys, values)
            )
            # (group, blocks * 64, d) to (blocks, group * 64, d)
            query = queries[head].reshape(group, blocks, _QUERY_BLOCK, size).transpose(0, 1)
            query = query.reshape(blocks, group * _QUERY_BLOCK, size)
            weights = torch.bmm(query, key.transpose(1, 2))
            weights[:, :, : self._edge] += self._oldest
            weights[:, :, self.window :] += self._newest
            weights = torch.softmax(weights, dim=2)
            attended = torch.bmm(weights, value).view(blocks, group, _QUERY_BLOCK, size)
            out[head].view(group, blocks, _QUERY_BLOCK, size).copy_(attended.transpose(0, 1))

    def _attend_block(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, start: int, out: torch.Tensor
    ) -> None:
        """One block of any size with a window as full as it is, all heads in one batched product."""
        _, group, count, size = queries.shape
        begin, end = max(0, start - self.window + 1), start + count
        query = queries.reshape(self._kv_heads, group * count, size)
        weights = torch.bmm(query, keys[:, begin:end].transpose(1, 2))
        if count > 1:
            skipped = self.window - 1 - start + begin
            weights = weights.view(self._kv_heads, group, count, end - begin)
            weights = weights + self._mask[:count, skipped : skipped + end - begin]
            weights = weights.view(self._kv_heads, group * count, end - begin)
        attended = torch.bmm(torch.softmax(weights, dim=2), values[:, begin:end])
        out.copy_(attended.view(self._kv_heads, group, count, size))
