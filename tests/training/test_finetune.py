"""Fine-tuning: known anomalies become surprising, the rest stays what it was, and the adapter can be kept."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from ecustream.errors import ConfigError, InputError, OutputError
from ecustream.scoring.networks import open_network
from tests.training.releases import LENGTH, QUICK, model_of_first_release, traffic
from training.adapters import Release, open_adapter, save_adapter
from training.effects import effects
from training.finetune import SETTINGS, Finetuned, FinetuneSettings, finetune_model, sequence_length
from training.lora import merge
from training.nats import measure
from training.objectives import make_objective
from training.recipe import Recipe
from training.splits import split
from training.watch import Look

SMALL = FinetuneSettings(objective="mask", rank=4, lora_alpha=8, learning_rate=1e-2, max_clean_rise=None)


@pytest.fixture(scope="module")
def first_release() -> Any:
    return model_of_first_release()


def tune(
    model: Any, settings: FinetuneSettings = SMALL, recipe: Recipe = QUICK, stride: int = 1, **named: Any
) -> Finetuned:
    """Fine-tune a copy of `model` on traffic of a release that it has not seen."""
    shards = traffic(seed=5, stride=stride)
    return finetune_model(copy.deepcopy(model), shards, split(shards), settings, recipe, **named)


def changed(settings: FinetuneSettings, **named: Any) -> FinetuneSettings:
    return msgspec.structs.replace(settings, **named)


def with_recipe(**named: Any) -> Recipe:
    return msgspec.structs.replace(QUICK, **named)


def logits(model: Any) -> torch.Tensor:
    ids = torch.from_numpy(traffic(seed=9).ids[: 2 * LENGTH].astype(np.int64))[None]
    with torch.no_grad():
        out: torch.Tensor = model(input_ids=ids).logits
    return out


@pytest.mark.parametrize("objective", ["outlier_exposure", "margin"])
def test_labelled_lines_become_more_surprising(first_release: Any, objective: str) -> None:
    """By half a nat at least on the test part, and five times as much as the others do."""
    found = tune(first_release, changed(SMALL, objective=objective), with_recipe(max_steps=60))
    assert found.before is not None
    assert found.after is not None
    labelled, unlabelled = (
        getattr(found.after, key) - getattr(found.before, key)
        for key in ("labelled_nats_per_line", "unlabelled_nats_per_line")
    )
    assert labelled > 0.5
    assert unlabelled < labelled / 5


def test_effects_are_those_of_the_models(first_release: Any) -> None:
    """What is said of the test part before and after is what the base and the merged model have there."""
    found = tune(first_release)
    shards = traffic(seed=5)
    assert found.before == effects(first_release, shards, split(shards).test, LENGTH)
    assert found.after == effects(found.model, shards, split(shards).test, LENGTH)


@pytest.mark.parametrize("kind", ["qwen2", "mamba", "mamba2"])
def test_merged_model_is_base_and_adapter(kind: str) -> None:
    """One model of the base's kind without a trace of peft; base + adapter gives its logits again."""
    base = model_of_first_release(kind, steps=5)
    found = tune(base, recipe=with_recipe(max_steps=3, evaluate_every=3))
    assert type(found.model) is type(base)
    assert found.model.state_dict().keys() == base.state_dict().keys()
    assert not any("peft" in name for name in vars(found.model))
    assert all("lora_" in name for name in found.lora.weights)
    assert any(tensor.abs().max() > 1e-3 for name, tensor in found.lora.weights.items() if "lora_B" in name)
    assert (logits(found.model) - logits(base)).abs().max() > 1e-2
    torch.testing.assert_close(
        logits(merge(copy.deepcopy(base), found.lora)), logits(found.model), atol=1e-6, rtol=0
    )


