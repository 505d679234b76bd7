"""A reproduction as pure data: its runs, and in which table and place the result of each is shown."""

import hashlib
from typing import Literal

import msgspec

from training.bodies import Body
from training.finetune import FinetuneSettings
from training.perturbation import Sizes
from training.recipe import Recipe

__all__ = [
    "Context",
    "Entry",
    "ObjectiveRun",
    "PerturbRun",
    "Plan",
    "PredictRun",
    "Run",
    "StartRun",
    "TableKind",
    "TrafficPlan",
    "digest",
]

TableKind = Literal["models", "tokenizers", "tokenizers, same lines", "prompts"]


class TrafficPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Simulated traffic of one vehicle.

    Attributes:
        preset: size of the vehicle.
        vehicle_seed: draws it.
        clean_seconds: of each clean drive.
        clean_drives: numbers of the clean drives, which models are trained and measured on.
        faulty_seconds: of the drive with faults that objectives are trained on.
        judged_seconds: of each drive with faults that detection is judged on.
    """

    preset: str
    vehicle_seed: int
    clean_seconds: float
    clean_drives: tuple[int, ...]
    faulty_seconds: float
    judged_seconds: float


class PredictRun(msgspec.Struct, frozen=True, kw_only=True, tag="predict"):
    """A model is trained from nothing and measured on traffic that it has not seen.

    Attributes:
        name: of the run, unique in its plan.
        tokenizer: one of `training.tokenizers.KINDS`.
        body: of the model; its window, or its recipe's length, is the context in tokens.
        context: tokens of a sequence.
        also_read: other contexts that the trained model is measured with.
    """

    name: str
    tokenizer: str
    body: Body
    context: int
    also_read: tuple[int, ...] = ()


class StartRun(msgspec.Struct, frozen=True, kw_only=True, tag="start"):
    """The bundle that objectives start from and that is perturbed: what table IV and figure 6 begin with.

    Attributes:
        name: of the run.
        tokenizer: of the bundle.
        body: of its model.
        budget_flops: what its training may spend; it stands in no table beside others, so it may have more.
        most_seconds: after which it ends all the same.
    """

    name: str
    tokenizer: str
    body: Body
    budget_flops: int
    most_seconds: float


class ObjectiveRun(msgspec.Struct, frozen=True, kw_only=True, tag="objective"):
    """That bundle's model is fine-tuned by an objective and judged on traffic with faults.

    Attributes:
        name: of the run.
        objective: one of `training.objectives.OBJECTIVES`; None judges the model as it was.
    """

    name: str
    objective: str | None


class PerturbRun(msgspec.Struct, frozen=True, kw_only=True, tag="perturb"):
    """Single lines of clean traffic are moved, and the bundle looks for them.

    Attributes:
        name: of the run.
        sizes: how far lines are moved.
        places: how many lines are moved, one at a time.
    """

    name: str
    sizes: Sizes
    places: int


Run = PredictRun | StartRun | ObjectiveRun | PerturbRun


class Context(msgspec.Struct, frozen=True):
    """A second look at the model of a run: with so many tokens of context."""

    tokens: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a table of next-token prediction.

    Attributes:
        table: where it stands.
        variant: what it is called there.
        run: whose result it shows.
        read: shows the result with this context instead of the run's own.
        paper: row of the paper that it stands beside; None: the paper has no such row.
    """

    table: TableKind
    variant: str
    run: str
    read: Context | None = None
    paper: str | int | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that a reproduction does.

    Attributes:
        scale: its name.
        seed: of every training, and of the places that are perturbed.
        traffic: what it is done on.
        budget_flops: what every training of tables I to III may spend.
        most_seconds: after which it ends all the same.
        tokens_per_step: of every training from nothing, whatever the context.
        test_tokens: that prediction is measured on, roughly.
        recipe: of every training from nothing; batch, length and limits follow from the above.
        finetune: what fine-tuning is; its objective is that of the run.
        finetune_recipe: its schedule.
        runs: in order; objectives and perturbations come after the start.
        entries: of tables I to III.
    """

    scale: str
    seed: int
    traffic: TrafficPlan
    budget_flops: int
    most_seconds: float
    tokens_per_step: int
    test_tokens: int
    recipe: Recipe
    finetune: FinetuneSettings
    finetune_recipe: Recipe
    runs: tuple[Run, ...]
    entries: tuple[Entry, ...]

    def run_named(self, name: str) -> Run:
        """The run of this name.

        Raises:
            KeyError: there is none.
        """
        for run in self.runs:
            if run.name == name:
                return run
        raise KeyError(name)


def digest(plan: Plan, run: Run) -> str:
    """SHA-256 of all that the result of a run depends on, the version of the software aside.

    What belongs to other runs is left out: a plan may get more runs and keep the results that it has.
    """
    own = msgspec.structs.replace(plan, runs=(), entries=())
    before = () if isinstance(run, PredictRun) else tuple(r for r in plan.runs if isinstance(r, StartRun))
    return hashlib.sha256(msgspec.json.encode([own, before, run])).hexdigest()
