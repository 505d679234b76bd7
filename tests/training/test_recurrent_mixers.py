"""Mixers of both Mambas, continued from a past, against a plain recurrence in fp64."""

from typing import Any

import pytest
import torch

from tests.scoring.tiny_mamba import HIDDEN, oracle
from tests.training.plain_mixers import plain_mixer
from training import recurrent_mixers
from training.recurrent_mixers import mamba2_mixer, mamba_mixer

COMPUTE = {"mamba": mamba_mixer, "mamba2": mamba2_mixer}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("mamba", {}),
        ("mamba", {"use_bias": True, "use_conv_bias": False}),
        ("mamba", {"conv_kernel": 1, "time_step_rank": 5}),
        ("mamba", {"conv_kernel": 2, "intermediate_size": 24}),
        ("mamba2", {}),
        ("mamba2", {"use_bias": True, "use_conv_bias": False}),
        ("mamba2", {"conv_kernel": 1, "n_groups": 1}),
        ("mamba2", {"conv_kernel": 2, "n_groups": 4, "time_step_limit": (0.05, 0.2)}),
        ("mamba2", {"expand": 3, "num_heads": 6}),
    ],
)
@pytest.mark.parametrize("cuts", [[], [1, 2, 3, 9], [70], [64, 128]])
def test_chunks_are_the_plain_recurrence(kind: str, changes: dict[str, Any], cuts: list[int]) -> None:
    """Whatever the settings and the cut, to the last digits of fp64."""
    mixer = oracle(kind, **changes).backbone.layers[1].mixer.double()
    hidden = torch.randn(2, 150, HIDDEN, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pieces, past = [], None
    with torch.no_grad():
        for piece in torch.tensor_split(hidden, cuts, dim=1):
            added, past = COMPUTE[kind](mixer, piece, past)
            pieces.append(added)
        torch.testing.assert_close(
            torch.cat(pieces, dim=1), plain_mixer(mixer, hidden), rtol=1e-11, atol=1e-11
        )


@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
def test_states_that_fade_at_once_or_hardly_ever_are_exact(kind: str) -> None:
    """Decays from almost none to all within one token lose no digit of what remains, in fp32 as well."""
    mixer = oracle(kind).backbone.layers[0].mixer
    with torch.no_grad():
        mixer.A_log.copy_(torch.linspace(-6, 9, mixer.A_log.numel()).view_as(mixer.A_log))
        (mixer.dt_proj.weight if kind == "mamba" else mixer.in_proj.weight[-mixer.num_heads :]).mul_(8)
    hidden = torch.randn(2, 150, HIDDEN, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        added, _ = COMPUTE[kind](mixer, hidden, None)
        expected = plain_mixer(mixer.double(), hidden.double()).float()
    # Without a norm after the scan values reach 1000, and a plain loop in fp32 is off by 4e-4 too.
    close = 1e-4 if kind == "mamba2" else 1e-3
    torch.testing.assert_close(added, expected, rtol=1e-4, atol=close)


@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
def test_low_precision_leaves_the_scan_in_fp32(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under autocast only projections lose digits: of what they give, the scan is that of fp32 to the bit."""
    name = "selective_scan" if kind == "mamba" else "_scan_blocks"
    scan, seen = getattr(recurrent_mixers, name), []

    def watched(*arguments: Any) -> Any:
        seen.append((arguments, scan(*arguments)))
        return seen[-1][1]

    monkeypatch.setattr(recurrent_mixers, name, watched)
    mixer = oracle(kind).backbone.layers[0].mixer
    hidden = torch.randn(2, 90, HIDDEN, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        exact, _ = COMPUTE[kind](mixer, hidden, None)
        with torch.autocast("cpu", torch.bfloat16):
            added, (_, state) = COMPUTE[kind](mixer, hidden, None)
        again = scan(*seen[1][0])
    assert state.dtype == torch.float32
    assert all(torch.equal(mine, exactly) for mine, exactly in zip(seen[1][1], again, strict=True))
    assert float((added - exact).norm() / exact.norm()) < 0.03
