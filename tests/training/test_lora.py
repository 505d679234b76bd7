"""LoRA on the models of bundles: opened as they are served, merged exactly, refused where foreign."""

import importlib.util
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecustream.errors import BundleError, ConfigError, InputError
from ecustream.scoring.bundle import load_bundle
from ecustream.scoring.manifest import read_bundle, write_bundle
from training.assemble import checkpoint_of
from training.bodies import Body, new_model
from training.lora import TARGETS, Lora, add_lora, lora_of, merge, open_model, quantised

DEMO = Path(__file__).parents[2] / "ecustream" / "bundles" / "demo"
IDS = np.random.default_rng(0).integers(2, 200, 600)


def nats(model: Any) -> torch.Tensor:
    """Surprisal of all of `IDS` but the first."""
    ids = torch.from_numpy(IDS)
    with torch.no_grad():
        log_p = torch.log_softmax(model(input_ids=ids[None]).logits[0], dim=-1)
    return -log_p[:-1].gather(1, ids[1:, None])[:, 0]


def moved(model: Any) -> Any:
    """The peft model with weights that change what it says."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return model.eval()


def test_bundle_opens_as_it_is_served() -> None:
    """Beyond its window, too, it says what the scoring network says; no path of this machine is in it."""
    model = open_model(DEMO)
    assert not model.training
    assert (model.dtype, model.config._attn_implementation) == (torch.float32, "sdpa")
    network = load_bundle(DEMO).network
    ours = network.score(IDS, [(network.new_stream(), len(IDS))]).nats
    np.testing.assert_allclose(nats(model).numpy(), ours[1:], atol=1e-4)
    assert str(DEMO.name) not in str(model.config.to_dict())


def test_damaged_and_foreign_bundles_are_refused(tmp_path: Path) -> None:
    """A bundle is checked before its model is opened."""
    with pytest.raises(BundleError, match="not a bundle"):
        open_model(tmp_path)
    path = tmp_path / "demo"
    shutil.copytree(DEMO, path)
    weights = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(weights[:-1] + b"x")
    with pytest.raises(BundleError, match=r"model\.safetensors is damaged"):
        open_model(path)
    demo = read_bundle(DEMO)
    for config, sentence in ((b"[]", "cannot be read"), (b'{"model_type": "bert"}', "a bert cannot be")):
        write_bundle(tmp_path / "other", demo.info, {**demo.data, "config.json": config})
        with pytest.raises(BundleError, match=sentence):
            open_model(tmp_path / "other")


@pytest.mark.parametrize("kind", sorted(TARGETS))
def test_bundles_of_every_kind_open(tmp_path: Path, kind: Any) -> None:
    """Weights and all; one whose weights do not fit its configuration is refused."""
    demo = read_bundle(DEMO)
    torch.manual_seed(0)
    extra: Any = {"window": 64} if kind == "qwen2" else {"state_size": 8, "head_dim": 16}
    model = new_model(Body(kind=kind, hidden=32, layers=1, inner=48, **extra), 200).eval()
    files = {**demo.data, **checkpoint_of(model).files()}
    write_bundle(tmp_path / "bundle", demo.info, files)
    torch.testing.assert_close(nats(open_model(tmp_path / "bundle")), nats(model), atol=1e-5, rtol=0)
    less = checkpoint_of(model)
    less = less._replace(weights=dict(list(less.weights.items())[:-1]))
    write_bundle(tmp_path / "bundle", demo.info, {**demo.data, **less.files()})
    with pytest.raises(BundleError, match=r"cannot be opened for training: model\.safetensors does not fit"):
        open_model(tmp_path / "bundle")


@pytest.mark.parametrize("kind", sorted(TARGETS))
def test_every_target_is_trained_and_merges_exactly(kind: Any) -> None:
    """At first nothing changes; then every adapter has a gradient; merged, it says what it said beside."""
    torch.manual_seed(0)
    extra: Any = {"window": 64} if kind == "qwen2" else {"state_size": 8, "head_dim": 16}
    base = new_model(Body(kind=kind, hidden=32, layers=2, inner=48, **extra), 200).eval()
    said = nats(base)
    model = add_lora(base, rank=4, lora_alpha=8).eval()
    assert torch.equal(nats(model), said)
    moved(model)
    beside = nats(model)
    assert (beside - said).abs().max() > 0.1
    ids = torch.from_numpy(IDS[:40])[None]
    model.train()
    torch.autograd.backward(model(input_ids=ids, labels=ids).loss)
    trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert {name.split(".lora_")[0].split(".")[-1] for name in trained} == set(TARGETS[kind])
    assert all(grad is not None and grad.abs().max() > 0 for grad in trained.values())
    lora = lora_of(model)
    merged = merge(model.eval().unload(), lora)
    torch.testing.assert_close(nats(merged), beside, atol=1e-5, rtol=0)
    assert not [name for name in merged.state_dict() if "lora" in name or "base_layer" in name]


def test_lora_alpha_weighs_the_adapter() -> None:
    """Twice lora_alpha is twice the change of every weight."""
    changes = []
    for lora_alpha in (4, 8):
        torch.manual_seed(0)
        model = new_model(Body(hidden=32, layers=1, inner=48, window=64), 200)
        name = "model.layers.0.mlp.up_proj.weight"
        before = model.state_dict()[name].clone()
        torch.manual_seed(1)
        tuned = moved(add_lora(model, rank=4, lora_alpha=lora_alpha))
        lora = lora_of(tuned)
        changes.append(merge(tuned.unload(), lora).state_dict()[name] - before)
    assert changes[0].abs().max() > 0.1
    torch.testing.assert_close(2 * changes[0], changes[1], atol=1e-5, rtol=0)


def test_numbers_that_are_none_do_not_merge() -> None:
    """An adapter with a NaN is refused."""
    model = moved(add_lora(new_model(Body(hidden=32, layers=1, inner=48, window=64), 200), 4, 8))
    lora = lora_of(model)
    name = next(iter(lora.weights))
    lora.weights[name][0, 0] = torch.nan
    with pytest.raises(InputError, match="cannot be merged"):
        merge(model.unload(), lora)


def test_strange_configuration_does_not_fit() -> None:
    """Of an adapter as of its weights."""
    base = new_model(Body(hidden=32, layers=1, inner=48, window=64), 200)
    lora = lora_of(add_lora(base, 4, 8))
    wide = new_model(Body(hidden=64, layers=1, inner=48, window=64), 200)
    with pytest.raises(InputError, match="does not fit the model"):
        merge(wide, lora)
    with pytest.raises(InputError, match="does not fit the model"):
        merge(wide, Lora({**lora.config, "no_such_key": 1}, lora.weights))


def test_libraries_say_nothing() -> None:
    """Neither when they are imported nor when an adapter is put into a model."""
    done = subprocess.run(
        [sys.executable, "-c", "import training.lora"], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = add_lora(new_model(Body(hidden=32, layers=1, inner=32), 200), rank=2, lora_alpha=2)
        merge(new_model(Body(hidden=32, layers=1, inner=32), 200), lora_of(model))


@pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="NOT TESTED: bitsandbytes is not installed"
)
@pytest.mark.filterwarnings("ignore")
def test_four_bits_train_an_adapter() -> None:
    """The 4-bit copy learns an adapter that merges into the float32 model; that one is left as it is."""
    torch.manual_seed(0)
    # bitsandbytes packs rows of 64 on a CPU, and never trains after it has evaluated there.
    base = new_model(Body(hidden=64, layers=1, inner=64, window=64), 200)
    said = nats(base.eval())
    tuned = add_lora(quantised(base, torch.device("cpu")), rank=4, lora_alpha=8).train()
    assert 0 < (nats(tuned) - said).abs().max() < 0.5
    ids = torch.from_numpy(IDS[:40])[None]
    torch.autograd.backward(tuned(input_ids=ids, labels=ids).loss)
    grads = {name: p.grad for name, p in tuned.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in grads)
    assert all(g is not None and g.abs().max() > 0 for name, g in grads.items() if "lora_B" in name)
    moved(tuned).train()
    beside = nats(tuned)
    torch.testing.assert_close(nats(base), said)
    assert (nats(merge(base, lora_of(tuned))) - beside).abs().mean() < 0.2 * (beside - said).abs().mean()


def test_four_bits_are_for_attention() -> None:
    """A mamba reads its weights past bitsandbytes."""
    model = new_model(Body(kind="mamba", hidden=32, layers=1, state_size=4), 200)
    with pytest.raises(ConfigError, match="QLoRA"):
        quantised(model, torch.device("cpu"))
