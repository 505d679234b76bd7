"""The offline tools: `python -m training simulate | fit | finetune | evaluate | ...`."""

from pathlib import Path
from typing import Annotated

import typer

from ecustream.cli import run_app
from training.annotate import annotate_command
from training.compare_command import compare_command
from training.evaluation.command import evaluate_command
from training.finetune_command import finetune_command
from training.fit_command import fit_command, pretrain_command
from training.options import Loggers, loggers_of
from training.perturb_command import perturb_command
from training.reproduce_command import reproduce_command
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
app.command("evaluate")(evaluate_command)
app.command("perturb")(perturb_command)
app.command("reproduce")(reproduce_command)


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
