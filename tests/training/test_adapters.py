"""Adapters by software release: written whole, opened only where they belong."""

import json
import re
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen2Config, Qwen2ForCausalLM

from ecustream.errors import ConfigError, InputError, OutputError
from training.adapters import Release, open_adapter, releases, save_adapter
from training.lora import Lora, add_lora, lora_of, merge

BASE = "b" * 64


def tiny_model(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM(config).eval()


def moved_lora(seed: int = 1) -> Lora:
    """An adapter for `tiny_model` whose weights change what the model says."""
    torch.manual_seed(seed)
    model = add_lora(tiny_model(), rank=4, lora_alpha=8)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return lora_of(model)


@pytest.fixture(scope="module")
def lora() -> Lora:
    return moved_lora()


def release(name: str = "2024-10", **named: Any) -> Release:
    return Release(name=name, base_sha256=BASE, **named)


def test_comes_back_as_it_was_written(tmp_path: Path, lora: Lora) -> None:
    """Weights bit for bit, and where they came from."""
    written = release(parent="2024-09", traces=[{"name": "a.pcapng", "sha256": "1"}], effects={"auc": 0.5})
    path = save_adapter(tmp_path / "adapters", written, lora)
    adapter = open_adapter(tmp_path / "adapters", "2024-10", BASE)
    assert adapter.release == written
    assert adapter.path == path
    assert adapter.lora.config == lora.config
    assert adapter.lora.weights.keys() == lora.weights.keys()
    assert all(torch.equal(adapter.lora.weights[name], tensor) for name, tensor in lora.weights.items())


def test_is_what_peft_reads(tmp_path: Path, lora: Lora) -> None:
    """`PeftModel.from_pretrained` opens the folder and says what our merged model says."""
    path = save_adapter(tmp_path, release(), lora)
    ids = torch.arange(30)[None] % 40
    theirs = peft.PeftModel.from_pretrained(tiny_model(), str(path)).eval()
    with torch.no_grad():
        merged = merge(tiny_model(), open_adapter(tmp_path, "2024-10", BASE).lora)(input_ids=ids).logits
        assert not torch.allclose(merged, tiny_model()(input_ids=ids).logits, atol=1e-2)
        torch.testing.assert_close(merged, theirs(input_ids=ids).logits, atol=1e-5, rtol=0)


def test_same_adapter_same_bytes(tmp_path: Path, lora: Lora) -> None:
    """Nothing of the day or of the machine is in the files."""
    for folder in ("a", "b"):
        save_adapter(tmp_path / folder, release(), lora)
    for name in ("adapter_config.json", "adapter_model.safetensors", "release.json"):
        assert (tmp_path / "a/2024-10" / name).read_bytes() == (tmp_path / "b/2024-10" / name).read_bytes()
        assert str(tmp_path).encode() not in (tmp_path / "a/2024-10" / name).read_bytes()


def test_releases_lie_side_by_side(tmp_path: Path, lora: Lora) -> None:
    """A release is replaced by its own name only, and nothing half written remains."""
    assert releases(tmp_path / "nowhere") == []
    for name in ("2.1", "2.0"):
        save_adapter(tmp_path, release(name), lora)
    other = moved_lora(seed=2)
    save_adapter(tmp_path, release("2.0"), other)
    assert releases(tmp_path) == ["2.0", "2.1"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2.0", "2.1"]
    name = next(n for n in lora.weights if "lora_B" in n)
    assert torch.equal(open_adapter(tmp_path, "2.0", BASE).lora.weights[name], other.weights[name])
    assert torch.equal(open_adapter(tmp_path, "2.1", BASE).lora.weights[name], lora.weights[name])


def test_unknown_release_lists_those_that_are_there(tmp_path: Path, lora: Lora) -> None:
    """The sentence names the folder, what was asked for and what there is."""
    with pytest.raises(ConfigError, match="no adapter at all"):
        open_adapter(tmp_path, "3.0", BASE)
    for name in ("2.1", "2.0"):
        save_adapter(tmp_path, release(name), lora)
    with pytest.raises(ConfigError, match=r"has no adapter of the release '3.0'; there is 2\.0, 2\.1$"):
        open_adapter(tmp_path, "3.0", BASE)


def test_foreign_base_is_refused(tmp_path: Path, lora: Lora) -> None:
    """An adapter on weights that it was not trained beside would be noise."""
    save_adapter(tmp_path, release(), lora)
    with pytest.raises(InputError, match="was trained on another base model"):
        open_adapter(tmp_path, "2024-10", "c" * 64)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "release.json"])
