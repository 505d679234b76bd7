"""Runs of table IV and figure 7: one bundle's model, fine-tuned by an objective and judged on faults."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from ecustream.knowledge import calibration_of
from training.assemble import checkpoint_of, opened
from training.base import Base, open_base
from training.bodies import Body
from training.budget import Budget
from training.finetune import Finetuned, finetune_model
from training.fit import FitSettings, fit
from training.labels import beside, read_labels
from training.lora import open_model
from training.measures.intervals import runs
from training.measures.score_plot import ScoredTrace, plot_scores
from training.metrics import Span
from training.recipe import RECIPES, Recipe
from training.reproduction.plan import ObjectiveRun, Plan, StartRun
from training.reproduction.predicting import recipe_for
from training.reproduction.records import Detected, Objective, Started
from training.reproduction.stage import Stage
from training.reproduction.verdicts import Lines, detect, held, read_judged, read_lines
from training.sharding import shard_clean, shard_labelled
from training.shards import Shards
from training.splits import split

__all__ = ["Judgement", "judge_objective", "start"]

_CROP_WINDOWS = 4
_JOIN_NS = 500_000_000
_SHOWN = "entropy"


class Judgement(NamedTuple):
    """What an objective did, FLOPs and seconds of its fine-tuning, and figure 7 where it is that one."""

    result: Objective
    flops: int
    seconds: float
    pictures: list[tuple[str, str]]


def start(stage: Stage, run: StartRun) -> tuple[Started, int, float]:
    """Make the bundle; returns also FLOPs and seconds of its training.

    Raises:
        EcustreamError: see `training.fit.fit`.
    """
    recipe = msgspec.structs.replace(_recipe(stage.plan, run.body), max_seconds=run.most_seconds)
    settings = FitSettings(tokenizer=run.tokenizer, body=run.body, recipe=recipe)
    info = fit(stage.clean, stage.bundle, settings, budget=Budget(run.budget_flops))
    if info is None:
        raise RuntimeError("a reproduction runs in one process")
    trained = info.trained
    hours = _calibration_hours(stage.bundle)
    result = Started(
        fingerprint=info.fingerprint,
        steps=trained["steps"],
        stopped=trained["stopped"],
        nats_per_line=trained["validation_nats_per_line"],
        calibrated_hours=hours,
    )
    return result, trained["flops"], trained["seconds"]


def judge_objective(stage: Stage, run: ObjectiveRun) -> Judgement:
    """Fine-tune on the annotator's labels and tell lines of other drives.

    Raises:
        EcustreamError: see `training.finetune.finetune_model`.
    """
    base = open_base(stage.bundle)
    traffic = stage.traffic
    network, steps, flops, seconds = base.network, 0, 0, 0.0
    before = after = None
    if run.objective is not None:
        tuned = _finetuned(stage, base, run.objective)
        quiet = _clean_shards(stage, base)
        network = opened(checkpoint_of(tuned.model), base.files.info.window_tokens, quiet, split(quiet))
        steps, flops, seconds = tuned.outcome.steps, tuned.outcome.flops, tuned.outcome.seconds
        before, after = tuned.clean_nats_before, tuned.clean_nats_after
    clean = read_lines(base, network, traffic.quiet)
    judged = read_judged(base, network, traffic.judged)
    detected = detect(clean, judged)
    pictures = []
    if run.objective == _SHOWN:
        pictures = [
            (
                f"Figure 7, {name}: fine-tuned by {_SHOWN}, told is perplexity {detected[-1].rule}",
                _picture(name, path, pieces, detected[-1]),
            )
            for (name, path), pieces in zip(traffic.judged.items(), judged.values(), strict=True)
        ]
    result = Objective(steps=steps, clean_nats_before=before, clean_nats_after=after, detected=detected)
    return Judgement(result, flops, seconds, pictures)


def _recipe(plan: Plan, body: Body) -> Recipe:
    recipe = recipe_for(plan, body, body.window * _CROP_WINDOWS)
    served = RECIPES["default"]
    # As a bundle that is served: without this a model learns the few minutes that it has by heart.
    return msgspec.structs.replace(
        recipe,
        crop_windows=_CROP_WINDOWS,
        mask_tokens=served.mask_tokens,
        drop_lines=served.drop_lines,
        weight_decay=served.weight_decay,
    )


def _finetuned(stage: Stage, base: Base, objective: str) -> Finetuned:
    quiet = _clean_shards(stage, base)
    faulty = base.traces([stage.traffic.faulty])
    shards = shard_labelled(faulty, base, stage.folder / "shards" / "faulty", "annotator")
    return finetune_model(
        open_model(stage.bundle),
        shards,
        split(shards),
        msgspec.structs.replace(stage.plan.finetune, objective=objective),
        stage.plan.finetune_recipe,
        clean=(quiet, split(quiet).validation),
        fields_of_tokens=base.tokenizer.fields_of_tokens(),
    )


def _clean_shards(stage: Stage, base: Base) -> Shards:
    return shard_clean(stage.clean, base.tokenizer, base.cycles_ns, stage.folder / "shards" / "start")


def _calibration_hours(bundle: Path) -> float:
    return calibration_of(open_base(bundle).files).model_peaks.hours


def _picture(name: str, path: Path, pieces: Sequence[Lines], rule: Detected) -> str:
    times = np.maximum.accumulate(np.concatenate([piece.time_ns for piece in pieces]))
    scores = np.concatenate([held(piece.perplexity, rule.width) for piece in pieces])
    told = runs(times, scores > rule.threshold, _JOIN_NS)
    episodes = [
        Span(start, end, start)
        for start, end in zip(told.starts_ns.tolist(), told.ends_ns.tolist(), strict=True)
    ]
    lowest = float(scores[np.isfinite(scores)].min(initial=1.0))
    trace = ScoredTrace(
        times, np.where(np.isfinite(scores), scores, lowest), read_labels(beside(path, "labels"))
    )
    return plot_scores(f"Detected: {name}", trace, episodes, rule.threshold, "perplexity")
