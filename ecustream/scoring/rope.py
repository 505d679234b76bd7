"""Rotary position phases that stay exact for ever: turns in 64-bit fixed point.

Hugging Face computes `position.float() * inv_freq`, whose rounding visibly changes scores from about
10^6 tokens on. Here a position's phase is `position * step` in wrapping int64 arithmetic, where one turn
is 2^64, so the reduction to one turn is exact at any position. Formula of the rotation: Su et al.,
RoFormer, arXiv 2104.09864.
"""

import math

import torch

__all__ = ["FixedPointRope"]


class FixedPointRope:
    """Cosine and sine tables for a head size and base, for any int64 position."""

    def __init__(self, head_dim: int, theta: float) -> None:
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
        turns_per_token = theta**-exponents / (2 * math.pi)
        self._step = torch.tensor([round(t * 2**64) for t in turns_per_token.tolist()], dtype=torch.int64)

    def tables(self, start: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine, each of shape (count, head_dim / 2) in fp32, of positions `start` and on."""
        # Python integers have no width: reduce before the tensor, so that no position overflows int64.
        first = (start + 2**63) % 2**64 - 2**63
        positions = torch.arange(count, dtype=torch.int64) + first
        phase = positions[:, None] * self._step
        angle = phase.double() * (2 * math.pi / 2**64)
        return angle.cos().float(), angle.sin().float()
