"""How the packed tokens of several streams are laid out in blocks of equal length for a scan.

A call's tokens arrive packed, one stream after the other. Linear layers take them so. A scan over time
takes blocks: each stream's tokens are cut into blocks of the same length, the last one padded with zeros.
Blocks are ordered by their step (first blocks of all streams, then second blocks, ...) and streams by
falling length, so the blocks of one step are neighbours, and those of the next belong to the first few.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

__all__ = ["Blocks"]


class Blocks:
    """The blocks of one call.

    Args:
        counts: tokens of each stream, each at least one.
        longest: tokens that a block may have at most.
        device: where the tensors live.

    Attributes:
        length: tokens in each block.
        order: the streams by falling count; row r of a state in this order belongs to `order[r]`.
        steps: the slices of blocks of step 0, 1, ...; row r of a slice continues stream `order[r]`.
    """

    def __init__(self, counts: Sequence[int], longest: int, device: torch.device) -> None:
        # Blocks of even length pad less than full ones with a short rest.
        most = max(counts)
        self.length = -(-most // -(-most // longest))
        sizes = np.asarray(counts, np.int64)
        self.order = np.argsort(-sizes, kind="stable").tolist()
        blocks = -(-sizes // self.length)
        active = (blocks[:, None] > np.arange(blocks.max())).sum(axis=0)
        first = np.concatenate([[0], np.cumsum(active)])
        self.steps = [slice(int(a), int(b)) for a, b in pairwise(first)]
        self.rows = int(first[-1])
        rank = np.empty(len(sizes), np.int64)
        rank[self.order] = np.arange(len(sizes))
        of_stream = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        row = first[of_stream // self.length] + np.repeat(rank, sizes)
        slots = row * self.length + of_stream % self.length
        self._slots = torch.from_numpy(slots).to(device)
        # One stream alone lies in its blocks as it came.
        self._packed = len(sizes) == 1

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """Packed tokens (n, width) as blocks (rows, length, width), zero where there is no token."""
        blocks = x.new_zeros(self.rows * self.length, x.shape[1])
        if self._packed:
            blocks[: x.shape[0]] = x
        else:
            blocks[self._slots] = x
        return blocks.view(self.rows, self.length, x.shape[1])

    def join(self, blocks: torch.Tensor) -> torch.Tensor:
        """Blocks (rows, length, ...) as packed tokens (n, width): the inverse of `split`."""
        flat = blocks.reshape(self.rows * self.length, -1)
        return flat[: self._slots.shape[0]] if self._packed else flat[self._slots]
