"""Rotary phases at any position, against decimal arithmetic, Hugging Face and their own group law."""

import math
from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen2Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from ecustream.scoring.rope import FixedPointRope


def tables(rope: FixedPointRope, start: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of the rotations."""
    rotations = rope.rotations(start, count)
    return rotations.real, rotations.imag


PI = Decimal("3.14159265358979323846264338327950288419716939937510")


@pytest.mark.parametrize("start", [0, 1, 999_999, 2**24, 10**8])
def test_tables_are_the_rotation_of_the_paper(start: int) -> None:
    """Cosine and sine of position times base^(-2i/d), as 50 decimal digits give them."""
    cos, sin = tables(FixedPointRope(8, 10_000.0), start, 3)
    with localcontext() as context:
        context.prec = 50
        for row in range(3):
            for i in range(4):
                angle = float((start + row) * Decimal(10_000) ** (Decimal(-2 * i) / 8) % (2 * PI))
                assert cos[row, i].item() == pytest.approx(math.cos(angle), abs=1e-6)
                assert sin[row, i].item() == pytest.approx(math.sin(angle), abs=1e-6)


def test_tables_equal_those_of_hugging_face_near_the_start() -> None:
    """At the positions a model is trained on, fp32 angles and fixed-point phases agree."""
    config = Qwen2Config(hidden_size=64, num_attention_heads=4, rope_parameters={"rope_theta": 5e5})
    config.rope_parameters["rope_type"] = "default"
    theirs = Qwen2RotaryEmbedding(config)(torch.zeros(1), torch.arange(1024)[None])
    for ours, half_twice in zip(tables(FixedPointRope(16, 5e5), 0, 1024), theirs, strict=True):
        torch.testing.assert_close(ours, half_twice[0, :, :8], atol=1e-4, rtol=0)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**80), st.integers(0, 5000))
def test_the_angle_between_two_positions_depends_on_their_distance_alone(start: int, distance: int) -> None:
    """From any position, even beyond 64 bits, `distance` tokens on is the same rotation."""
    rope = FixedPointRope(16, 10_000.0)
    (cos_a, sin_a), (cos_b, sin_b) = tables(rope, start, 1), tables(rope, start + distance, 1)
    cos, sin = tables(rope, distance, 1)
    torch.testing.assert_close(cos_a * cos_b + sin_a * sin_b, cos, atol=1e-6, rtol=0)
    torch.testing.assert_close(cos_a * sin_b - sin_a * cos_b, sin, atol=1e-6, rtol=0)


@pytest.mark.parametrize("start", [0, 2**63 - 3, 2**64 - 3])
def test_a_table_is_its_single_rows(start: int) -> None:
    """Where a chunk begins does not matter, not even where 64-bit positions wrap around."""
    rope = FixedPointRope(16, 10_000.0)
    cos, sin = tables(rope, start, 6)
    assert cos.shape == sin.shape == (6, 8)
    assert cos.dtype == sin.dtype == torch.float32
    for row in range(6):
        one_cos, one_sin = tables(rope, start + row, 1)
        torch.testing.assert_close(cos[row], one_cos[0], atol=1e-7, rtol=0)
        torch.testing.assert_close(sin[row], one_sin[0], atol=1e-7, rtol=0)
