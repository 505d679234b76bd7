"""Bundles of every kind, trained from a trace: a run gives the scores that training saw."""

import csv
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import AutoModelForCausalLM

from ecustream.config import load_config
from ecustream.decode.names import NameTable
from ecustream.scoring.manifest import read_bundle
from ecustream.service import Run
from tests.running import OFFLINE
from training.bodies import Body
from training.fit import FitSettings, fit
from training.recipe import Recipe, crop_length
from training.shards import Shards, open_shards
from training.traces import Traces

QWEN2 = Body(hidden=32, layers=2, heads=2, inner=64, window=24)
FULL = msgspec.structs.replace(QWEN2, attention="full", window=128)
MAMBA = Body(kind="mamba", hidden=32, layers=2, state_size=4)
MAMBA2 = Body(kind="mamba2", hidden=32, layers=2, state_size=8, head_dim=16)
KINDS = {
    "fields": QWEN2,
    "bpe": msgspec.structs.replace(QWEN2, window=120),
    "bpe-binned": msgspec.structs.replace(QWEN2, window=120),
    "group": QWEN2,
    "row": QWEN2,
    "fields, full attention": FULL,
    "fields, mamba": MAMBA,
    "fields, mamba2": MAMBA2,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_gives_the_scores_that_training_saw(kind: str, clean_trace: Path, tmp_path: Path) -> None:
    """A training sequence's surprisals are those of the same lines in the run's score log.

    Attention with a window is compared in the second half of a sequence from the middle of the traffic,
    where it has a whole past; other kinds from the start of the stream, where training's past is the run's.
    """
    tokenizer, body = kind.split(",")[0], KINDS[kind]
    recipe = Recipe(
        batch=2, length=96, carried=body.kind != "qwen2", max_steps=3, max_seconds=None, evaluate_every=3
    )
    names = NameTable.load(clean_trace.with_suffix(".names.csv"))
    bundle = tmp_path / "bundle"
    fit(
        Traces([clean_trace], names),
        bundle,
        FitSettings(tokenizer=tokenizer, body=body, recipe=recipe),
        work=tmp_path / "work",
    )
    info = read_bundle(bundle).info
    assert info.tokenizer == tokenizer
    assert info.trained["flops"] > 0
    config = load_config(None, OFFLINE)
    Run(config, clean_trace, bundle, events=None, score_log=tmp_path / "scores.csv").execute()
    shards = open_shards(tmp_path / "work" / "shards")
    length = crop_length(body, recipe)
    sliding = body.kind == "qwen2" and body.attention == "sliding"
    first = int(shards.first_token[len(shards.first_token) // 2]) if sliding else 0
    lines, nats = seen_in_training(bundle, shards, first, length, settled=length // 2 if sliding else 1)
    assert len(lines) >= (2 if "bpe" in kind else 20)
    np.testing.assert_allclose(nats, logged(tmp_path / "scores.csv", lines), atol=3e-3, rtol=1e-4)


def seen_in_training(
    bundle: Path, shards: Shards, first: int, length: int, settled: int
) -> tuple[list[int], npt.NDArray[np.float64]]:
    """Numbers and nats of the lines that lie whole in a sequence, from its `settled`th token on."""
    model = AutoModelForCausalLM.from_pretrained(bundle).train()
    ids = torch.from_numpy(shards.ids[first : first + length].astype(np.int64))
    with torch.no_grad():
        logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
    nats = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none").double().numpy()
    starts = shards.first_token
    inside = (starts[:-1] >= first + settled) & (starts[1:] <= first + length)
    numbers = np.flatnonzero(inside).tolist()
    return numbers, np.array([nats[starts[i] - first - 1 : starts[i + 1] - first - 1].sum() for i in numbers])


def logged(path: Path, lines: list[int]) -> npt.NDArray[np.float64]:
    """Surprisal of these lines in a score log."""
    columns = ("pduName_nats", "deltaTime_nats", "activityState_nats")
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if int(row["number"]) in set(lines)]
    return np.array([sum(float(row[column] or 0) for column in columns) for row in rows])
