"""Which checkpoints the rolling Qwen2 serves, and which it refuses in one sentence."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from transformers import Qwen2Config

from ecustream.errors import BundleError
from ecustream.scoring.qwen2 import Qwen2
from ecustream.scoring.qwen2_weights import layer_kinds
from tests.scoring.tiny import config_of, oracle, served


@pytest.mark.parametrize(
    "kinds",
    [
        ["full_attention", "full_attention"],
        ["sliding_attention", "full_attention"],
    ],
)
def test_a_model_that_does_not_slide_in_every_layer_is_refused(kinds: list[str] | None) -> None:
    """Rolling the cache of a full-attention layer gives wrong scores, so it is refused by name."""
    with pytest.raises(BundleError, match="layer_types must be sliding_attention in every layer"):
        served(oracle(24), {"layer_types": kinds})


@pytest.mark.parametrize(
    "kinds",
    [["sliding_attention"], ["sliding_attention"] * 3, [], [["sliding_attention"]] * 2, [{}, {}], "full"],
)
def test_a_list_of_layers_that_is_none_is_refused(kinds: Any) -> None:
    """One name of a kind of attention for each layer, or the sentence says so."""
    with pytest.raises(BundleError, match="layer_types must name the attention of each of 2 layers"):
        served(oracle(24), {"layer_types": kinds})


@pytest.mark.parametrize(
    ("older", "expected"),
    [
        ({"use_sliding_window": True, "max_window_layers": 0}, "sliding_attention"),
        ({"use_sliding_window": False, "max_window_layers": 0}, "full_attention"),
        ({"use_sliding_window": True, "max_window_layers": 28}, "full_attention"),
        ({"use_sliding_window": True}, "full_attention"),
        ({"use_sliding_window": True, "max_window_layers": 0, "sliding_window": None}, "full_attention"),
    ],
)
def test_checkpoints_that_list_no_layers_mean_what_transformers_makes_of_them(
    older: dict[str, Any], expected: str
) -> None:
    """Before transformers listed the layers, three keys said which of them slide."""
    config = {"num_hidden_layers": 2, "sliding_window": 8} | older
    assert layer_kinds(config) == [expected] * 2 == Qwen2Config(**config).layer_types


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 4.0}}, "rope_type 'linear'"),
        ({"rope_parameters": {"sliding_attention": {"rope_theta": 5e5}}}, "must be an object of numbers"),
        ({"rope_parameters": {"rope_theta": 0.0}}, "rope_theta is 0.0, but must be 1 at least"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps is -1.0, but must be 0 at least"),
        ({"rms_norm_eps": 10**400}, "rms_norm_eps is 1000"),
        ({"sliding_window": 2**30}, "sliding_window is 1073741824, but can be 131072 at most"),
        ({"num_hidden_layers": 2**31 - 1}, "num_hidden_layers is 2147483647, but can be 1024 at most"),
    ],
)
def test_settings_that_cannot_be_served_are_refused(changes: dict[str, Any], sentence: str) -> None:
    """Each is one sentence with the key, before anything large is made."""
    with pytest.raises(BundleError, match=re.escape(sentence)):
        served(oracle(8), changes)


def test_tensors_that_hold_no_floating_point_numbers_are_refused() -> None:
    """Integers, complex numbers and 8-bit floats are no weights that can be served; nor is a lone number."""
    model = oracle(8)
    weights: dict[str, torch.Tensor] = dict(model.state_dict())
    name = "model.layers.0.mlp.up_proj.weight"
    for dtype in (torch.int32, torch.complex64, torch.float8_e4m3fn):
        with pytest.raises(BundleError, match=rf"tensor {name} is of {dtype}, which is not served"):
            Qwen2(config_of(model), weights | {name: weights[name].to(dtype)})
    gate = "model.layers.0.mlp.gate_proj.weight"
    with pytest.raises(BundleError, match=rf"tensor {gate} has shape \(\)"):
        Qwen2(config_of(model), weights | {gate: torch.tensor(1.0)})


@pytest.mark.parametrize("tied", [True, False])
def test_each_missing_tensor_is_refused_by_name(tied: bool) -> None:
    """Without any one of its tensors, the head aside where it is tied, a model is refused."""
    model = oracle(8)
    config = config_of(model) | {"tie_word_embeddings": tied}
    weights: dict[str, torch.Tensor] = dict(model.state_dict())
    for name in weights.keys() - ({"lm_head.weight"} if tied else set()):
        with pytest.raises(BundleError, match=rf"model.safetensors: tensor {name} is missing"):
            Qwen2(config, {k: v for k, v in weights.items() if k != name})


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
