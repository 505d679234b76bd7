"""Which checkpoints the rolling Qwen2 serves, and which it refuses in one sentence."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from ecustream.errors import BundleError
from ecustream.scoring.qwen2 import Qwen2
from tests.scoring.tiny import config_of, oracle, served


@pytest.mark.parametrize(
    "kinds",
    [
        ["full_attention", "full_attention"],
        ["sliding_attention", "full_attention"],
        ["sliding_attention"],
        ["sliding_attention"] * 3,
        [],
        None,
    ],
)
def test_a_model_that_does_not_slide_in_every_layer_is_refused(kinds: list[str] | None) -> None:
    """Rolling the cache of a full-attention layer gives wrong scores, so it is refused by name."""
    with pytest.raises(BundleError, match="layer_types must be sliding_attention in every layer"):
        served(oracle(24), {"layer_types": kinds})


def test_each_missing_tensor_is_refused_by_name() -> None:
    """Without any one of its tensors, the tied head aside, a model is refused."""
    model = oracle(8)
    weights: dict[str, torch.Tensor] = dict(model.state_dict())
    for name in weights.keys() - {"lm_head.weight"}:
        with pytest.raises(BundleError, match=rf"model.safetensors: tensor {name} is missing"):
            Qwen2(config_of(model), {k: v for k, v in weights.items() if k != name})


def test_each_tensor_of_another_shape_is_refused_by_name() -> None:
    """One row more or less in any one tensor and the model is refused."""
    model = oracle(8)
    weights: dict[str, torch.Tensor] = dict(model.state_dict())
    for name, tensor in weights.items():
        # A gate with another number of rows defines the inner size, and then `up` does not fit.
        named = name.replace("gate_proj", "up_proj")
        for wrong in (tensor[:-1], torch.cat([tensor, tensor[:1]])):
            with pytest.raises(BundleError, match=rf"model.safetensors: tensor {named} has shape"):
                Qwen2(config_of(model), weights | {name: wrong})


def test_a_head_of_its_own_is_used() -> None:
    """A checkpoint whose head is not tied to its embedding is served with that head."""
    model = oracle(8)
    weights = dict(model.state_dict()) | {"lm_head.weight": torch.randn(40, 16)}
    ids = torch.arange(20)
    with torch.no_grad():
        hidden = model.model(ids[None], use_cache=False).last_hidden_state[0]
    expected = hidden @ weights["lm_head.weight"].T
    ours = Qwen2(config_of(model), weights)
    torch.testing.assert_close(ours.logits(ids, ours.new_stream()), expected, atol=3e-4, rtol=0)


@pytest.mark.parametrize(
    "key",
    [
        "num_hidden_layers",
        "hidden_size",
        "num_attention_heads",
        "num_key_value_heads",
        "sliding_window",
        "vocab_size",
        "rms_norm_eps",
    ],
)
def test_each_missing_key_of_the_configuration_is_refused_by_name(key: str) -> None:
    """A config.json without a key that the network needs is refused, and the key is named."""
    model = oracle(8)
    config = {k: v for k, v in config_of(model).items() if k != key}
    with pytest.raises(BundleError, match=rf"config.json: {key} is None"):
        Qwen2(config, model.state_dict())


@pytest.mark.parametrize(("key", "value"), [("sliding_window", None), ("hidden_size", "wide")])
def test_a_key_that_is_not_a_number_is_refused_by_name(key: str, value: str | None) -> None:
    """`sliding_window: null` is what Hugging Face writes for a model that does not slide."""
    with pytest.raises(BundleError, match=rf"config.json: {key} is "):
        served(oracle(8), {key: value})


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"sliding_window": 0}, id="no window"),
        pytest.param({"sliding_window": -3}, id="negative window"),
        pytest.param({"hidden_act": "gelu"}, id="another activation"),
        pytest.param(
            {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}, id="scaled rope"
        ),
        pytest.param({"rope_parameters": [1]}, id="rope_parameters is no object"),
        pytest.param({"num_attention_heads": 0, "head_dim": None}, id="no heads"),
        pytest.param({"layer_types": 2}, id="layer_types is no list"),
    ],
)
def test_a_configuration_that_this_network_does_not_compute_is_refused(changes: Mapping[str, Any]) -> None:
    """Whatever the forward pass would ignore or cannot use is a sentence when the model is loaded."""
    with pytest.raises(BundleError, match=r"config.json"):
        served(oracle(8), changes)


def test_weights_that_are_not_numbers_are_refused() -> None:
    """A model with a nan in it would find every line perfectly normal."""
    model = oracle(8)
    weights = dict(model.state_dict())
    weights["model.norm.weight"] = weights["model.norm.weight"] * float("nan")
    with pytest.raises(BundleError, match=r"model\.norm\.weight"):
        Qwen2(config_of(model), weights)