@pytest.mark.parametrize("how", ["cut", "flipped", "missing"])
def test_damage_is_refused(tmp_path: Path, lora: Lora, name: str, how: str) -> None:
    """A file that is cut, changed or missing is named in the sentence."""
    path = save_adapter(tmp_path, release(effects={"auc": 0.75}), lora) / name
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        flipped = data.replace(b"0.75", b"0.95") if name == "release.json" else data[:-3] + b" " + data[-2:]
        path.write_bytes(data[:-10] if how == "cut" else flipped)
        assert path.read_bytes() != data
    expected = ConfigError if (name, how) == ("release.json", "missing") else InputError
    with pytest.raises(expected, match="no adapter" if expected is ConfigError else re.escape(name)):
        open_adapter(tmp_path, "2024-10", BASE)


def test_other_format_and_renamed_folder_are_refused(tmp_path: Path, lora: Lora) -> None:
    """A version that is not known, and a folder whose name is not the release's."""
    path = save_adapter(tmp_path, release(), lora)
    path.rename(tmp_path / "other")
    with pytest.raises(InputError, match="is of the release '2024-10'"):
        open_adapter(tmp_path, "other", BASE)
    path = save_adapter(tmp_path, release(), lora)
    content = json.loads((path / "release.json").read_bytes()) | {"format": 9}
    (path / "release.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="has format 9"):
        open_adapter(tmp_path, "2024-10", BASE)


def test_foreign_folder_is_left_alone(tmp_path: Path, lora: Lora) -> None:
    """What is no adapter is not replaced by one."""
    (tmp_path / "2024-10").mkdir()
    (tmp_path / "2024-10" / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="is not an adapter"):
        save_adapter(tmp_path, release(), lora)
    assert [p.name for p in (tmp_path / "2024-10").iterdir()] == ["thesis.tex"]
    assert [p.name for p in tmp_path.iterdir()] == ["2024-10"]


def test_no_release_is_its_own_parent(tmp_path: Path, lora: Lora) -> None:
    """Continuing a release under its own name would lose what it came from."""
    with pytest.raises(ConfigError, match="cannot be continued from itself"):
        save_adapter(tmp_path, release(parent="2024-10"), lora)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a\0b", "a\n", "x" * 101, "é" * 51, "a."]
)
def test_names_that_are_no_folder_are_refused(tmp_path: Path, lora: Lora, name: str) -> None:
    """A release's name never leads out of the folder, and is never hidden."""
    with pytest.raises(ConfigError, match="cannot name a release"):
        save_adapter(tmp_path, release(name), lora)
    with pytest.raises(ConfigError, match="cannot name a release"):
        open_adapter(tmp_path, name, BASE)
    assert not list(tmp_path.iterdir())


@given(st.text("ab2é.-+_ /\\~\0\n", max_size=6))
def test_every_accepted_name_stays_in_the_folder(name: str) -> None:
    """Whatever is accepted is one component below the folder."""
    folder = Path("/adapters")
    try:
        open_adapter(folder, name, BASE)
    except ConfigError as error:
        if "cannot name a release" not in str(error):
            assert (folder / name).parent == folder
            assert (folder / name).name == name
            assert not name.startswith(".")
