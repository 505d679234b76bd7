"""Runs a plan, run by run; what is done is kept, and what fails later loses nothing."""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

import ecustream
from ecustream.errors import ConfigError
from training.budget import flops_text
from training.reproduction.objectives import judge_objective, start
from training.reproduction.plan import ObjectiveRun, PerturbRun, Plan, PredictRun, Run, StartRun, digest
from training.reproduction.predicting import predict
from training.reproduction.records import Record, Records, Result, today
from training.reproduction.sensitivity import perturb_start
from training.reproduction.stage import Stage

__all__ = ["execute", "machine"]


def execute(
    plan: Plan, folder: Path, *, resume: bool = False, say: Callable[[str], None] = lambda sentence: None
) -> dict[str, Record]:
    """Run what is not done yet.

    Args:
        plan: what to do.
        folder: for traffic, shards, the bundle and records; what is there of the same plan is used.
        resume: keep records of the same runs by the same software.
        say: told each run as it begins and ends.

    Returns:
        The record of each run, by name.

    Raises:
        ConfigError: there are records already and `resume` is not set, or a run cannot be.
        EcustreamError: traffic, models or records cannot be made, read or written.
    """
    kept = Records(folder / "runs")
    if kept.any() and not resume:
        raise ConfigError(f"{folder}: there are runs already; --resume goes on, or choose another folder")
    stage = Stage(plan, folder)
    done: dict[str, Record] = {}
    anew = False
    for number, run in enumerate(plan.runs, 1):
        place = f"{number}/{len(plan.runs)} {run.name}"
        found = kept.read(run.name, digest(plan, run))
        # What starts from a bundle that was made again, or that is gone, must be done again too.
        needs_bundle = not isinstance(run, PredictRun)
        if found is not None and not (needs_bundle and (anew or not stage.bundle.is_dir())):
            say(f"{place}: is done")
            done[run.name] = found
            continue
        say(f"{place}: begins")
        anew |= isinstance(run, StartRun)
        began = time.monotonic()
        result, flops, training_s, pictures = _run(stage, run)
        record = Record(
            run=run.name,
            digest=digest(plan, run),
            version=ecustream.__version__,
            machine=machine(),
            date=today(),
            seconds=round(time.monotonic() - began, 1),
            training_seconds=round(training_s, 1),
            flops=flops,
            result=result,
            pictures=pictures,
        )
        kept.write(record)
        done[run.name] = record
        say(f"{place}: {record.seconds:.0f} s" + (f", {flops_text(flops)}" if flops else ""))
    return done


def _run(stage: Stage, run: Run) -> tuple[Result, int, float, list[tuple[str, str]]]:
    """What a run gave, FLOPs and seconds of its training, and its pictures."""
    if isinstance(run, PredictRun):
        return *predict(stage, run), []
    if isinstance(run, StartRun):
        return *start(stage, run), []
    if isinstance(run, ObjectiveRun):
        return judge_objective(stage, run)
    assert isinstance(run, PerturbRun)
    study, pictures = perturb_start(stage, run)
    return study, 0, 0.0, pictures


def machine() -> str:
    """What this runs on, in words: the accelerator, or the processor and its cores."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores, {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
