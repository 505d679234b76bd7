"""The training loop: the same step however it is cut, as a plain loop takes it, and what ends it."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import default_collate

from ecustream.errors import ConfigError
from ecustream.scoring.manifest import read_bundle
from tests.training.tiny_runs import LENGTH, SHARDS, SPLIT, crops, new, recipe, same, trained
from tests.training.two_processes import RUNS, fitted, pretrained, run
from training import trainer
from training.bodies import Body
from training.budget import Budget, flops_text
from training.carried import Carried
from training.crops import Lanes
from training.nats import Nats, measure
from training.recipe import RECIPES, Recipe, check_recipe, crop_length, learning_rate_at


def test_a_plain_loop_gives_the_same_weights() -> None:
    """AdamW on every weight, clipped gradients, and the rate of the step, in ten lines of torch."""
    model, steps = new(), 6
    optimiser = torch.optim.AdamW(model.parameters(), lr=1, weight_decay=0.2, betas=(0.9, 0.98))
    data = crops()
    for step in range(1, steps + 1):
        batch = default_collate([data[(step - 1) * 8 + i] for i in range(8)])
        logits = model(input_ids=batch["input_ids"]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.55)
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * min(step / 3, 1) * (1 - 0.9 * step / steps)
        optimiser.step()
        optimiser.zero_grad()
    ours = new()
    outcome = trained(ours, recipe(warmup_steps=3))
    assert outcome.history[-1].validation_nats == outcome.validation_nats  # the last weights were the best
    same(ours.state_dict(), model.state_dict())


@pytest.mark.timeout(300)
def test_two_processes_train_as_one(tmp_path: Path, clean_trace: Path) -> None:
    """Under torchrun: the same weights as one process, the same in both, and decisions that agree.

    Labelled lines are in few of the sequences, so that shares differ; time and patience would end the
    processes at different steps if each decided for itself, and then none would end. The first one alone
    reads the trace and writes the bundle.
    """
    script = Path(__file__).with_name("two_processes.py")
    root = script.parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(script), str(tmp_path), str(clean_trace)],
        cwd=root,
        env={"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1))
    for name in first:
        same(first[name]["weights"], second[name]["weights"], atol=0)
        for key in ("steps", "stopped", "tokens", "lines", "flops", "seconds", "history"):
            assert first[name][key] == second[name][key], (name, key)
    for name in ("labels", "carried"):
        alone = run(name)
        same(first[name]["weights"], alone["weights"])
        for key in ("steps", "tokens", "lines", "flops"):
            assert first[name][key] == alone[key]
        assert first[name]["history"][-1]["train_nats"] == pytest.approx(alone["history"][-1]["train_nats"])
    same(first["pretrained"]["weights"], pretrained()["weights"])
    same(first["accumulated"]["weights"], first["labels"]["weights"])
    same(first["saved"]["weights"], first["carried"]["weights"], atol=0)
    assert (first["patience"]["steps"], first["patience"]["stopped"]) == (4, "validation")
    assert first["time"]["stopped"] == "time"
    assert (first["report"]["steps"], first["report"]["stopped"]) == (3, "pruned")
    said = [(tmp_path / f"said-{rank}.txt").read_text().splitlines() for rank in (0, 1)]
    assert said[1] == []
    assert [sentence.split(":")[0] for sentence in said[0]].count("plan") == 1
    told = read_bundle(tmp_path / "bundle").info.trained
    assert (told["steps"], told["budget_flops"]) == (3, 10**12)
    assert told["flops"] == told["planned_flops"] > 0
    fitted(clean_trace, tmp_path / "alone", None)
    both, alone_weights = (load_file(tmp_path / name / "model.safetensors") for name in ("bundle", "alone"))
    same(both, alone_weights)
    files = sorted(str(path.relative_to(tmp_path / "work")) for path in (tmp_path / "work").rglob("*.*"))
    names = ("carried-0.pt", "carried-1.pt", "state.json", "tensors.pt")
    assert files == [f"checkpoints/step-{step}/{name}" for step in (3, 6) for name in names]
    assert set(RUNS) < set(first)


def test_micro_batches_change_nothing() -> None:
    """One batch of eight, two of four or eight of one are the same step, with labels in few sequences."""
    whole = run("labels")
    for micro_batches in (2, 8):
        cut = run("labels", recipe(accumulation=micro_batches))
        same(cut["weights"], whole["weights"])
        assert (cut["tokens"], cut["lines"], cut["flops"]) == (
            whole["tokens"],
            whole["lines"],
            whole["flops"],
        )


@pytest.mark.parametrize("kind", ["qwen2", "mamba", "mamba2", "carried qwen2", "carried mamba2"])
def test_gradient_checkpointing_changes_nothing(kind: str) -> None:
    """Activations that are computed again are the same; the model is left as it was."""
    body = Body(hidden=16, layers=2, heads=2, inner=32, window=8, head_dim=8, state_size=4)
    body = msgspec.structs.replace(body, kind=kind.split()[-1])
    weights = []
    for again in (False, True):
        model, data = new(body), crops()
        if kind.startswith("carried"):
            model, data = Carried(model), Lanes(SHARDS, SPLIT.train, LENGTH, 100, 1, 8)  # type: ignore[assignment]
        trained(model, recipe(gradient_checkpointing=again, max_steps=3), data=data)
        assert not model.is_activation_checkpointing
        weights.append(model.state_dict())
    same(*weights)


def test_bfloat16_is_for_training_only() -> None:
    """The model that comes back has its weights, and computes, in float32."""
    model, exact, plain = new(), new(), new()
    trained(model, recipe(precision="bfloat16"))
    trained(exact)
    plain.load_state_dict(model.state_dict())
    ids = torch.arange(4, 30)[None]
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, plain.eval()(input_ids=ids).logits)
        apart = (model(input_ids=ids).logits - exact(input_ids=ids).logits).abs().max()
    assert 0 < apart < 0.2


def test_the_best_weights_come_back() -> None:
    """Not the last ones; and what the outcome says of them is what validation says."""
    model, seen = new(), []

    def validate() -> Nats:
        found = measure(model, SHARDS, SPLIT.validation, LENGTH)
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        worse = 0.0 if len(seen) == 2 else 1.0
        return msgspec.structs.replace(found, per_token=found.per_token + worse)

    outcome = trained(model, recipe(evaluate_every=2, patience=3, max_steps=100), validate=validate)
    assert (outcome.stopped, outcome.steps, len(seen)) == ("validation", 10, 5)
    same(model.state_dict(), seen[1], atol=0)
    assert outcome.validation_nats == outcome.history[1].validation_nats
    assert outcome.validation_nats_per_line == outcome.history[1].validation_nats_per_line
    assert not model.training


def test_a_report_prunes() -> None:
    """It is told of each validation in nats a line, and its True ends the run."""
    told = []

    def report(step: int, nats: float) -> bool:
        told.append((step, nats))
        return len(told) == 2

    outcome = trained(new(), recipe(max_steps=90), report=report)
    assert (outcome.stopped, outcome.steps) == ("pruned", 6)
    assert told == [(check.step, check.validation_nats_per_line) for check in outcome.history]


def test_a_budget_ends_the_run_before_it_is_passed() -> None:
    """After as many whole steps as it covers; nothing at all is refused."""
    free = trained(new(), recipe(max_steps=1))
    budget = Budget(int(free.flops * 4.5))
    outcome = trained(new(), recipe(max_steps=90), budget=budget)
    assert (outcome.stopped, outcome.steps, outcome.flops) == ("budget", 4, 4 * free.flops)
    assert outcome.planned_flops == 90 * free.flops
    assert budget.spent == outcome.flops


def test_the_plan_is_told_before_the_first_step() -> None:
    """Steps, what they cost, and what the budget says to it; a budget for none is refused, untrained."""
    told: list[str] = []
    model = new()
    outcome = trained(
        model, budget=Budget(10**9), say=told.append, progress=lambda *what: told.append("step")
    )
    assert told[1:] == ["step"] * 6
    cost = flops_text(outcome.flops // 6)
    all_of_it = flops_text(outcome.flops)
    assert told[0] == (
        f"plan: 6 steps of {cost} and 256 tokens, {all_of_it} in all; the budget of 1 GFLOP covers it"
    )
    poor, before = new(), new().state_dict()
    told.clear()
    with pytest.raises(ConfigError, match=f"plan: 6 steps of {cost} .* does not cover one step"):
        trained(poor, budget=Budget(outcome.flops // 6 - 1), say=told.append)
    assert told == []
    same(poor.state_dict(), before, atol=0)


def test_a_warm_up_that_does_not_end_is_told() -> None:
    """A recipe for long runs followed for few steps trains at a part of its learning rate."""
    told: list[str] = []
    trained(new(), recipe(warmup_steps=1000), say=told.append)
    assert told[1:] == ["the learning rate rises over 1,000 steps: it never reaches its height"]


def test_the_rate_falls_with_whatever_ends_first() -> None:
    """A budget for six steps of a hundred gives the weights of a run of six steps."""
    short = new()
    outcome = trained(short, recipe(max_steps=6))
    limited = new()
    trained(limited, recipe(max_steps=100), budget=Budget(outcome.flops))
    same(limited.state_dict(), short.state_dict(), atol=0)
    long = new()
    trained(long, recipe(max_steps=100), report=lambda step, nats: step == 6)
    apart = max(float((long.state_dict()[k] - v).abs().max()) for k, v in short.state_dict().items())
    assert apart > 2e-3


def test_data_end_the_run() -> None:
    """As many steps as there are whole batches; not one is refused."""
    outcome = trained(new(), recipe(max_steps=90), data=crops(8 * 4 + 7))
    assert (outcome.steps, outcome.stopped, outcome.tokens) == (4, "steps", 4 * 8 * LENGTH)
    with pytest.raises(ConfigError, match="not one batch of 8"):
        trained(new(), data=crops(7))


@pytest.mark.parametrize("steps", [1, 6])
def test_divergence_is_told_and_nothing_is_written(tmp_path: Path, steps: int) -> None:
    """A rate that throws the weights away, even in the last step: the sentence names it and what to try."""
    wild = recipe(learning_rate=1e30, clip=1e30, save_every=1, max_steps=steps)
    with pytest.raises(ConfigError, match=r"diverged at step \d: .*try a smaller learning rate"):
        trained(new(), wild, work=tmp_path)
    for path in tmp_path.rglob("tensors.pt"):
        weights = torch.load(path, weights_only=True)["weights"]
        assert all(bool(tensor.isfinite().all()) for tensor in weights.values())


@pytest.mark.parametrize(("carried", "kernels"), [(False, ["flash_attention_2", "sdpa"]), (True, [])])
def test_flash_attention_is_not_for_carried_state(
    carried: bool, kernels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes no mask, with which the past of a lane comes; elsewhere it is chosen, and given back."""
    monkeypatch.setattr(trainer, "is_flash_attn_2_available", lambda: True)
    chosen: list[str] = []
    config = SimpleNamespace(_attn_implementation="sdpa")
    model = SimpleNamespace(config=config, set_attn_implementation=chosen.append)
    arguments: Any = SimpleNamespace(device=torch.device("cuda"))
    with trainer._as_configured(model, recipe(carried=carried, precision="bfloat16"), arguments):
        assert chosen == kernels[:1]
    assert chosen == kernels