def test_scoring_network_takes_the_merged_model(first_release: Any) -> None:
    """The detector's own network gives the merged model's surprisal, token by token."""
    model = tune(first_release).model
    weights = {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}
    network = open_network(model.config.to_dict(), weights, window_tokens=LENGTH // 2, warming_tokens=0)
    ids = traffic(seed=9).ids[: 2 * LENGTH].astype(np.int64)
    ours = network.score(ids, [(network.new_stream(), len(ids))]).nats
    log_p = torch.log_softmax(logits(model)[0], dim=-1)[:-1]
    theirs = -log_p.gather(1, torch.from_numpy(ids[1:])[:, None])[:, 0]
    np.testing.assert_allclose(ours[1:], theirs.numpy(), atol=1e-4)


def test_release_is_continued_from_another(first_release: Any, tmp_path: Path) -> None:
    """The second begins with the first one's scores; both can be opened and give their models back."""
    one = tune(first_release)
    save_adapter(tmp_path, Release(name="1", base_sha256="b"), one.lora)
    start = open_adapter(tmp_path, "1", "b").lora
    two = tune(first_release, recipe=with_recipe(seed=1), adapter=start)
    save_adapter(tmp_path, Release(name="2", base_sha256="b", parent="1"), two.lora)
    assert one.after is not None
    assert two.before is not None
    assert two.before.auc == pytest.approx(one.after.auc, abs=1e-6)
    assert two.before.labelled_nats_per_line == pytest.approx(one.after.labelled_nats_per_line, abs=1e-5)
    assert (logits(two.model) - logits(one.model)).abs().max() > 1e-2
    for name, found in (("1", one), ("2", two)):
        again = merge(copy.deepcopy(first_release), open_adapter(tmp_path, name, "b").lora)
        torch.testing.assert_close(logits(again), logits(found.model), atol=1e-6, rtol=0)


def test_replay_forgets_less(first_release: Any) -> None:
    """Another release is learned; what the old traffic's nats rise by is less with half of it replayed."""
    old = traffic(seed=3, labels=False)
    settings = changed(SMALL, objective="ce", rank=8)
    recipe = with_recipe(max_steps=60, evaluate_every=20)
    alone = tune(first_release, settings, recipe, stride=3)
    together = tune(
        first_release, changed(settings, replay_share=0.5), recipe, stride=3, replay=(old, split(old).train)
    )
    new = traffic(seed=5, stride=3)
    base_old, alone_old, together_old = (
        measure(m, old, split(old).test, LENGTH).per_line
        for m in (first_release, alone.model, together.model)
    )
    base_new, alone_new, together_new = (
        measure(m, new, split(new).test, LENGTH).per_line
        for m in (first_release, alone.model, together.model)
    )
    assert max(alone_new, together_new) < 0.6 * base_new
    assert together_old - base_old < 0.5 * (alone_old - base_old)


def test_clean_traffic_ends_the_training(first_release: Any) -> None:
    """When it has become too surprising, the weights from before are kept, and said to be so."""
    clean = traffic(seed=4, labels=False)
    settings = changed(SMALL, objective="entropy", alpha=4.0, learning_rate=2e-3, max_clean_rise=0.05)
    recipe = with_recipe(max_steps=60, evaluate_every=2)
    found = tune(first_release, settings, recipe, clean=(clean, split(clean).validation))
    look = Look(clean, split(clean).validation, LENGTH)
    assert found.clean_nats_before == look.loss(first_release, make_objective("mask"))
    assert found.clean_nats_after == look.loss(found.model, make_objective("mask"))
    assert found.outcome.stopped == "clean traffic"
    assert 2 < found.outcome.steps < 60
    assert found.clean_nats_after <= 1.05 * found.clean_nats_before
    assert all(abs(check.validation_nats) < 100 for check in found.outcome.history)
    free = tune(
        first_release, changed(settings, max_clean_rise=None), recipe, clean=(clean, split(clean).validation)
    )
    assert free.outcome.stopped == "steps"
    assert free.clean_nats_after > 1.05 * free.clean_nats_before


def test_nothing_gained_is_said(first_release: Any) -> None:
    """Where clean traffic suffers at the first look there is a sentence, and the model is as it was."""
    settings = changed(SMALL, objective="entropy", alpha=20.0, learning_rate=5e-2, max_clean_rise=0.01)
    model, shards = copy.deepcopy(first_release), traffic(seed=5)
    with pytest.raises(
        ConfigError, match=r"nothing was gained: at the first look, after 10 .* 1.0% are allowed"
    ):
        finetune_model(model, shards, split(shards), settings, QUICK)
    assert model.state_dict().keys() == first_release.state_dict().keys()
    assert torch.equal(logits(model), logits(first_release))


def test_resumed_is_uninterrupted(first_release: Any, tmp_path: Path) -> None:
    """Ended halfway and resumed it has the same weights; checkpoints hold only the adapter."""
    whole = tune(first_release, recipe=with_recipe(max_steps=20, evaluate_every=5, save_every=5))
    half = with_recipe(max_steps=20, evaluate_every=5, save_every=5)
    tune(first_release, recipe=half, work=tmp_path, report=lambda step, nats: step == 10)
    held = torch.load(tmp_path / "checkpoints" / "step-10" / "tensors.pt", weights_only=True)
    assert all("lora_" in name for name in held["weights"])
    resumed = tune(first_release, recipe=half, work=tmp_path, resume=True)
    assert resumed.outcome.steps == whole.outcome.steps == 20
    assert resumed.before == whole.before
    for name, tensor in whole.lora.weights.items():
        torch.testing.assert_close(resumed.lora.weights[name], tensor, atol=1e-6, rtol=0)


def test_folder_is_of_one_fine_tuning(first_release: Any, tmp_path: Path) -> None:
    """Other settings do not go on with its checkpoints, nor does anything without being asked to."""
    tune(first_release, recipe=with_recipe(max_steps=10), work=tmp_path)
    old = traffic(seed=3)
    replay: Any = {"replay": (old, split(old).train)}
    others: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"objective": "ce"}, {}, r"finetune\.objective"),
        ({}, {"stride": 2}, "traffic"),
        ({"replay_share": 0.5}, replay, r"older traffic|finetune\.replay_share"),
    ]
    for other, named, what in others:
        with pytest.raises(ConfigError, match=f"step-10: its ({what}) is not that of this run"):
            tune(first_release, changed(SMALL, **other), work=tmp_path, resume=True, **named)
    moved = copy.deepcopy(first_release)
    with torch.no_grad():
        moved.lm_head.weight[0, 0] += 1
    with pytest.raises(ConfigError, match="its base model is not that of this run"):
        tune(moved, work=tmp_path, resume=True)
    shards = traffic(seed=5)
    assert shards.labelled is not None
    shards = replace(shards, labelled=np.roll(shards.labelled, 1))
    with pytest.raises(ConfigError, match="its traffic is not that of this run"):
        finetune_model(
            copy.deepcopy(first_release), shards, split(shards), SMALL, QUICK, work=tmp_path, resume=True
        )
    with pytest.raises(OutputError, match="holds checkpoints of another run"):
        tune(first_release, work=tmp_path)


