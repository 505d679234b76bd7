"""Rotary position phases that stay exact for ever: turns in 64-bit fixed point.

Hugging Face computes `position.float() * inv_freq`, whose rounding visibly changes scores from about
10^6 tokens on. Here a position's phase is `position * step` in wrapping int64 arithmetic, where one turn
is 2^64, so the reduction to one turn is exact at any position. Formula of the rotation: Su et al.,
RoFormer, arXiv 2104.09864.
"""

import math

import torch

__all__ = ["FixedPointRope", "wrapped"]


class FixedPointRope:
    """Rotations for a head size and base, for any position."""

    def __init__(self, head_dim: int, theta: float) -> None:
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
        turns_per_token = theta**-exponents / (2 * math.pi)
        self._step = torch.tensor([round(t * 2**64) for t in turns_per_token.tolist()], dtype=torch.int64)
        self._from_zero = torch.empty(0, head_dim // 2, dtype=torch.complex128)

    def to(self, device: torch.device) -> "FixedPointRope":
        """The same rotations, computed on a device."""
        self._step = self._step.to(device)
        self._from_zero = self._from_zero.to(device)
        return self

    def angles(self, positions: torch.Tensor) -> torch.Tensor:
        """Angles in radians at int64 positions of any shape, shape (..., head_dim / 2) in fp64."""
        phase = positions[..., None] * self._step
        return phase.double() * (2 * math.pi / 2**64)

    def rotations(self, start: int, count: int) -> torch.Tensor:
        """`cos + i sin` of positions `start` and on, shape (count, head_dim / 2) in complex64."""
        # Python integers have no width: reduce before the tensor, so that no position overflows int64.
        first = self._polar(torch.tensor([wrapped(start)], device=self._step.device))
        if count > len(self._from_zero):
            self._from_zero = self._polar(torch.arange(count, device=self._step.device))
        # Rotations add up, and a product costs a tenth of a sine; in fp64 nothing of it shows.
        return (first * self._from_zero[:count]).to(torch.complex64)

    def _polar(self, positions: torch.Tensor) -> torch.Tensor:
        angles = self.angles(positions)
        return torch.polar(torch.ones_like(angles), angles)


def wrapped(position: int) -> int:
    """A position as int64 arithmetic has it: modulo 2^64, signed."""
    return (position + 2**63) % 2**64 - 2**63
