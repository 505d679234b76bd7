"""The command `search`: Optuna looks for good settings of pre-training or of fine-tuning."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer
from rich.console import Console

from ecustream.decode.names import NameTable
from ecustream.errors import ConfigError
from training.options import Names, Seed, Set, Source

if TYPE_CHECKING:
    from training.study import Study

__all__ = ["search_command"]


def search_command(
    stage: Annotated[Literal["pretrain", "finetune"], typer.Argument(help="What is searched.")],
    traces: Annotated[list[Path], typer.Argument(help="Clean traces; for finetune, labelled ones.")],
    study: Annotated[Path, typer.Option(help="Folder of the study; what is in it goes on.")],
    trials: Annotated[int, typer.Option(min=1, help="Finished trials to have in the end.")] = 30,
    minutes: Annotated[float | None, typer.Option(help="No trial begins later than this.")] = None,
    budget_flops: Annotated[
        str, typer.Option(help="pretrain: floating-point operations that each trial may spend.", metavar="N")
    ] = "2e13",
    steps: Annotated[int, typer.Option(min=1, help="finetune: steps of each trial.")] = 100,
    model: Annotated[Path | None, typer.Option(help="finetune: folder of the bundle.")] = None,
    clean: Annotated[list[Path] | None, typer.Option(help="finetune: clean trace; repeatable.")] = None,
    labels: Annotated[
        Literal["annotator", "labels"], typer.Option(help="finetune: which labels beside the traces.")
    ] = "annotator",
    tokenizer: Annotated[
        str, typer.Option(help="pretrain: fields, bpe, bpe-binned, group or row.")
    ] = "fields",
    names: Names = None,
    source: Source = None,
    overrides: Set = None,
    seed: Seed = 0,
) -> None:
    """Search for settings: of context, size, learning rate and noise, or of objective, alpha, rank and rate.

    Every trial of `pretrain` spends --budget-flops, every one of `finetune` takes --steps.
    """
    from training.budget import parse_flops
    from training.search_report import render_study, study_sentence, write_study_report

    seconds = math.inf if minutes is None else 60 * minutes
    if stage == "pretrain":
        if model is not None or clean:
            raise ConfigError("search pretrain trains anew: --model and --clean are for finetune")
        table = None if names is None else NameTable.load(names)
        flops = parse_flops(budget_flops)
        found = _pretraining(
            traces, table, source, tokenizer, study, trials, seconds, flops, overrides or [], seed
        )
    elif model is None or not clean or names is not None:
        raise ConfigError("search finetune needs --model BUNDLE, which has the names, and --clean TRACE")
    else:
        found = _finetuning(
            traces, clean, model, labels, source, study, trials, seconds, steps, overrides or [], seed
        )
    Console().print(render_study(found))
    for path in write_study_report(found, study):
        print(path)
    print(study_sentence(found))


def _pretraining(
    traces: Sequence[Path],
    names: NameTable | None,
    source: str | None,
    kind: str,
    folder: Path,
    trials: int,
    seconds: float,
    flops: int,
    overrides: Sequence[str],
    seed: int,
) -> "Study":
    from training.assemble import learn, work_folder
    from training.bodies import BODIES
    from training.fit import learn_tokenizer
    from training.recipe import RECIPES
    from training.search import search_pretraining
    from training.settings import with_keys
    from training.sharding import shard_clean
    from training.splits import split_drives
    from training.traces import Traces

    made = with_keys(overrides, body=BODIES["0.3m"], recipe=RECIPES["default"])
    # As `pretrain` trains them.
    recipe = msgspec.structs.replace(made["recipe"], carried=made["body"].kind != "qwen2")
    read = Traces(traces, names, source=source)
    known = learn(read)
    with work_folder(None) as work:
        parts = split_drives(known.line_counts)
        tokenizer = learn_tokenizer(read, kind, known, parts.train)
        shards = shard_clean(read, tokenizer, known.cycles_ns, work / "shards")
        return search_pretraining(
            folder,
            shards,
            parts,
            flops,
            trials=trials,
            body=made["body"],
            recipe=recipe,
            seconds=seconds,
            seed=seed,
            say=print,
        )


def _finetuning(
    traces: Sequence[Path],
    clean: Sequence[Path],
    model: Path,
    labels: Literal["annotator", "labels"],
    source: str | None,
    folder: Path,
    trials: int,
    seconds: float,
    steps: int,
    overrides: Sequence[str],
    seed: int,
) -> "Study":
    from training.assemble import work_folder
    from training.base import open_base
    from training.finetune import SETTINGS
    from training.lora import open_model
    from training.release import FINETUNING
    from training.search import search_finetuning
    from training.settings import with_keys
    from training.sharding import shard_clean, shard_labelled
    from training.splits import split

    made = with_keys(overrides, finetune=msgspec.structs.replace(SETTINGS["default"]), recipe=FINETUNING)
    base = open_base(model)
    with work_folder(None) as work:
        shards = shard_labelled(base.traces(traces, source), base, work / "shards", labels)
        quiet = shard_clean(base.traces(clean, source), base.tokenizer, base.cycles_ns, work / "clean")
        return search_finetuning(
            folder,
            lambda: open_model(model),
            shards,
            split(shards),
            steps,
            trials=trials,
            settings=made["finetune"],
            recipe=made["recipe"],
            clean=(quiet, split(quiet).validation),
            fields_of_tokens=base.tokenizer.fields_of_tokens(),
            seconds=seconds,
            seed=seed,
            say=print,
        )