def test_carried_state(first_release: Any) -> None:
    """Lanes that continue each other fine-tune, too, and the merged model is one that can be called alone."""
    found = tune(
        model_of_first_release("mamba", steps=20),
        recipe=with_recipe(carried=True, max_steps=6, evaluate_every=3),
    )
    assert found.outcome.steps == 6
    assert torch.isfinite(logits(found.model)).all()


def test_without_labels(first_release: Any) -> None:
    """Objectives that need labels refuse traffic without; the others adapt, with no effects to show."""
    for shards in (traffic(labels=False), replace(traffic(), labelled=np.zeros(3000, np.bool_))):
        parts = split(shards)
        for objective in ("outlier_exposure", "paper", "entropy", "margin", "contrastive"):
            with pytest.raises(
                InputError, match="no labelled line in the training part of drive-1: there is nothing"
            ):
                finetune_model(first_release, shards, parts, changed(SMALL, objective=objective), QUICK)
    shards = traffic(labels=False)
    found = finetune_model(copy.deepcopy(first_release), shards, split(shards), SMALL, QUICK)
    assert found.before is None
    assert found.after is None
    # Labels where nothing is trained do not count.
    late_only = traffic().labelled
    assert late_only is not None
    end = np.where(np.arange(3000) < 2500, False, late_only)
    tuned = replace(traffic(), labelled=end)
    with pytest.raises(InputError, match="no labelled line"):
        finetune_model(first_release, tuned, split(tuned), changed(SMALL, objective="margin"), QUICK)


