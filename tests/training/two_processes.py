"""Trainings that say how they ended, in one process or in several.

Started by torchrun as `two_processes.py FOLDER TRACE`, each process leaves a file `FOLDER/rank-N.pt`: by
the name of a run, its weights and what it decided.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from tests.training.tiny_runs import BODY, LENGTH, RECIPE, SHARDS, SPLIT
from tests.training.tiny_shards import tiny_shards, tiny_split
from training.bodies import Body, new_model
from training.budget import Budget
from training.carried import Carried
from training.crops import Crops, Lanes
from training.fit import FitSettings, fit
from training.nats import Nats, measure
from training.objectives import make_objective
from training.pretraining import pretrain
from training.recipe import Recipe
from training.traces import Traces
from training.trainer import Outcome, train

__all__ = ["RUNS", "fitted", "pretrained", "run"]

RUNS = ("labels", "carried", "patience", "time", "report")


def run(name: str, recipe: Recipe = RECIPE, work: Path | None = None) -> dict[str, Any]:
    """One training; its weights, and numbers that all processes must agree on."""
    torch.manual_seed(0)
    shards = tiny_shards(600)
    if name == "labels":
        # Some sequences have many labelled lines, most have none.
        labelled = np.zeros(600, np.bool_)
        labelled[100:140] = True
        shards = dataclasses.replace(shards, labelled=labelled)
    split = tiny_split(shards)
    kind: Any = "mamba2" if name == "carried" else "qwen2"
    body = Body(kind=kind, hidden=16, layers=2, heads=2, inner=32, window=8, head_dim=8, state_size=4)
    model: Any = new_model(body, shards.vocabulary)
    data: Any = Crops(shards, split.train, LENGTH, 1000, 1, mask_tokens=0.1, drop_lines=0.1)
    if name == "carried":
        model, data = Carried(model), Lanes(shards, split.train, LENGTH, 1000, 1, recipe.batch)
    rank = int(os.environ.get("RANK", "0"))
    changes: dict[str, Any] = {}
    report: Callable[[int, float], bool] | None = None
    if name == "patience":
        changes = {"max_steps": 100, "evaluate_every": 1, "patience": 3}
    if name == "time":
        changes = {"max_steps": 10**6, "max_seconds": 0.7, "evaluate_every": 10**6}
        time.sleep(0.4 * rank)
    if name == "report":

        def report(step: int, nats: float) -> bool:
            return step >= 3

    def validate() -> Nats:
        found = measure(model, shards, split.validation, LENGTH)
        if name == "patience":  # no two processes would stop at the same step by themselves
            return msgspec.structs.replace(found, per_token=5.0 + rank)
        return found

    objective = make_objective("margin" if name == "labels" else "ce")
    recipe = msgspec.structs.replace(recipe, **changes)
    outcome = train(model, data, validate, objective, recipe, work=work, report=report)
    return _told(model, outcome)


def pretrained() -> dict[str, Any]:
    """The same of a whole pretraining."""
    made = pretrain(SHARDS, SPLIT, BODY, RECIPE)
    return _told(made.model, made.outcome)


def fitted(trace: Path, out: Path, work: Path | None) -> list[str]:
    """Make a bundle of a trace; the sentences that were told."""
    said: list[str] = []
    settings = FitSettings(body=BODY, recipe=msgspec.structs.replace(RECIPE, max_steps=3))
    fit(Traces([trace], None), out, settings, said.append, work=work, budget=Budget(10**12))
    return said


def _told(model: Any, outcome: Outcome) -> dict[str, Any]:
    return {
        "weights": {key: value.clone() for key, value in model.state_dict().items()},
        "steps": outcome.steps,
        "stopped": outcome.stopped,
        "tokens": outcome.tokens,
        "lines": outcome.lines,
        "flops": outcome.flops,
        "seconds": outcome.seconds,
        "history": msgspec.to_builtins(outcome.history),
    }


def main() -> None:
    """All runs, and what they leave."""
    torch.set_num_threads(1)
    folder, trace, rank = Path(sys.argv[1]), Path(sys.argv[2]), int(os.environ["RANK"])
    # First, as from the command line: nothing before it has set the processes up.
    said = fitted(trace, folder / "bundle", folder / "fit")
    found = {name: run(name) for name in RUNS}
    found["accumulated"] = run("labels", msgspec.structs.replace(RECIPE, accumulation=2))
    found["pretrained"] = pretrained()
    found["saved"] = run("carried", work=folder / "work")
    (folder / f"said-{rank}.txt").write_text("\n".join(said))
    torch.save(found, folder / f"rank-{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
