"""The command `finetune`: from a bundle and labelled traffic to the bundle of a software release."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from ecustream.errors import ConfigError
from training.options import BudgetFlops, Minutes, Resume, Seed, Set, Source, Steps, Work, budget_of

if TYPE_CHECKING:
    from training.finetune import Finetuned

__all__ = ["finetune_command"]


def finetune_command(
    traces: Annotated[list[Path], typer.Argument(help="Traces with known anomalies, labels beside them.")],
    model: Annotated[Path, typer.Option(help="Folder of the bundle to start from.")],
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    clean: Annotated[list[Path], typer.Option(help="Clean trace of the same software; repeatable.")],
    labels: Annotated[
        Literal["annotator", "labels"],
        typer.Option(help="X.annotator.jsonl (rules, unreliable) or X.labels.jsonl (true) beside X.pcapng."),
    ] = "annotator",
    settings: Annotated[str, typer.Option(help="default or paper.")] = "default",
    objective: Annotated[
        str | None,
        typer.Option(help="ce, mask, paper, entropy, outlier_exposure, margin or contrastive."),
    ] = None,
    overrides: Set = None,
    replay: Annotated[
        list[Path] | None, typer.Option(help="Older clean trace that must not be forgotten; repeatable.")
    ] = None,
    adapters: Annotated[Path | None, typer.Option(help="Folder that keeps an adapter a release.")] = None,
    release: Annotated[str | None, typer.Option(help="Name of this software release.")] = None,
    continue_from: Annotated[
        str | None, typer.Option("--continue", help="Release in --adapters to continue from.")
    ] = None,
    source: Source = None,
    minutes: Minutes = None,
    steps: Steps = 200,
    seed: Seed = 0,
    budget_flops: BudgetFlops = None,
    work: Work = None,
    resume: Resume = False,
) -> None:
    """Fine-tune a bundle's model on labelled traffic by LoRA, and calibrate it anew on clean traffic."""
    from training.finetune import SETTINGS
    from training.fit_command import check_work
    from training.release import FINETUNING, AdapterShelf, finetune
    from training.settings import chosen, with_keys

    check_work(work, resume)
    if (adapters is None) != (release is None) or (continue_from is not None and adapters is None):
        raise ConfigError(
            "an adapter is kept with --adapters FOLDER and --release NAME; --continue needs both"
        )
    tuning = msgspec.structs.replace(chosen("settings", settings, SETTINGS))
    if objective is not None:
        tuning.objective = objective
    if replay and not tuning.replay_share:
        tuning.replay_share = 0.3
    seconds = None if minutes is None else 60 * minutes
    recipe = msgspec.structs.replace(FINETUNING, seed=seed, max_steps=steps, max_seconds=seconds)
    made = with_keys(overrides or [], finetune=tuning, recipe=recipe)
    tuned = finetune(
        model,
        traces,
        clean,
        out,
        made["finetune"],
        made["recipe"],
        labels=labels,
        replay=replay or [],
        shelf=None if adapters is None or release is None else AdapterShelf(adapters, release, continue_from),
        source=source,
        work=work,
        resume=resume,
        budget=budget_of(budget_flops),
        say=print,
    )
    if tuned is not None:
        Console().print(effects_table(tuned, labels))
        print(f"{out}: {tuned.outcome.steps} steps, stopped by {tuned.outcome.stopped}")


def effects_table(tuned: "Finetuned", labels: str) -> Table:
    """What fine-tuning did, before and after."""
    table = Table(title=f"on the last part of the labelled traces, by their {labels} file")
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="left" if not heading else "right")
    for title, key in (
        ("labelled lines, nats a line", "labelled_nats_per_line"),
        ("other lines, nats a line", "unlabelled_nats_per_line"),
        ("average precision of surprisal", "average_precision"),
        ("average precision of delta time's", "delta_average_precision"),
    ):
        pair = [getattr(effects, key, None) for effects in (tuned.before, tuned.after)]
        table.add_row(title, *("-" if value is None else f"{value:.3f}" for value in pair))
    table.add_row(
        "clean traffic, nats a token", f"{tuned.clean_nats_before:.4f}", f"{tuned.clean_nats_after:.4f}"
    )
    return table
