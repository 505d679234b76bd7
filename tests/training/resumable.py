"""Trainings that end themselves by SIGKILL: started as `python resumable.py FOLDER STEP`, each in a process.

They are forked from one, as loading the libraries takes longer than the trainings.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import torch

from tests.training.tiny_shards import tiny_shards, tiny_split
from training.bodies import Body
from training.pretraining import Pretrained, pretrain
from training.recipe import Recipe

__all__ = ["NAMES", "run"]

NAMES = ("adamw", "galore", "carried")
STEPS, SAVED = 12, 5


def run(name: str, work: Path | None, kill_at: int | None = None, resume: bool = False) -> Pretrained:
    """Twelve steps with a checkpoint every five, and what is special about the name."""
    torch.set_num_threads(1)
    recipe = Recipe(
        batch=4,
        length=32,
        learning_rate=5e-3,
        warmup_steps=3,
        max_steps=STEPS,
        max_seconds=None,
        evaluate_every=4,
        save_every=SAVED,
        carried=name == "carried",
    )
    if name == "galore":
        recipe = msgspec.structs.replace(recipe, optimiser="galore", galore_rank=4, galore_gap=3)
    body = Body(hidden=16, layers=2, heads=2, inner=32, window=8, head_dim=8, state_size=4)
    if name == "carried":
        body = msgspec.structs.replace(body, kind="mamba2")
    steps = 0

    def progress(*what: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    shards = tiny_shards(600)
    return pretrain(shards, tiny_split(shards), body, recipe, work=work, resume=resume, progress=progress)


def main() -> None:
    """Each run in a folder of its name; exits with 0 if all were killed."""
    children = []
    for name in NAMES:
        child = os.fork()
        if not child:
            run(name, Path(sys.argv[1]) / name, int(sys.argv[2]))
            os._exit(1)
        children.append(child)
    signals = [os.WTERMSIG(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(signals != [signal.SIGKILL] * len(NAMES))


if __name__ == "__main__":
    main()
