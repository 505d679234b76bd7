"""Which checkpoints the Mambas serve, and which they refuse in one sentence."""

from typing import Any

import numpy as np
import pytest
import torch

from ecustream.errors import BundleError
from ecustream.scoring.mamba1 import Mamba1
from ecustream.scoring.mamba2 import Mamba2
from tests.scoring.tiny_mamba import oracle, oracle_nats, served, tokens

KINDS = ["mamba", "mamba2"]


def weights_of(model: Any, *, with_head: bool) -> dict[str, torch.Tensor]:
    return {
        name: tensor for name, tensor in model.state_dict().items() if with_head or name != "lm_head.weight"
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [True, False])
def test_each_missing_tensor_is_refused_by_name(kind: str, tied: bool) -> None:
    """Without any one of its tensors, the tied head aside, a model is refused."""
    model = oracle(kind, tie_word_embeddings=tied, use_bias=True)
    weights = weights_of(model, with_head=not tied)
    assert served(model, weights=weights).vocab
    for name in weights:
        with pytest.raises(BundleError, match=rf"^model.safetensors: tensor {name} is missing$"):
            served(model, weights={k: v for k, v in weights.items() if k != name})


@pytest.mark.parametrize("kind", KINDS)
def test_each_tensor_of_another_shape_is_refused_by_name(kind: str) -> None:
    """One row more or less in any one tensor and the model is refused."""
    model = oracle(kind, use_bias=True)
    weights = weights_of(model, with_head=True)
    for name, tensor in weights.items():
        for wrong in (tensor[:-1], torch.cat([tensor, tensor[:1]]), tensor[None]):
            with pytest.raises(BundleError, match=rf"^model.safetensors: tensor {name} has shape .*, not "):
                served(model, weights=weights | {name: wrong})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_refused_by_name(kind: str, value: float) -> None:
    """A model with a nan in it would find every line perfectly normal."""
    model = oracle(kind, use_bias=True)
    weights = weights_of(model, with_head=True)
    for name, tensor in weights.items():
        wrong = tensor.clone()
        wrong.view(-1)[-1] = value
        with pytest.raises(BundleError, match=rf"^model.safetensors: tensor {name} holds values that are no"):
            served(model, weights=weights | {name: wrong})


@pytest.mark.parametrize("kind", KINDS)
def test_a_decay_rate_without_bound_is_refused(kind: str) -> None:
    """`A_log` is a logarithm: one that is a number, but whose exponential is none, would give nan."""
    model = oracle(kind)
    name = "backbone.layers.1.mixer.A_log"
    weights = weights_of(model, with_head=True)
    with pytest.raises(
        BundleError, match=rf"^model.safetensors: tensor {name} holds values whose exponential"
    ):
        served(model, weights=weights | {name: weights[name] + 100})


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        *(
            (kind, key)
            for kind in KINDS
            for key in (
                "vocab_size",
                "hidden_size",
                "num_hidden_layers",
                "state_size",
                "conv_kernel",
                "layer_norm_epsilon",
            )
        ),
        ("mamba", "intermediate_size"),
        ("mamba", "time_step_rank"),
        ("mamba2", "expand"),
        ("mamba2", "num_heads"),
        ("mamba2", "head_dim"),
        ("mamba2", "n_groups"),
    ],
)
def test_a_key_that_is_no_number_is_refused_by_name(kind: str, key: str) -> None:
    """A config.json with something else where the network needs a number is refused, and the key is named."""
    model = oracle(kind)
    for value in (None, "wide", True, float("nan"), *([] if key.endswith("epsilon") else [0, -2, 1.5])):
        with pytest.raises(
            BundleError, match=rf"^config.json: {key} is .* must be a (positive whole )?number$"
        ):
            served(model, {key: value})


@pytest.mark.parametrize(
    ("kind", "changes", "named"),
    [
        *((kind, {"hidden_act": "gelu"}, "hidden_act 'gelu'") for kind in KINDS),
        *((kind, {"use_bias": 1}, "use_bias is 1") for kind in KINDS),
        *((kind, {"use_conv_bias": "no"}, "use_conv_bias is 'no'") for kind in KINDS),
        *((kind, {"tie_word_embeddings": None}, "tie_word_embeddings is None") for kind in KINDS),
        ("mamba2", {"rms_norm": False}, "rms_norm"),
        ("mamba2", {"num_heads": 3}, r"num_heads \* head_dim must be expand \* hidden_size"),
        ("mamba2", {"n_groups": 3}, "num_heads must be a multiple of n_groups"),
        ("mamba2", {"time_step_limit": None}, "time_step_limit is None"),
        ("mamba2", {"time_step_limit": [0.0]}, "time_step_limit is"),
        ("mamba2", {"time_step_limit": [0.2, 0.1]}, "time_step_limit is"),
        ("mamba2", {"time_step_limit": [-0.1, 0.1]}, "time_step_limit is"),
        ("mamba2", {"time_step_limit": [0.0, float("nan")]}, "time_step_limit is"),
        ("mamba2", {"time_step_limit": [0.0, "inf"]}, "time_step_limit is"),
        ("mamba2", {"time_step_limit": [float("inf"), float("inf")]}, "time_step_limit is"),
    ],
)
def test_a_configuration_that_this_network_does_not_compute_is_refused(
    kind: str, changes: dict[str, Any], named: str
) -> None:
    """Whatever the forward pass would ignore or cannot use is a sentence when the model is loaded."""
    weights = weights_of(oracle(kind), with_head=False)
    with pytest.raises(BundleError, match=rf"^config.json: {named}"):
        served(oracle(kind), changes, weights)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_that_are_not_stated_are_hugging_faces(kind: str) -> None:
    """Without the keys that have a default, the same weights score the same."""
    model = oracle(kind)
    optional = {"hidden_act", "use_bias", "use_conv_bias", "tie_word_embeddings", "time_step_limit"}
    optional |= {"intermediate_size", "time_step_rank"}
    config = {k: v for k, v in model.config.to_dict().items() if k not in optional}
    network = Mamba1 if kind == "mamba" else Mamba2
    weights = weights_of(model, with_head=kind == "mamba2")
    ours = network(config, weights, max_chunk=99, warming_tokens=1)
    ids = tokens(99)
    scored = ours.score(ids, [(ours.new_stream(), 99)])
    np.testing.assert_allclose(scored.nats, oracle_nats(model, ids), atol=1e-4)
    if kind == "mamba2":
        with pytest.raises(BundleError, match=r"lm_head.weight is missing"):
            network(config, weights_of(model, with_head=False), max_chunk=8, warming_tokens=1)


@pytest.mark.parametrize("network", [Mamba1, Mamba2])
def test_a_configuration_that_is_no_object_is_refused(network: Any) -> None:
    """JSON that is a list or null is no configuration."""
    not_objects: tuple[Any, ...] = ([], None, "mamba")
    for config in not_objects:
        with pytest.raises(BundleError, match=r"^config.json: is not an object$"):
            network(config, {}, max_chunk=8, warming_tokens=1)
