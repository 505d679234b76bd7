"""How far bf16 takes the scores of a trained model from those in fp32."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ecustream.scoring.batched import BatchedQwen2
from ecustream.scoring.kernels import AttentionKind
from tests.scoring.on_devices import (
    DEVICES,
    batched,
    expected_nats,
    needs_cuda,
    needs_flash,
    random_ids,
    scored,
)
from tests.scoring.tiny import config_of, oracle

WINDOW, VOCABULARY = 32, 40
# Twice what is seen over several streams, 0.0026 and 0.26, on a CPU.
MEAN_DRIFT_NATS, MOST_DRIFT_NATS = 0.005, 0.5
RESIDUAL_NATS = 0.0015


def pattern(tokens: int, seed: int) -> npt.NDArray[np.int64]:
    """A round of tokens with one in twenty replaced: like a bus, mostly expected, sometimes not."""
    draw = np.random.default_rng(seed)
    ids = (np.arange(tokens) + draw.integers(11)) % 11 * 3
    wrong = draw.random(tokens) < 0.05
    return np.where(wrong, draw.integers(0, VOCABULARY, tokens), ids)


@pytest.fixture(scope="module")
def trained() -> Any:
    """A model that has learned the pattern: surprisal is low, and high where a token was replaced."""
    model = oracle(WINDOW, hidden=64, vocabulary=VOCABULARY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(60):
        ids = torch.from_numpy(np.stack([pattern(4 * WINDOW, 100 * step + row) for row in range(4)]))
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(
    ("device", "attention"),
    [
        *(pytest.param("cpu", name) for name in ("eager", "sdpa", "flex")),
        *(pytest.param("cuda", name, marks=needs_cuda) for name in ("eager", "sdpa", "flex")),
        pytest.param("cuda", "flash", marks=needs_flash),
    ],
)
def test_bf16_stays_near_fp32(trained: Any, device: str, attention: AttentionKind) -> None:
    """Over a long stream bf16 moves a token's surprisal by little on average, and never by much."""
    ids = pattern(1500, seed=7)
    expected = expected_nats(trained, ids)
    # Only a model that expects something can show what rounding does to its expectations.
    assert np.median(expected) < 0.3
    assert expected.max() > 4
    network = batched(trained, torch.device(device), attention=attention, dtype=torch.bfloat16)
    assert network.attention_used == attention
    drift = abs(scored(network, ids, 40) - expected)
    assert drift.mean() < MEAN_DRIFT_NATS
    assert drift.max() < MOST_DRIFT_NATS


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_summed_over_layers_stays_in_fp32(device: torch.device) -> None:
    """Layers that add little to a large embedding are not rounded away with it, only in what they add."""
    model = oracle(24, layers=8)
    weights = dict(model.state_dict())
    weights["model.embed_tokens.weight"] = 300 * weights["model.embed_tokens.weight"]
    ids = random_ids(200)
    exact, rounded = (
        scored(
            BatchedQwen2(config_of(model), weights, device=device, dtype=dtype, max_streams=1, max_chunk=40),
            ids,
            40,
        )
        for dtype in (torch.float32, torch.bfloat16)
    )
    # Rounding the sum itself after every layer would cost twenty times as much.
    assert 0 < abs(rounded - exact).mean() < RESIDUAL_NATS
