"""Searches with tiny models that are really trained."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution

from ecustream.errors import ConfigError, InputError
from tests.training.shards_for_tests import made_shards
from training.bodies import Body, new_model
from training.budget import measure_step
from training.finetune import FinetuneSettings
from training.pretraining import pretrain
from training.recipe import Recipe, crop_length
from training.search import search_finetuning, search_pretraining, with_settings
from training.shards import Shards
from training.splits import split
from training.study import Space, Study

VOCABULARY = 24
BODY = Body(hidden=16, layers=1, inner=32, window=16)
RECIPE = Recipe(batch=4)
FLOPS = 200_000_000
SPACE: Space = {
    "window": CategoricalDistribution([8, 16]),
    "hidden": CategoricalDistribution([16, 32]),
    "learning_rate": FloatDistribution(3e-3, 3e-2, log=True),
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """Traffic of one drive, 2,000 lines, a few of them labelled."""
    return made_shards(
        tmp_path_factory.mktemp("search") / "shards", [2000], VOCABULARY, 0, labelled_share=0.05
    )


def _step_flops(body: Body) -> int:
    torch.manual_seed(0)
    model = new_model(body, VOCABULARY)
    ids = torch.zeros(RECIPE.batch, crop_length(body, RECIPE), dtype=torch.int64)
    return measure_step(model, lambda: model(input_ids=ids, labels=ids).loss)


def test_pretraining_trials_cost_the_same_and_are_judged_alike(tmp_path: Path, shards: Shards) -> None:
    """Small models get more steps for the same FLOPs; a rerun goes on where the search was."""
    said: list[str] = []
    first = search_pretraining(
        tmp_path, shards, split(shards), FLOPS, trials=1, body=BODY, recipe=RECIPE, space=SPACE
    )
    study = search_pretraining(
        tmp_path,
        shards,
        split(shards),
        FLOPS,
        trials=3,
        body=BODY,
        recipe=RECIPE,
        space=SPACE,
        say=said.append,
    )

    assert study.trials[0] == first.trials[0]
    assert len(said) == 2
    for tried in study.trials:
        body, _ = with_settings(BODY, RECIPE, tried.params)
        cost = _step_flops(body)
        assert tried.facts["steps"] == FLOPS // cost
        assert tried.facts["parameters"] == sum(p.numel() for p in new_model(body, VOCABULARY).parameters())
        assert tried.value is not None
        assert 0 < tried.value < 8
        assert max(tried.so_far) == 10
        assert tried.so_far[10] < tried.so_far[1]


def test_a_diverging_trial_is_pruned_and_the_search_goes_on(tmp_path: Path, shards: Shards) -> None:
    """Its reason is that of the training, whose settings it also names when they do not fit together."""
    space: Space = {
        "learning_rate": CategoricalDistribution([1e-2, 1e30]),
        "heads": CategoricalDistribution([2, 3]),
    }

    study = search_pretraining(
        tmp_path, shards, split(shards), FLOPS // 8, trials=8, body=BODY, recipe=RECIPE, space=space
    )

    for tried in study.trials:
        if tried.params["heads"] == 3:
            assert "body.hidden is 16" in tried.reason
        elif tried.params["learning_rate"] > 1:
            assert "diverged" in tried.reason
        else:
            assert tried.value is not None
    assert {"" if not t.reason else t.reason[:9] for t in study.trials} == {"", "body.hidd", "training "}


def test_finetuning_is_judged_by_how_well_labelled_lines_stand_out(tmp_path: Path, shards: Shards) -> None:
    """The average precision on validation traffic, of a model that every trial gets anew."""
    base = pretrain(shards, split(shards), BODY, Recipe(batch=4, max_steps=40, learning_rate=1e-2)).model
    before = copy.deepcopy(base.state_dict())
    space: Space = {
        "rank": CategoricalDistribution([2, 4]),
        "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    }

    def search(shards: Shards = shards) -> Study:
        return search_finetuning(
            tmp_path / "study",
            lambda: copy.deepcopy(base),
            shards,
            split(shards),
            3,
            trials=2,
            settings=FinetuneSettings(rank=4, lora_alpha=8, max_clean_rise=None),
            recipe=RECIPE,
            space=space,
        )

    study = search()

    assert study.direction == "maximize"
    for tried in study.trials:
        assert tried.value is not None
        assert 0 < tried.value <= 1
        assert tried.facts["labelled nats a line"] > tried.facts["unlabelled nats a line"]
        assert set(tried.so_far) == {3, 6, 10}
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    assert shards.labelled is not None
    with pytest.raises(ConfigError, match="another traffic"):
        search(dataclasses.replace(shards, labelled=np.roll(shards.labelled, 1)))
    with torch.no_grad():
        base.lm_head.weight[0, 0] += 1
    with pytest.raises(ConfigError, match="another base model"):
        search()


def test_finetuning_without_labelled_validation_lines_is_refused(tmp_path: Path) -> None:
    """Before anything is trained: there would be nothing to rank."""
    unlabelled = made_shards(tmp_path / "shards", [500], VOCABULARY, 0)

    with pytest.raises(InputError, match="no labelled line in the validation part"):
        search_finetuning(
            tmp_path / "study",
            lambda: new_model(BODY, VOCABULARY),
            unlabelled,
            split(unlabelled),
            3,
            trials=1,
            settings=FinetuneSettings(),
            recipe=RECIPE,
        )


def test_traffic_too_short_for_the_longest_window_is_refused(tmp_path: Path, shards: Shards) -> None:
    """All windows of the search are judged on the same lines, so the longest one must fit."""
    space: Space = {"window": CategoricalDistribution([8, 512])}

    with pytest.raises(InputError, match="need a piece of 2048 tokens"):
        search_pretraining(tmp_path, shards, split(shards), FLOPS, trials=1, body=BODY, space=space)
    assert list(tmp_path.iterdir()) == []


def test_a_search_of_another_budget_is_refused(tmp_path: Path, shards: Shards) -> None:
    """Trials of different cost cannot be compared; nor can other recipes."""
    search_pretraining(
        tmp_path, shards, split(shards), FLOPS, trials=1, body=BODY, recipe=RECIPE, space=SPACE, seconds=0
    )

    with pytest.raises(ConfigError, match="another number of FLOPs a trial: 200000000 there, 1 here"):
        search_pretraining(
            tmp_path, shards, split(shards), 1, trials=1, body=BODY, recipe=RECIPE, space=SPACE
        )
    with pytest.raises(ConfigError, match=r"another recipe\.batch: 4 there, 8 here"):
        search_pretraining(
            tmp_path, shards, split(shards), FLOPS, trials=1, body=BODY, recipe=Recipe(), space=SPACE
        )


def test_settings_go_where_they_belong() -> None:
    """To the body, to the recipe; the inner width keeps its proportion unless it is set."""
    body, recipe = with_settings(BODY, RECIPE, {"hidden": 32, "learning_rate": 0.5, "window": 8})

    assert (body.hidden, body.inner, body.window, body.layers) == (32, 64, 8, 1)
    assert (recipe.learning_rate, recipe.batch) == (0.5, 4)
    assert with_settings(BODY, RECIPE, {"hidden": 32, "inner": 40})[0].inner == 40


def test_an_unknown_setting_is_refused() -> None:
    """By name."""
    with pytest.raises(ConfigError, match="colour cannot be searched: it is no field of Body or Recipe"):
        with_settings(BODY, RECIPE, {"colour": "red", "hidden": 16})
