"""Runs a plan, run by run; what is done is kept, and what fails later loses nothing."""

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

import ecustream
from ecustream.errors import ConfigError, EcustreamError, OutputError
from training.budget import flops_text
from training.reproduction.objectives import judge_objective, start
from training.reproduction.plan import ObjectiveRun, PerturbRun, Plan, PredictRun, Run, StartRun, digest
from training.reproduction.predicting import predict
from training.reproduction.records import Failed, Record, Records, Result, today
from training.reproduction.sensitivity import perturb_start
from training.reproduction.stage import Stage

__all__ = ["execute", "libraries", "machine"]

_LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "numpy")


def execute(
    plan: Plan, folder: Path, *, resume: bool = False, say: Callable[[str], None] = lambda sentence: None
) -> dict[str, Record]:
    """Run what is not done yet.

    A run that cannot be, or whose training diverges, leaves no record and does not keep the others from being
    made; what needs the bundle fails with the run that makes it.

    Args:
        plan: what to do.
        folder: for traffic, shards, the bundle and records; what is there of the same plan is used.
        resume: keep records of the same runs by the same software.
        say: told each run as it begins and ends.

    Returns:
        The record of each run, by name; of a run that failed with the reason as its result.

    Raises:
        ConfigError: there are records already and `resume` is not set.
        InputError: a record cannot be read.
        OutputError: something cannot be written.
    """
    kept = Records(folder / "runs")
    if kept.any() and not resume:
        raise ConfigError(f"{folder}: there are runs already; --resume goes on, or choose another folder")
    stage = Stage(plan, folder)
    done: dict[str, Record] = {}
    broken = False
    for number, run in enumerate(plan.runs, 1):
        place = f"{number}/{len(plan.runs)} {run.name}"
        found = kept.read(run.name, digest(plan, run))
        starts = isinstance(run, StartRun)
        if found is not None and not (starts and not stage.bundle.is_dir()):
            say(f"{place}: is done")
            done[run.name] = found
            continue
        say(f"{place}: begins")
        if starts:
            # What begins with the bundle is of no use with another one, even if this is interrupted.
            kept.drop(other.name for other in plan.runs if not isinstance(other, PredictRun))
        record = _recorded(stage, run, broken=broken and not isinstance(run, PredictRun))
        done[run.name] = record
        if isinstance(record.result, Failed):
            broken |= starts
            say(f"{place}: failed: {record.result.reason}")
            continue
        kept.write(record)
        say(f"{place}: {record.seconds:.0f} s" + (f", {flops_text(record.flops)}" if record.flops else ""))
    return done


def _recorded(stage: Stage, run: Run, *, broken: bool) -> Record:
    """Run it, and write down what it gave and took; or why it failed.

    Raises:
        OutputError: there is no room, and there will be none for the next run.
    """
    began = time.monotonic()
    result: Result
    flops, training_s, pictures = 0, 0.0, list[tuple[str, str]]()
    try:
        if broken:
            raise ConfigError("there is no bundle to start from, since the run that makes it failed")
        result, flops, training_s, pictures = _run(stage, run)
    except OutputError:
        raise
    except (EcustreamError, torch.OutOfMemoryError) as error:
        result = Failed(reason=" ".join(str(error).split()))
    return Record(
        run=run.name,
        digest=digest(stage.plan, run),
        version=ecustream.__version__,
        libraries=libraries(),
        machine=machine(),
        date=today(),
        seconds=round(time.monotonic() - began, 1),
        training_seconds=round(training_s, 1),
        flops=flops,
        result=result,
        pictures=pictures,
    )


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
    """What this runs on, in words: the accelerator if there is one, the processor, its cores, and threads."""
    cores = (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()) or 1
    parts = [_processor(), _counted(cores, "core"), _counted(torch.get_num_threads(), "thread")]
    if torch.cuda.is_available():
        parts.insert(0, str(torch.cuda.get_device_name()))
    return ", ".join(parts)


def libraries() -> str:
    """Python and the libraries that results depend on, with their versions."""
    versions = [("Python", platform.python_version()), *((name, version(name)) for name in _LIBRARIES)]
    return ", ".join(f"{name} {of.split('+')[0]}" for name, of in versions)


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" + ("" if count == 1 else "s")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
