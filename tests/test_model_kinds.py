"""Bundles with every kind of model that can be streamed, from their files to a run's scores."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from transformers import (
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from ecustream.config import Config, load_config
from ecustream.errors import BundleError
from ecustream.knowledge import activity_state, names_for
from ecustream.ledger import Ledger
from ecustream.run.source import TraceLines
from ecustream.scoring.bundle import Bundle
from ecustream.scoring.manifest import read_bundle, write_bundle
from ecustream.service import Run
from tests.running import OFFLINE

LENGTH = 64


def full_attention(vocabulary: int) -> Any:
    """A Qwen2 in which every token attends to all before it, as the paper trains it."""
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM(config)


def mamba(vocabulary: int) -> Any:
    """A Mamba."""
    return MambaForCausalLM(
        MambaConfig(vocab_size=vocabulary, hidden_size=32, state_size=8, num_hidden_layers=2)
    )


def mamba2(vocabulary: int) -> Any:
    """A Mamba2."""
    return Mamba2ForCausalLM(
        Mamba2Config(
            vocab_size=vocabulary,
            hidden_size=32,
            state_size=8,
            num_hidden_layers=2,
            num_heads=4,
            head_dim=16,
            n_groups=2,
        )
    )


KINDS = {"sawtooth": full_attention, "mamba": mamba, "mamba2": mamba2}


def with_model(bundle: Path, out: Path, model: Any, **changes: Any) -> Path:
    """The bundle with another model in it, whose `config.json` has some keys replaced."""
    files = read_bundle(bundle)
    config = json.loads(model.config.to_json_string(use_diff=False)) | changes
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    weights = {k: v.contiguous() for k, v in model.state_dict().items() if k not in tied}
    info = files.info
    info.window_tokens, info.receptive_field_tokens = LENGTH, 500
    data: Mapping[str, bytes] = {
        **files.data,
        "config.json": json.dumps(config).encode(),
        "model.safetensors": save(weights, {"format": "pt"}),
    }
    write_bundle(out, info, data)
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_scores_what_one_whole_pass_scores(
    kind: str, bundle_path: Path, clean_trace: Path, tmp_path: Path
) -> None:
    """The score log of a run over a real trace holds the surprisals of Hugging Face's model."""
    torch.manual_seed(3)
    vocabulary = Bundle(read_bundle(bundle_path)).network.vocab
    model = KINDS[kind](vocabulary).eval()
    bundle = with_model(bundle_path, tmp_path / "bundle", model)
    config = load_config(None, OFFLINE | {"scoring.chunk_lines": 50})
    Run(config, clean_trace, bundle, events=None, score_log=tmp_path / "scores.csv").execute()
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))[:400]
    info = read_bundle(bundle).info
    lines = next(
        iter(
            TraceLines(
                clean_trace,
                Ledger(),
                names=names_for(Config(), info),
                state=activity_state(Config(), info),
            )
        )
    )[:400]
    encoded = Bundle(read_bundle(bundle)).new_tokenizer().encode(lines)
    ids = torch.from_numpy(encoded.ids)
    whole = LENGTH if kind == "sawtooth" else len(ids)
    with torch.no_grad():
        logits = model(ids[None, :whole], use_cache=False).logits[0]
    expected = torch.nn.functional.cross_entropy(logits[:-1], ids[1:whole], reduction="none").numpy()
    names = ("pduName_nats", "deltaTime_nats", "activityState_nats")
    scored = np.array([[float(row[name] or "nan") for name in names] for row in rows[: len(lines)]])
    said = scored[encoded.line_of, encoded.fields][1:whole]
    np.testing.assert_allclose(said, expected, atol=2e-3, rtol=0)
    warm = [row["warming"] == "0" or row["warming"].lower() == "false" for row in rows]
    first_warm = warm.index(True)
    tokens_before = int((encoded.line_of < first_warm).sum())
    assert 0 <= tokens_before - (LENGTH // 2 if kind == "sawtooth" else 500) < 3


def test_a_kind_that_cannot_be_streamed_is_refused_by_name(bundle_path: Path, tmp_path: Path) -> None:
    """Another architecture, or one that mixes full and sliding layers, is refused in a sentence."""
    vocabulary = Bundle(read_bundle(bundle_path)).network.vocab
    model = full_attention(vocabulary)
    with pytest.raises(BundleError, match="model_type 'gpt2' is not supported, only qwen2, mamba and mamba2"):
        Bundle(read_bundle(with_model(bundle_path, tmp_path / "a", model, model_type="gpt2")))
    mixed = ["full_attention", "sliding_attention"]
    with pytest.raises(BundleError, match="layer_types must be sliding_attention in every layer"):
        Bundle(read_bundle(with_model(bundle_path, tmp_path / "b", model, layer_types=mixed)))