@pytest.mark.parametrize(
    ("settings", "recipe", "named", "sentence"),
    [
        ({"rank": 0}, {}, {}, "rank and lora_alpha are 0 and 8"),
        ({"learning_rate": 0.0}, {}, {}, "learning_rate is 0"),
        ({"max_clean_rise": -0.1}, {}, {}, "max_clean_rise is -0.1"),
        ({"objective": "magic"}, {}, {}, "'magic' is not one of"),
        ({"replay_share": 0.5}, {}, {}, "there is no older traffic"),
        ({}, {}, {"replay": True}, "there is older traffic to replay"),
        ({"replay_share": 1.0}, {}, {"replay": True}, "replay_share is 1.0, but must be"),
        ({"replay_share": 0.5}, {"carried": True}, {"replay": True}, "exclude each other"),
        ({"objective": "contrastive"}, {"carried": True}, {}, "exclude each other: it compares windows"),
        ({}, {"batch": 0}, {}, "recipe.batch is 0"),
    ],
)
def test_impossible_settings_are_refused(
    first_release: Any, settings: Any, recipe: Any, named: Any, sentence: str
) -> None:
    """Before anything is trained, by a sentence that names the key."""
    old = traffic(seed=3)
    replay: Any = {"replay": (old, split(old).train)} if "replay" in named else {}
    with pytest.raises(ConfigError, match=sentence):
        tune(first_release, changed(SMALL, **settings), with_recipe(**recipe), **replay)


def test_foreign_tokens_are_refused(first_release: Any) -> None:
    """Traffic, replayed traffic and clean traffic must all be in the model's own tokens."""
    wide, other = replace(traffic(), vocabulary=21), replace(traffic(), tokenizer_json='{"a": 1}')
    settings = changed(SMALL, replay_share=0.5)
    with pytest.raises(InputError, match=r"release-1: .*vocabulary of 21, the model has 20"):
        finetune_model(first_release, wide, split(wide), SMALL, QUICK)
    with pytest.raises(InputError, match="tokenized by another tokenizer"):
        tune(first_release, settings, replay=(other, split(other).train))
    with pytest.raises(InputError, match="tokenized by another tokenizer"):
        tune(first_release, clean=(other, split(other).train))
    with pytest.raises(InputError, match="tokenized by another tokenizer"):
        tune(first_release, tokenizer_json='{"mine": 1}')


def test_adapter_of_another_shape_is_refused(first_release: Any) -> None:
    """An adapter is continued with its own rank; one of another model is none to start from."""
    lora = tune(first_release, recipe=with_recipe(max_steps=1, evaluate_every=1)).lora
    with pytest.raises(ConfigError, match="has rank 4 and lora_alpha 8, not 2 and 8"):
        tune(first_release, changed(SMALL, rank=2), adapter=lora)
    with pytest.raises(InputError, match="does not fit the model"):
        tune(model_of_first_release("mamba", steps=0), adapter=lora)
    less = lora._replace(weights=dict(list(lora.weights.items())[1:]))
    with pytest.raises(InputError, match="is in only one of them"):
        tune(first_release, adapter=less)


def test_presets() -> None:
    """The paper's numbers: rank 64, learning rate 5e-5, alpha 0.5; ours are what clean traffic bears."""
    ours, paper = SETTINGS["default"], SETTINGS["paper"]
    assert (ours.objective, ours.learning_rate, ours.max_clean_rise) == ("mask", 5e-4, 0.02)
    assert (paper.objective, paper.rank, paper.learning_rate, paper.alpha) == ("entropy", 64, 5e-5, 0.5)


def test_sequences_fit_the_model(first_release: Any) -> None:
    """Windows of attention, what the recipe says where there are none, no longer text than a model reads."""
    assert sequence_length(first_release, QUICK) == LENGTH
    assert sequence_length(model_of_first_release("mamba", steps=0), with_recipe(length=48)) == 48
    full = copy.deepcopy(first_release)
    full.config.layer_types = ["full_attention"]
    full.config.sliding_window = None
    assert sequence_length(full, with_recipe(length=10_000)) == full.config.max_position_embeddings
    assert sequence_length(full, with_recipe(length=40)) == 40


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_qlora_needs_cuda(first_release: Any) -> None:
    """Elsewhere it is refused in a sentence."""
    with pytest.raises(ConfigError, match="QLoRA needs a CUDA device"):
        tune(first_release, changed(SMALL, qlora=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT TESTED: QLoRA needs a CUDA device")
def test_qlora_merges_into_the_whole_model(first_release: Any) -> None:
    """Trained beside 4 bits, the adapter does in the float32 model what it should."""
    found = tune(first_release, changed(SMALL, qlora=True))
    assert next(found.model.parameters()).dtype == torch.float32
    assert found.before is not None
    assert found.after is not None
    assert (found.after.labelled_nats_per_line or 0) > (found.before.labelled_nats_per_line or 9) + 0.5
