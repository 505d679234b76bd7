"""Bodies: their sizes, that each can be served as it was trained, and sentences for those that cannot be."""

from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from ecustream.errors import ConfigError
from ecustream.scoring.networks import open_network
from training.bodies import BODIES, Body, new_model

VOCABULARY = 408
SMALL = {
    "qwen2": Body(hidden=32, layers=2, heads=4, kv_heads=2, inner=48, window=16),
    "qwen2 full": Body(hidden=32, layers=2, heads=2, inner=48, window=200, attention="full"),
    "mamba": Body(kind="mamba", hidden=16, layers=2, state_size=8, conv_kernel=3, expand=3),
    "mamba2": Body(kind="mamba2", hidden=32, layers=2, state_size=8, head_dim=8, n_groups=2),
}


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("0.3m", 0.37),
        ("1m", 1.11),
        ("2m", 2.16),
        ("25m", 26.1),
        ("0.4b", 358.3),
        ("1.3b", 1310.7),
        ("mamba-0.3m", 0.31),
        ("mamba-130m", 90.9),
        ("mamba2-0.3m", 0.294),
        ("mamba2-130m", 90.7),
    ],
)
def test_a_named_body_has_as_many_parameters_as_its_name_says(name: str, millions: float) -> None:
    """Counted without memory for them; the checkpoints' names count a large vocabulary too."""
    assert _parameters(BODIES[name], VOCABULARY) == pytest.approx(millions * 1e6, rel=0.02)


def test_every_named_body_is_counted() -> None:
    """None is left out of the test above."""
    assert set(BODIES) == {
        *("0.3m", "1m", "2m", "25m", "0.4b", "1.3b"),
        *("mamba-0.3m", "mamba-130m", "mamba2-0.3m", "mamba2-130m"),
    }


@pytest.mark.parametrize(
    ("name", "vocabulary", "parameters"),
    [
        # As the model cards count them, vocabulary and all.
        ("0.4b", 151936, 494_032_768),
        ("1.3b", 151936, 1_543_714_304),
        ("mamba-130m", 50280, 129_135_360),
    ],
)
def test_a_body_of_a_published_model_has_its_parameters(name: str, vocabulary: int, parameters: int) -> None:
    """With the vocabulary of the published model the count is the published one."""
    assert _parameters(BODIES[name], vocabulary) == parameters


@pytest.mark.parametrize("kind", SMALL)
def test_a_model_is_served_as_it_was_trained(kind: str) -> None:
    """`open_network` scores a stream, in calls of any size, as one forward pass of the trained model does."""
    torch.manual_seed(0)
    model = new_model(SMALL[kind], 40).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms of 1 and biases of 0 would hide that they are not used
            parameter.add_(0.2 * torch.randn_like(parameter))
    ids = np.random.default_rng(1).integers(0, 40, 90)
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(ids)[None], use_cache=False).logits[0]
    expected = torch.nn.functional.cross_entropy(logits[:-1], torch.from_numpy(ids[1:]), reduction="none")
    weights = {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}
    network = open_network(model.config.to_dict(), weights, window_tokens=200, warming_tokens=50)
    stream = network.new_stream()
    found = [network.score(part, [(stream, len(part))]).nats for part in np.array_split(ids, [1, 20, 55])]
    np.testing.assert_allclose(np.concatenate(found)[1:], expected.numpy(), atol=1e-4)


def test_a_model_is_the_same_for_the_same_seed() -> None:
    """Torch's seed decides the weights, and another seed makes others."""
    body = SMALL["qwen2"]
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(torch.cat([p.flatten() for p in new_model(body, 40).parameters()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"layers": 0}, "body.layers"),
        ({"heads": 5}, "body.hidden"),
        ({"hidden": 6, "heads": 2}, "body.hidden"),
        ({"heads": 4, "kv_heads": 3}, "body.kv_heads"),
        ({"kind": "mamba2", "head_dim": 7}, "body.head_dim"),
        ({"kind": "mamba2", "head_dim": 16, "n_groups": 3}, "body.n_groups"),
    ],
)
def test_sizes_that_do_not_fit_together_are_refused(changes: dict[str, Any], key: str) -> None:
    """The sentence names the key; Hugging Face would fail later, or not at all."""
    with pytest.raises(ConfigError, match=key):
        new_model(msgspec.structs.replace(Body(hidden=32), **changes), 40)


def _parameters(body: Body, vocabulary: int) -> int:
    with torch.device("meta"):
        return int(new_model(body, vocabulary).num_parameters())
