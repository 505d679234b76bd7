"""The command `evaluate`."""

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ecustream.errors import ConfigError
from ecustream.folders import disk_errors
from training.options import Loggers, Source, loggers_of

__all__ = ["evaluate_command"]


def evaluate_command(
    traces: Annotated[list[Path], typer.Argument(help="Traces; X.labels.jsonl beside one has its labels.")],
    model: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    names: Annotated[Path | None, typer.Option(help="PDU names (CSV); default: the bundle's.")] = None,
    source: Source = None,
    logger: Loggers = None,
    false_alarms_per_hour: Annotated[float, typer.Option(help="Every detector's budget.")] = 1.0,
    baselines: Annotated[
        str, typer.Option(help="What else is in the table: all, none, or names with commas between.")
    ] = "all",
    clean: Annotated[
        list[Path] | None,
        typer.Option(
            help="Clean trace that baselines learn from; repeatable. Default: the first without labels."
        ),
    ] = None,
    annotated: Annotated[
        list[Path] | None,
        typer.Option(help="Trace with X.annotator.jsonl that classifiers learn from; repeatable."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another bundle to compare with, line by line.")
    ] = None,
    kinds: Annotated[bool, typer.Option("--kinds", help="Also print kinds of faults, and controls.")] = False,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write everything as JSON; - for standard output.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write one HTML page with pictures.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Folder that keeps every trace that is done; more can be added later.")
    ] = None,
) -> None:
    """Say how good a detector is, beside what an engineer would use instead."""
    from training.evaluation.study import run_study
    from training.evaluation.tables import show

    for path in (as_json, html):
        if path is not None and path != Path("-"):
            if path in (*traces, *(clean or ()), *(annotated or ()), names):
                raise ConfigError(f"{path}: is one of the files to be read; the report would take its place")
            with disk_errors(path, "the report"):
                there = path.exists()
                path.open("a").close()
                if not there:
                    path.unlink()
    study = run_study(
        model,
        traces,
        names=names,
        source=source,
        loggers=loggers_of(logger),
        false_alarms_per_hour=false_alarms_per_hour,
        baselines=baselines,
        clean=clean or (),
        annotated=annotated or (),
        against=against,
        folder=resume,
    )
    text = json.dumps(study.report)
    if as_json == Path("-"):
        print(text)
    else:
        console = Console(width=max(shutil.get_terminal_size().columns, 160) if sys.stdout.isatty() else 200)
        show(console, study.report, kinds)
        if as_json is not None:
            with disk_errors(as_json, "the report"):
                as_json.write_text(text + "\n")
    if html is not None:
        from training.evaluation.document import document

        whole = document(study)
        with disk_errors(html, "the report"):
            html.write_text(whole, encoding="utf-8")
