"""The offline tools: `python -m training simulate | fit | finetune | evaluate | ...`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ecustream.cli import run_app
from training.annotate import annotate_command
from training.compare_command import compare_command
from training.finetune_command import finetune_command
from training.fit_command import fit_command, pretrain_command
from training.options import Loggers, loggers_of
from training.search_command import search_command
from training.simulate.command import simulate_command
from training.tokenizer_command import tokenizer_command

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Makes traffic, detectors and their evaluation.",
)
app.command("simulate")(simulate_command)
app.command("annotate")(annotate_command)
app.command("fit")(fit_command)
app.command("tokenizer")(tokenizer_command)
app.command("pretrain")(pretrain_command)
app.command("finetune")(finetune_command)
app.command("search")(search_command)
app.command("compare")(compare_command)


@app.command("calibrate")
def calibrate_command(
    traces: Annotated[list[Path], typer.Argument(help="Clean traces of the bundle's vehicle.")],
    model: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    out: Annotated[Path | None, typer.Option(help="Where the result goes; default: the same folder.")] = None,
    source: Annotated[str | None, typer.Option(help="Bus name to use instead of the traces' own.")] = None,
    logger: Loggers = None,
) -> None:
    """Calibrate a trained detector again, on other or on more clean traffic."""
    from ecustream.knowledge import names_of
    from ecustream.scoring.manifest import read_bundle
    from training.fit import recalibrate
    from training.traces import Traces

    info = read_bundle(model).info
    recalibrate(Traces(traces, names_of(info), info.key, source, loggers_of(logger)), model, out or model)
    print(f"{out or model}: calibrated")


@app.command("evaluate")
def evaluate_command(
    traces: Annotated[list[Path], typer.Argument(help="Traces; X.labels.jsonl beside one has its labels.")],
    model: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    names: Annotated[Path | None, typer.Option(help="PDU names (CSV); default: the bundle's.")] = None,
    source: Annotated[str | None, typer.Option(help="Bus name to use instead of the traces' own.")] = None,
    logger: Loggers = None,
    false_alarms_per_hour: Annotated[float, typer.Option(help="The detector's budget.")] = 1.0,
    kinds: Annotated[bool, typer.Option("--kinds", help="Also print kinds of faults, and controls.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare a detector with the interval rule and with each kind of its evidence alone."""
    from training.evaluate import evaluate, render, render_kinds

    report = evaluate(
        model,
        traces,
        names=names,
        source=source,
        loggers=loggers_of(logger),
        false_alarms_per_hour=false_alarms_per_hour,
    )
    if as_json:
        print(json.dumps(report))
    else:
        console = Console(width=None if sys.stdout.isatty() else 160)
        console.print(render(report))
        if kinds:
            console.print(render_kinds(report))


@app.command("demo")
def demo_command(
    folder: Annotated[Path, typer.Option(help="Where the demo trace goes.")] = Path("demo"),
) -> None:
    """Rebuild the demo trace and the bundle that ships with the package."""
    from training.demo import build_demo

    build_demo(folder, print)


def main() -> None:
    """Entry point of `python -m training`."""
    run_app(app, "training")


if __name__ == "__main__":
    main()
