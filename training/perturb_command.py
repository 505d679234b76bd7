"""The command `perturb`: how far a line must be moved until it is noticed."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer
from rich.console import Console

from ecustream.errors import ConfigError
from training.options import Source

__all__ = ["perturb_command"]

_SIZES = {"ms": "0,0.5,1,2,5,10,20,50,100,200", "lines": "0,1,2,5,10,20,50,100,200,1000"}


def perturb_command(
    traces: Annotated[list[Path], typer.Argument(help="Clean traces that the bundle was not made from.")],
    model: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    by: Annotated[Literal["ms", "lines"], typer.Option(help="Lines are moved by so many of these.")] = "ms",
    sizes: Annotated[
        str | None,
        typer.Option(help="How far, ascending from 0; default: up to 200 ms, or up to 1000 lines."),
    ] = None,
    places: Annotated[int, typer.Option(help="How many lines are moved, one at a time.")] = 200,
    seed: Annotated[int, typer.Option(help="Draws them.")] = 0,
    source: Source = None,
    false_alarms_per_hour: Annotated[float, typer.Option(help="The detector's budget.")] = 1.0,
    plot: Annotated[Path | None, typer.Option(help="Picture of the rates: .svg.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Move single lines of clean traffic, and say from which size on detector and interval rule notice."""
    from training.perturbation import Sizes, perturb
    from training.perturbation_report import picture, render
    from training.simulate.writer import written_whole

    if plot is not None and plot.suffix != ".svg":
        raise ConfigError(f"--plot {plot}: a picture is an .svg file")
    if plot is not None and not plot.absolute().parent.is_dir():
        raise ConfigError(f"--plot {plot}: there is no folder {plot.parent}")
    if sizes is None:
        sizes = _SIZES[by]
    try:
        amounts = tuple(float(text) for text in sizes.split(","))
    except ValueError:
        raise ConfigError(f"--sizes {sizes!r}: must be numbers separated by commas") from None
    study = perturb(
        model,
        traces,
        Sizes(by, amounts),
        places=places,
        seed=seed,
        source=source,
        false_alarms_per_hour=false_alarms_per_hour,
    )
    if plot is not None:
        with written_whole(plot) as (file,):
            file.write(picture(study).encode())
    if as_json:
        print(msgspec.json.encode(study).decode())
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(render(study))
