"""Options that several commands of `python -m training` share."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecustream.errors import ConfigError

if TYPE_CHECKING:
    from training.budget import Budget

__all__ = [
    "BudgetFlops",
    "Loggers",
    "Minutes",
    "Names",
    "Resume",
    "Seed",
    "Set",
    "Source",
    "Steps",
    "Work",
    "budget_of",
    "loggers_of",
]

Names = Annotated[Path | None, typer.Option(help="PDU names (CSV).")]
Source = Annotated[str | None, typer.Option(help="Bus name to use instead of the traces' own.")]
Loggers = Annotated[
    list[str] | None,
    typer.Option(
        "--logger",
        help="Bus name for what a logger recorded, as in `capture.loggers`, such as 0x1001=ETH1; repeatable.",
        metavar="ID=BUS",
    ),
]
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


def loggers_of(texts: Sequence[str] | None) -> dict[str, str]:
    """The table that `--logger` sets, see `ecustream.capture.unwrap`.

    Raises:
        ConfigError: it is not `ID=BUS`, or the configuration would not take it.
    """
    from ecustream.config import load_config

    loggers: dict[str, str] = {}
    for text in texts or []:
        interface, is_pair, bus = text.partition("=")
        if not is_pair or interface in loggers:
            raise ConfigError(f"--logger {text}: must be ID=BUS, each ID once")
        loggers[interface] = bus
    return load_config(None, {"capture.loggers": loggers}).capture.loggers if loggers else loggers
