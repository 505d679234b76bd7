"""Plans of a reproduction: what they vary, and what their results depend on."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from ecustream.errors import ConfigError, EcustreamError
from training.objectives import OBJECTIVES
from training.perturb_command import perturb_command
from training.recipe import check_recipe
from training.reproduction import paper
from training.reproduction.plan import Entry, ObjectiveRun, PerturbRun, Plan, PredictRun, StartRun, digest
from training.reproduction.predicting import recipe_for
from training.reproduction.records import Verdict
from training.reproduction.report import _recall_and_precision
from training.reproduction.scales import SCALES, plan_of
from training.tokenizers import KINDS

PLANS = {scale: plan_of(scale) for scale in SCALES}
SCALE = pytest.mark.parametrize("plan", PLANS.values(), ids=list(PLANS))


def runs_of(plan: Plan, table: str) -> list[PredictRun]:
    """The runs that a table shows, those that are read with their own context."""
    runs = [plan.run_named(entry.run) for entry in plan.entries if entry.table == table and not entry.read]
    return [run for run in runs if isinstance(run, PredictRun)]


@SCALE
def test_every_table_varies_one_thing(plan: Plan) -> None:
    """Models differ in their body, tokenizers in their tokens, prompts in their context; nothing else."""

    def shape(run: PredictRun) -> object:
        return msgspec.structs.replace(run.body, window=0)

    models = runs_of(plan, "models")
    assert len({run.body for run in models}) == len(paper.MODELS) == len(models)
    assert len({(run.tokenizer, run.context) for run in models}) == 1
    tokenizers = runs_of(plan, "tokenizers")
    assert {run.tokenizer for run in tokenizers} == set(KINDS)
    assert len({(run.context, run.body) for run in tokenizers}) == 1
    prompts = runs_of(plan, "prompts")
    assert len({run.context for run in prompts}) == len(prompts) > 2
    assert len({(run.tokenizer, shape(run)) for run in prompts}) == 1
    assert all(run.body.window == run.context for run in prompts)


@SCALE
def test_windows_of_the_same_lines_are_measured_on_whole_lines(plan: Plan) -> None:
    """Their second halves are: as many lines in `group` as in `row`."""
    row, group, bpe = runs_of(plan, "tokenizers, same lines")
    assert group.context == 2 * row.context
    assert row.context % 2 == 0
    assert bpe.context == pytest.approx(50 * row.context, rel=0.3)


@SCALE
def test_runs_can_be_followed(plan: Plan) -> None:
    """Names are unique, recipes hold, and what needs the bundle comes after it."""
    names = [run.name for run in plan.runs]
    assert len(set(names)) == len(names)
    assert {entry.run for entry in plan.entries} <= set(names)
    started = [isinstance(run, StartRun) for run in plan.runs].index(True)
    for at, run in enumerate(plan.runs):
        if isinstance(run, PredictRun):
            recipe = recipe_for(plan, run.body, run.context)
            check_recipe(recipe)
            assert 0.8 * plan.tokens_per_step < recipe.batch * run.context <= plan.tokens_per_step
        elif isinstance(run, ObjectiveRun):
            assert at > started
            assert run.objective is None or run.objective in OBJECTIVES
        elif isinstance(run, PerturbRun):
            assert at > started
            run.sizes.check()


@SCALE
def test_rows_stand_beside_rows_that_the_paper_has(plan: Plan) -> None:
    """Every row of the paper's tables I and II is there once."""

    def beside(table: str) -> list[str | int | None]:
        return [entry.paper for entry in plan.entries if entry.table == table and entry.paper]

    assert beside("models") == list(paper.MODELS)
    assert beside("tokenizers") == list(paper.TOKENIZERS)
    assert set(beside("prompts")) <= set(paper.PROMPTS)


def test_a_digest_tells_what_a_result_depends_on() -> None:
    """Seed, traffic and the run itself; of other runs the bundle only, and only where it is used."""
    plan = PLANS["tiny"]
    first, objective = plan.runs[0], plan.run_named("objective-entropy")
    assert digest(plan, first) != digest(plan_of("tiny", seed=1), first)
    assert digest(plan, first) != digest(plan, plan.runs[1])
    fewer = msgspec.structs.replace(plan, runs=(first,), entries=())
    assert digest(fewer, first) == digest(plan, first)
    body = msgspec.structs.replace(plan.runs[0], tokenizer="row")
    assert digest(plan, body) != digest(plan, first)
    start = msgspec.structs.replace(plan.run_named("start"), tokenizer="group")
    other = msgspec.structs.replace(
        plan, runs=tuple(start if run.name == "start" else run for run in plan.runs)
    )
    assert digest(other, first) == digest(plan, first)
    assert digest(other, objective) != digest(plan, objective)


def test_unknown_scales_and_runs_are_refused() -> None:
    """By name."""
    with pytest.raises(ConfigError, match="no scale 'huge', only tiny, cpu, gpu"):
        plan_of("huge")
    with pytest.raises(KeyError):
        PLANS["tiny"].run_named("none")
    assert isinstance(PLANS["tiny"].entries[0], Entry)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"false_alarms_per_hour": 0.0}, "false_alarms_per_hour is 0,"),
        ({"false_alarms_per_hour": float("nan")}, "false_alarms_per_hour is nan,"),
        ({"plot": Path("picture.png")}, r"picture\.png: a picture is an \.svg file"),
        ({"plot": Path("/nowhere/x.svg")}, "there is no folder /nowhere"),
        ({"sizes": "0,a"}, "must be numbers separated by commas"),
        # Its default sizes are of its unit: what is refused is the bundle.
        ({"by": "lines"}, "not a bundle"),
        ({"by": "ms"}, "not a bundle"),
    ],
)
def test_what_perturb_cannot_do_is_said_before_it_reads(
    tmp_path: Path, given: dict[str, Any], sentence: str
) -> None:
    """In one sentence."""
    with pytest.raises(EcustreamError, match=sentence):
        perturb_command([tmp_path / "t.pcapng"], tmp_path, **given)


def test_a_negative_seed_is_refused() -> None:
    """Before anything is simulated."""
    with pytest.raises(ConfigError, match="seed is -1"):
        plan_of("tiny", -1)


def test_recall_stands_before_precision() -> None:
    """As the caption says; a dash where nothing is labelled."""
    blank = "\N{NO-BREAK SPACE}"
    assert _recall_and_precision(Verdict(found=1, labelled=4, right=1, told=2)) == f"0.25{blank}/{blank}0.50"
    assert _recall_and_precision(Verdict(found=0, labelled=0, right=0, told=2)) == f"–{blank}/{blank}0.00"