def test_only_weights_that_want_a_gradient_change() -> None:
    """As with an adapter: the frozen ones stay, and are not in what is kept."""
    model, before = new(), new().state_dict()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("mlp" in name)
    trained(model)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all("mlp" in name for name in changed)


def test_training_is_quiet(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Nothing is printed, and nothing is written without a folder; progress is told instead."""
    told: list[tuple[int, int, str]] = []
    trained(new(), progress=lambda *what: told.append(what))
    assert capfd.readouterr() == ("", "")
    assert [done for done, _, _ in told] == [1000 * step // 6 for step in range(1, 7)]
    assert "in training" in told[0][2]
    assert "in validation" in told[-1][2]


def test_the_rate_rises_and_falls() -> None:
    """The paper's schedule and ours, by hand."""
    paper = RECIPES["paper"]
    check_recipe(paper, processes=8)
    assert paper.batch / paper.accumulation == 24
    assert learning_rate_at(paper, 500, 0.0) == pytest.approx(2.5e-4)
    assert learning_rate_at(paper, 4000, 0.5) == pytest.approx(2.5e-4)
    assert learning_rate_at(paper, 8000, 1.0) == 0
    ours = RECIPES["default"]
    assert learning_rate_at(ours, 25, 0.1) == pytest.approx(2e-3 * 0.5 * (1 - 0.9 * 0.1))
    assert learning_rate_at(ours, 900, 1.5) == pytest.approx(2e-4)


def test_sequences_have_the_length_that_the_model_is_served_at() -> None:
    """Some windows where attention slides, the whole text where it does not, else what the recipe says."""
    assert crop_length(Body(window=64), Recipe(crop_windows=5)) == 320
    assert crop_length(Body(window=512, attention="full"), Recipe(crop_windows=5)) == 512
    assert crop_length(Body(kind="mamba"), Recipe(length=300)) == 300


@pytest.mark.parametrize(
    "changes",
    [
        {"batch": 0},
        {"batch": 9, "accumulation": 2},
        {"max_steps": 0},
        {"max_seconds": 0.0},
        {"max_seconds": float("nan")},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"final_share": 1.5},
        {"mask_tokens": 1.0},
        {"drop_lines": -0.1},
        {"betas": (0.9, 1.0)},
        {"patience": 0},
        {"length": 1},
        {"galore_rank": 0},
        {"weight_decay": -1.0},
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(changes: dict[str, Any]) -> None:
    """The sentence names the key; in `train` it comes before any work is done."""
    key = next(iter(changes))
    with pytest.raises(ConfigError, match=f"recipe.{key}"):
        check_recipe(msgspec.structs.replace(Recipe(), **changes))
    with pytest.raises(ConfigError, match=f"recipe.{key}"):
        trained(new(), msgspec.structs.replace(Recipe(), **changes))


def test_a_batch_must_divide_over_the_processes() -> None:
    """Eight sequences are two micro-batches for four processes, but not for three."""
    check_recipe(Recipe(batch=8, accumulation=2), processes=4)
    with pytest.raises(ConfigError, match=r"recipe.batch is 8.*3 processes"):
        check_recipe(Recipe(batch=8, accumulation=2), processes=3)
