"""From clean traces to a calibrated bundle: learn intervals, make shards, train, calibrate, write."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import msgspec

from ecustream.progress import WorkProgress
from ecustream.scoring.manifest import BundleInfo, refuse_foreign, write_bundle
from ecustream.scoring.tokenizer import LineTokenizer
from ecustream.traffic import Line
from training.assemble import (
    Knowledge,
    as_json,
    calibrated,
    checkpoint_of,
    learn,
    learn_known,
    opened,
    read_parts,
    save_bundle,
    work_folder,
)
from training.base import open_base
from training.bodies import BODIES, Body, check_body
from training.budget import Budget
from training.checkpoints import Checkpoints
from training.pretraining import Pretrained, pretrain
from training.recipe import RECIPES, Recipe, check_recipe
from training.sharding import shard_clean
from training.shards import open_shards
from training.splits import SHARES, Part, split, split_drives
from training.tokenizers import make_tokenizer
from training.traces import Traces
from training.trainer import process_state

__all__ = ["PAPER_SHARES", "FitSettings", "fit", "learn_tokenizer", "recalibrate"]

PAPER_SHARES = (0.8, 0.1, 0.1)
_ENOUGH_SECONDS = 15
_FEW_STEPS = 100

Say = Callable[[str], None]


class FitSettings(msgspec.Struct, kw_only=True):
    """What a bundle is made with.

    Attributes:
        tokenizer: one of `training.tokenizers.KINDS`.
        body: of the model.
        recipe: its training.
        shares: of the traffic that train, stop the training, and calibrate.
        by: each trace is split so, in this order, or whole traces are held out of the training.
    """

    tokenizer: str = "fields"
    body: Body = BODIES["0.3m"]
    recipe: Recipe = msgspec.field(default_factory=lambda: msgspec.structs.replace(RECIPES["default"]))
    shares: tuple[float, float, float] = SHARES
    by: Literal["time", "drive"] = "time"


def fit(
    traces: Traces,
    out: Path,
    settings: FitSettings,
    say: Say = lambda sentence: None,
    *,
    work: Path | None = None,
    resume: bool = False,
    budget: Budget | None = None,
) -> BundleInfo | None:
    """Make a bundle from clean traffic.

    Where several processes run this (torchrun), the first of them reads the traces and writes the bundle.

    Args:
        traces: clean traffic of one vehicle.
        out: the bundle's folder; replaced if it is a bundle.
        settings: see there.
        say: told what was found and what training will cost, sentence by sentence.
        work: keeps token shards and checkpoints, where several processes must all see them; None keeps none.
        resume: go on from the newest checkpoint in `work`.
        budget: of floating-point operations.

    Returns:
        What is in `bundle.json`; None in all processes but the first.

    Raises:
        InputError: there is no PDU or too little traffic in the traces, or one is damaged or has losses.
        ConfigError: the settings do not fit, or the budget does not cover one step.
        OutputError: `out` or `work` cannot be written.
    """
    processes = process_state()
    first = processes.is_main_process
    # What can be refused now is, not after hours of reading or training.
    check_recipe(settings.recipe, processes.num_processes)
    check_body(settings.body)
    refuse_foreign(out)
    if work is not None and not resume:
        Checkpoints(work / "checkpoints").refuse_others()
    with work_folder(work) as folder:
        known = learn(traces) if first else None
        if known is not None:
            cycles = known.cycles_ns
            say(
                f"{sum(known.line_counts):,} lines of {len(cycles)} PDUs, "
                f"{sum(cycle > 0 for cycle in cycles.values())} of them cyclic, "
                f"{known.intervals.lines_per_hour() / 3600:,.0f} lines/s"
            )
            train = split_drives(known.line_counts, settings.shares, settings.by).train
            tokenizer = learn_tokenizer(traces, settings.tokenizer, known, train)
            shard_clean(traces, tokenizer, known.cycles_ns, folder / "shards")
        processes.wait_for_everyone()
        shards = open_shards(folder / "shards")
        parts = split(shards, settings.shares, settings.by)
        try:
            with WorkProgress("training", 1000, shown=first) as progress:
                trained = pretrain(
                    shards,
                    parts,
                    settings.body,
                    settings.recipe,
                    work=folder if work else None,
                    resume=resume,
                    budget=budget,
                    progress=lambda done, total, text: progress.update(1000 * done / total, text),
                    say=say,
                )
        except KeyboardInterrupt:
            if first:
                say(_interrupted(work))
            raise
        if known is None:
            return None
        outcome = trained.outcome
        say(
            f"{outcome.steps} steps in {outcome.seconds:.0f} s, stopped by {outcome.stopped}: "
            f"{outcome.validation_nats_per_line:.3f} nats a line in validation "
            f"({outcome.validation_nats:.3f} a token, {outcome.train_nats:.3f} in training)"
        )
        if outcome.steps < _FEW_STEPS and outcome.stopped == "time":
            say("the model learned little in this time; intervals and deadlines judge alone: try --minutes")
        checkpoint = checkpoint_of(trained.model)
        network = opened(checkpoint, settings.body.window, shards, parts)
        calibration, seconds = calibrated(traces, known, tokenizer, known.cycles_ns, network, parts.test)
        say(f"calibrated on {seconds:.0f} s of traffic that the model was not trained on")
        if seconds < _ENOUGH_SECONDS:
            say("that is little: thresholds and deadlines stay wide until more clean traffic is given")
        info = save_bundle(
            out,
            traces,
            known,
            tokenizer,
            checkpoint,
            network,
            settings.body.window,
            len(shards.ids) / sum(known.line_counts),
            calibration,
            _provenance(settings, trained, budget),
        )
        say(f"{out}: {len(info.pdus)} PDUs, fingerprint {info.fingerprint}")
        return info


def recalibrate(traces: Traces, model: Path, out: Path) -> BundleInfo:
    """Write a bundle again with a calibration learned from other, or more, clean traffic.

    The last 20 % of each trace must not have been trained on; in traces that the model never saw that is
    so, in those that `fit` made it from as well.

    Args:
        traces: clean traffic of the vehicle that the bundle was made for.
        model: the bundle's folder.
        out: the new bundle's folder; may be the same.

    Raises:
        InputError: there is no PDU in a trace, or one that the bundle does not know.
        EcustreamError: the bundle cannot be read or written.
    """
    base = open_base(model)
    known = learn_known(traces, model, base.cycles_ns)
    last = split_drives(known.line_counts).test
    calibration, _ = calibrated(traces, known, base.tokenizer, base.cycles_ns, base.network, last)
    # Who judges the bundle must know that its thresholds come from these.
    learned = [{"name": path.name, "sha256": traces.sha256(path)} for path in traces.paths]
    info = msgspec.structs.replace(base.files.info, trained=base.files.info.trained | {"calibrated": learned})
    write_bundle(out, info, {**base.files.data, "calibration.json": as_json(calibration)})
    return info


def learn_tokenizer(traces: Traces, kind: str, known: Knowledge, parts: Sequence[Part]) -> LineTokenizer:
    """A tokenizer made from parts of the traces."""

    def batches() -> Iterator[Sequence[Line]]:
        return chain.from_iterable(read_parts(traces, "making the tokenizer", known, parts))

    return make_tokenizer(kind, known.cycles_ns, batches)


def _interrupted(work: Path | None) -> str:
    steps = [] if work is None else Checkpoints(work / "checkpoints").steps()
    if not steps:
        return "interrupted; nothing is kept of this training"
    return f"interrupted; --resume goes on from step {steps[-1]}"


def _provenance(settings: FitSettings, trained: Pretrained, budget: Budget | None) -> dict[str, Any]:
    outcome = trained.outcome
    return {
        "tokenizer": settings.tokenizer,
        "body": msgspec.to_builtins(settings.body),
        "recipe": msgspec.to_builtins(settings.recipe),
        "steps": outcome.steps,
        "tokens": outcome.tokens,
        "seconds": round(outcome.seconds, 1),
        "planned_flops": outcome.planned_flops,
        "flops": outcome.flops,
        "budget_flops": None if budget is None else budget.limit,
        "stopped": outcome.stopped,
        "train_nats": round(outcome.train_nats, 4),
        "validation_nats": round(outcome.validation_nats, 4),
        "validation_nats_per_line": round(outcome.validation_nats_per_line, 4),
    }
