"""The command `compare`: tokenizers and models, or objectives of fine-tuning, side by side."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from ecustream.decode.names import NameTable
from ecustream.errors import ConfigError
from training.options import Minutes, Names, Seed, Set, Source, Steps

__all__ = ["compare_command"]

_CONTENDERS = "fields:0.3m,bpe:0.3m,bpe-binned:0.3m,group:0.3m,row:0.3m,fields:mamba-0.3m,fields:mamba2-0.3m"


def compare_command(
    what: Annotated[Literal["models", "objectives"], typer.Argument(help="What is compared.")],
    traces: Annotated[list[Path], typer.Argument(help="Clean traces; for objectives, labelled ones.")],
    contenders: Annotated[
        str, typer.Option(help="models: TOKENIZER:BODY or TOKENIZER:BODY:WINDOW, separated by commas.")
    ] = _CONTENDERS,
    objectives: Annotated[
        str, typer.Option(help="objectives: their names, separated by commas.")
    ] = "ce,mask,paper,entropy,outlier_exposure,margin,contrastive",
    model: Annotated[Path | None, typer.Option(help="objectives: folder of the bundle.")] = None,
    clean: Annotated[list[Path] | None, typer.Option(help="objectives: clean trace; repeatable.")] = None,
    names: Names = None,
    source: Source = None,
    minutes: Minutes = None,
    steps: Steps = None,
    budget_flops: Annotated[
        str | None,
        typer.Option(
            help="models: operations that each may spend, such as 1e13, instead of minutes.", metavar="N"
        ),
    ] = None,
    overrides: Set = None,
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train contenders one after the other on the same traffic, and print what each reached."""
    from training.assemble import work_folder
    from training.budget import parse_flops
    from training.compare import compare, parse_contender, render
    from training.compare_objectives import compare_objectives, render_objectives
    from training.finetune import SETTINGS
    from training.fit_command import limited
    from training.recipe import RECIPES
    from training.release import FINETUNING
    from training.settings import with_keys
    from training.traces import Traces

    def say(sentence: str) -> None:
        print(sentence, file=sys.stderr)

    with work_folder(None) as work:
        if what == "models":
            if model is not None or clean:
                raise ConfigError("compare models trains anew: --model and --clean are for objectives")
            flops = None if budget_flops is None else parse_flops(budget_flops)
            recipe = limited(
                RECIPES["default"], 5.0 if minutes is None and steps is None else minutes, steps, seed
            )
            if steps is None:
                # Time alone ends what is compared by time, and FLOPs alone what is compared by them.
                recipe = msgspec.structs.replace(recipe, max_steps=1_000_000)
            if flops is not None and minutes is None:
                recipe.max_seconds = None
            made = with_keys(overrides or [], recipe=recipe)
            table = None if names is None else NameTable.load(names)
            rows, floor = compare(
                Traces(traces, table, source=source),
                [parse_contender(text) for text in contenders.split(",")],
                made["recipe"],
                work,
                budget_flops=flops,
                say=say,
            )
            _show({"rows": rows, "by_frequencies_nats_per_line": floor}, render(rows, floor), as_json)
            return
        if model is None or not clean or names is not None:
            raise ConfigError(
                "compare objectives needs --model BUNDLE, which has the names, and --clean TRACE"
            )
        recipe = limited(FINETUNING, minutes, 100 if steps is None and minutes is None else steps, seed)
        made = with_keys(
            overrides or [], finetune=msgspec.structs.replace(SETTINGS["default"]), recipe=recipe
        )
        tuned = compare_objectives(
            model,
            traces,
            clean,
            [name.strip() for name in objectives.split(",")],
            made["finetune"],
            made["recipe"],
            work,
            source=source,
            say=say,
        )
        _show({"rows": tuned}, render_objectives(tuned), as_json)


def _show(report: dict[str, Any], table: Table, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        Console(width=None if sys.stdout.isatty() else 200).print(table)
