"""Pretraining from shards: it learns, gives its best model, and says what it cannot do."""

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from ecustream.errors import ConfigError, InputError
from ecustream.scoring.networks import open_network
from tests.training.tiny_shards import tiny_shards, tiny_split
from training.bodies import Body
from training.nats import measure
from training.pretraining import pretrain
from training.recipe import Recipe
from training.splits import Part, Split

SHARDS = tiny_shards(1500)
SPLIT = tiny_split(SHARDS)
BODY = Body(hidden=16, layers=2, heads=2, inner=32, window=8, head_dim=8, state_size=4)
RECIPE = Recipe(
    batch=4, length=32, learning_rate=1e-2, warmup_steps=5, max_steps=60, max_seconds=None, evaluate_every=20
)


@pytest.mark.parametrize("kind", ["qwen2", "qwen2 full", "mamba", "mamba2"])
def test_a_model_learns_and_is_served_so(kind: str) -> None:
    """Later traffic becomes far easier to predict, and the served network gives validation's nats."""
    body = msgspec.structs.replace(BODY, kind=kind.split()[0])
    if kind.endswith("full"):
        body = msgspec.structs.replace(body, attention="full", window=32)
    made = pretrain(SHARDS, SPLIT, body, RECIPE)
    nats = made.outcome.validation_nats
    assert nats < made.outcome.history[0].validation_nats < 3.5  # a uniform guess has 3.69
    assert nats < 2.6
    assert not made.model.training
    again = measure(made.model, SHARDS, SPLIT.validation, 32)
    assert again.per_token == pytest.approx(nats, rel=1e-6)
    weights = {k: v for k, v in made.model.state_dict().items() if k != "lm_head.weight"}
    config = made.model.config.to_dict()
    network = open_network(config, weights, window_tokens=32, warming_tokens=32)
    first, stop = (int(shards_token) for shards_token in SHARDS.first_token[list(SPLIT.validation[0])])
    stream = network.new_stream()
    served = network.score(SHARDS.ids[first:stop].astype(np.int64), [(stream, stop - first)]).nats[32:]
    assert served.mean() == pytest.approx(nats, rel=0.1)


@pytest.mark.parametrize("kind", ["qwen2", "mamba", "mamba2"])
def test_a_model_learns_with_its_state_carried(kind: str) -> None:
    """From lanes of consecutive chunks; what comes back is the model itself."""
    body = msgspec.structs.replace(BODY, kind=kind)
    made = pretrain(SHARDS, SPLIT, body, msgspec.structs.replace(RECIPE, carried=True))
    assert made.outcome.validation_nats < 2.6
    assert made.model.config.model_type == kind
    assert all(name.split(".")[0] in ("model", "backbone", "lm_head") for name in made.model.state_dict())


def test_the_same_seed_gives_the_same_model() -> None:
    """And another one another."""
    few = msgspec.structs.replace(RECIPE, max_steps=3)
    drawn = []
    for seed in (1, 1, 2):
        made = pretrain(SHARDS, SPLIT, BODY, msgspec.structs.replace(few, seed=seed))
        drawn.append(torch.cat([p.flatten() for p in made.model.parameters()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_run_without_a_number_of_steps_is_one_pass() -> None:
    """As many tokens as there are to train with, less than a batch."""
    made = pretrain(SHARDS, SPLIT, BODY, msgspec.structs.replace(RECIPE, max_steps=None, batch=8))
    tokens = int(SHARDS.first_token[SPLIT.train[0].stop_line])
    assert 0 <= tokens - made.outcome.tokens < 8 * 32
    assert made.outcome.stopped == "steps"
    assert made.outcome.lines / made.outcome.tokens == pytest.approx(1500 / len(SHARDS.ids), rel=0.05)


def test_validation_is_of_later_traffic_only() -> None:
    """What the training part holds does not change what validation says of a model that hardly trains."""
    still = msgspec.structs.replace(RECIPE, max_steps=1, learning_rate=1e-12)
    nats = []
    for validation in ([Part(0, 200)], SPLIT.validation):
        split = Split([Part(0, 1000)], list(validation), SPLIT.test)
        nats.append(pretrain(SHARDS, split, BODY, still).outcome.validation_nats)
    direct = measure(pretrain(SHARDS, SPLIT, BODY, still).model, SHARDS, SPLIT.validation, 32)
    assert nats[1] == pytest.approx(direct.per_token)
    assert nats[0] != nats[1]


@pytest.mark.parametrize("part", ["training", "validation"])
def test_too_little_traffic_is_named(part: str) -> None:
    """For which part, and how many lines are needed."""
    few = [Part(0, 12)]
    split = Split(few, SPLIT.validation, []) if part == "training" else Split(SPLIT.train, few, [])
    with pytest.raises(
        InputError, match=f"too little traffic for {part}: .*more than 32 tokens.*about 15 lines"
    ):
        pretrain(SHARDS, split, BODY, RECIPE)
    with pytest.raises(InputError, match="too little traffic"):
        pretrain(SHARDS, Split([], [], []), BODY, RECIPE)


def test_a_checkpoint_of_other_traffic_or_another_body_is_refused(tmp_path: Path) -> None:
    """Weights of the same sizes would load; the sentence says what is not the same. More steps are."""
    few = msgspec.structs.replace(RECIPE, max_steps=2, save_every=2)
    pretrain(SHARDS, SPLIT, BODY, few, work=tmp_path)
    longer = Split([Part(0, 1250)], SPLIT.validation, SPLIT.test)
    piece = msgspec.structs.replace(SHARDS.pieces[0], sha256="another")
    for word, shards, split, body in (
        ("traffic or tokenizer", SHARDS, longer, BODY),
        ("traffic or tokenizer", dataclasses.replace(SHARDS, pieces=[piece]), SPLIT, BODY),
        ("traffic or tokenizer", dataclasses.replace(SHARDS, tokenizer_json="{}"), SPLIT, BODY),
        ("body.window", SHARDS, SPLIT, msgspec.structs.replace(BODY, window=4)),
    ):
        with pytest.raises(ConfigError, match=f"step-2: its {word} is not that of this run"):
            pretrain(shards, split, body, few, work=tmp_path, resume=True)
    more = msgspec.structs.replace(few, max_steps=3)
    assert pretrain(SHARDS, SPLIT, BODY, more, work=tmp_path, resume=True).outcome.steps == 3


@pytest.mark.parametrize("changes", [{"max_steps": 0}, {"max_seconds": -1.0}, {"batch": 0}])
def test_a_recipe_without_work_is_refused(changes: dict[str, Any]) -> None:
    """Before a model is made."""
    with pytest.raises(ConfigError, match=f"recipe.{next(iter(changes))}"):
        pretrain(SHARDS, SPLIT, BODY, msgspec.structs.replace(RECIPE, **changes))


def test_a_time_limit_ends_training(tmp_path: Path) -> None:
    """With a model all the same, and nothing written where no checkpoint is due."""
    timed = msgspec.structs.replace(RECIPE, max_steps=10**6, max_seconds=0.3)
    made = pretrain(SHARDS, SPLIT, BODY, timed, work=tmp_path / "work")
    assert made.outcome.stopped == "time"
    assert 0 < made.outcome.steps < 10**6
    assert made.outcome.seconds >= 0.3
