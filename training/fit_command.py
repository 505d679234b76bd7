"""The commands `fit` and `pretrain`: from clean traces to a bundle, by default settings or by any."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import typer

from ecustream.decode.names import NameTable
from ecustream.errors import ConfigError
from training.options import (
    BudgetFlops,
    Loggers,
    Minutes,
    Names,
    Resume,
    Seed,
    Set,
    Source,
    Steps,
    Work,
    budget_of,
    loggers_of,
)

if TYPE_CHECKING:
    from training.recipe import Recipe

__all__ = ["check_work", "fit_command", "limited", "pretrain_command"]

TracePaths = Annotated[list[Path], typer.Argument(help="Clean traces of one vehicle: captures or CSV.")]
Out = Annotated[Path, typer.Option(help="Folder of the bundle; an older bundle there is replaced.")]
Key = Annotated[str, typer.Option(help="What the same PDU is: stream, or name as in the paper.")]
Split = Annotated[
    Literal["time", "drive"],
    typer.Option(help="Hold out the end of each trace, or whole traces (three at least)."),
]


def fit_command(
    traces: TracePaths,
    out: Out,
    names: Names = None,
    key: Key = "stream",
    source: Source = None,
    logger: Loggers = None,
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Seed = 0,
) -> None:
    """Train and calibrate a detector on clean traces of one vehicle: 900 steps, or 7 minutes."""
    from training.fit import FitSettings, fit
    from training.recipe import RECIPES
    from training.traces import Traces

    recipe = limited(RECIPES["default"], minutes, steps, seed)
    fit(
        Traces(traces, _table(names), key, source, loggers_of(logger)), out, FitSettings(recipe=recipe), print
    )


def pretrain_command(
    traces: TracePaths,
    out: Out,
    names: Names = None,
    key: Key = "stream",
    source: Source = None,
    logger: Loggers = None,
    tokenizer: Annotated[str, typer.Option(help="fields, bpe, bpe-binned, group or row.")] = "fields",
    body: Annotated[
        str,
        typer.Option(
            help="0.3m, 1m, 2m, 25m, 0.4b, 1.3b, mamba-0.3m, mamba-130m, mamba2-0.3m or mamba2-130m."
        ),
    ] = "0.3m",
    recipe: Annotated[str, typer.Option(help="default or paper.")] = "default",
    overrides: Set = None,
    minutes: Minutes = None,
    steps: Steps = None,
    seed: Seed = 0,
    budget_flops: BudgetFlops = None,
    split: Split = "time",
    work: Work = None,
    resume: Resume = False,
) -> None:
    """Train and calibrate a detector with any tokenizer, body and recipe.

    On several GPUs or machines: `torchrun --nproc-per-node 4 -m training pretrain ... --work SHARED_FOLDER`.
    """
    from training.bodies import BODIES
    from training.fit import PAPER_SHARES, FitSettings, fit
    from training.recipe import RECIPES
    from training.settings import chosen, with_keys
    from training.splits import SHARES
    from training.traces import Traces

    check_work(work, resume)
    sizes = chosen("body", body, BODIES)
    schedule = msgspec.structs.replace(
        limited(chosen("recipe", recipe, RECIPES), minutes, steps, seed), carried=sizes.kind != "qwen2"
    )
    made = with_keys(overrides or [], body=sizes, recipe=schedule)
    settings = FitSettings(
        tokenizer=tokenizer,
        body=made["body"],
        recipe=made["recipe"],
        shares=PAPER_SHARES if recipe == "paper" else SHARES,
        by=split,
    )
    fit(
        Traces(traces, _table(names), key, source, loggers_of(logger)),
        out,
        settings,
        print,
        work=work,
        resume=resume,
        budget=budget_of(budget_flops),
    )


def check_work(work: Path | None, resume: bool) -> None:
    """Refuse to go on, or to share work with other processes, without a folder.

    Raises:
        ConfigError: so.
    """
    if resume and work is None:
        raise ConfigError("--resume needs --work, where the checkpoints are")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and work is None:
        raise ConfigError("several processes need --work, a folder that all of them see")


def limited(recipe: "Recipe", minutes: float | None, steps: int | None, seed: int) -> "Recipe":
    """The recipe with these limits; a number of steps lifts the recipe's own limit of time."""
    changes: dict[str, Any] = {"seed": seed}
    if steps is not None:
        changes |= {"max_steps": steps, "max_seconds": None}
    if minutes is not None:
        changes["max_seconds"] = 60 * minutes
    return msgspec.structs.replace(recipe, **changes)


def _table(names: Path | None) -> NameTable | None:
    return None if names is None else NameTable.load(names)
