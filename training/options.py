"""Options that several commands of `python -m training` share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from training.budget import Budget

__all__ = [
    "BudgetFlops",
    "Minutes",
    "Names",
    "Resume",
    "Seed",
    "Set",
    "Source",
    "Steps",
    "Work",
    "budget_of",
]

Names = Annotated[Path | None, typer.Option(help="PDU names (CSV).")]
Source = Annotated[str | None, typer.Option(help="Bus name to use instead of the traces' own.")]
Minutes = Annotated[float | None, typer.Option(help="Train at most so long.")]
Steps = Annotated[int | None, typer.Option(help="Train at most so many steps; repeatable, unlike time.")]
Seed = Annotated[int, typer.Option(help="Seed of the training.")]
Work = Annotated[
    Path | None,
    typer.Option(help="Folder for token shards and checkpoints; several processes must all see it."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --work.")]
BudgetFlops = Annotated[
    str | None,
    typer.Option(help="Floating-point operations that the training may spend, such as 1e15.", metavar="N"),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Another value for a key, such as recipe.batch=16; repeatable.", metavar="KEY=VALUE"
    ),
]


def budget_of(flops: str | None) -> "Budget | None":
    """The budget that `--budget-flops` sets.

    Raises:
        ConfigError: it is no number of operations.
    """
    from training.budget import Budget, parse_flops

    return None if flops is None else Budget(parse_flops(flops))
