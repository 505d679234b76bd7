"""Objectives of fine-tuning side by side, trained on the annotator's labels and judged by the truth too."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
from rich.table import Table

from ecustream.errors import InputError
from ecustream.progress import WorkProgress
from training.base import open_base
from training.effects import Effects, effects
from training.finetune import FinetuneSettings, finetune_model, sequence_length
from training.lora import open_model
from training.objectives import make_objective
from training.recipe import Recipe
from training.sharding import shard_clean, shard_labelled
from training.shards import Shards
from training.splits import split
from training.watch import Look, NothingGainedError

__all__ = ["ObjectiveRow", "compare_objectives", "render_objectives"]


class ObjectiveRow(msgspec.Struct, kw_only=True):
    """What one objective did; the first row is the model before.

    Attributes:
        objective: its name.
        steps: that the weights which counted best by validation were chosen from; 0 of weights as before,
            because clean traffic suffered at the first look.
        seconds: of training.
        stopped: what ended it.
        clean_nats: nats a token of clean traffic.
        annotated: lines that the annotator labelled, against all others, in the last 20 % of the traces.
        faulty: lines that are truly part of a fault, against all others.
        missed: those of them that the annotator did not label, against all others.
    """

    objective: str
    steps: int
    seconds: float
    stopped: str
    clean_nats: float
    annotated: Effects
    faulty: Effects
    missed: Effects


def compare_objectives(
    base: Path,
    traces: Sequence[Path],
    clean: Sequence[Path],
    objectives: Sequence[str],
    settings: FinetuneSettings,
    recipe: Recipe,
    work: Path,
    *,
    source: str | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> list[ObjectiveRow]:
    """Fine-tune the model of a bundle by each objective, from the same start on the same sequences.

    Args:
        base: the bundle.
        traces: with X.annotator.jsonl, which is trained on, and X.labels.jsonl, the truth, beside each.
        clean: traffic without anomalies.
        objectives: names.
        settings: of all; what ends training when clean traffic suffers applies.
        recipe: of all.
        work: folder for token shards.
        source: bus name to use instead of the traces' own.
        say: told each row as it is there.

    Raises:
        ConfigError: there is no such objective, before anything is trained.
        InputError: labels are missing, or there is too little traffic to measure effects on.
        EcustreamError: see `training.finetune.finetune_model`.
    """
    start = open_base(base)
    for objective in objectives:
        make_objective(objective, alpha=settings.alpha, margin_nats=settings.margin_nats)
    annotated = shard_labelled(start.traces(traces, source), start, work / "annotator", "annotator")
    faulty = shard_labelled(start.traces(traces, source), start, work / "labels", "labels")
    quiet = shard_clean(start.traces(clean, source), start.tokenizer, start.cycles_ns, work / "clean")
    parts = split(annotated)

    def row(
        objective: str, model: object, steps: int, seconds: float, stopped: str, nats: float
    ) -> ObjectiveRow:
        length = sequence_length(model, recipe)
        return ObjectiveRow(
            objective=objective,
            steps=steps,
            seconds=round(seconds, 1),
            stopped=stopped,
            clean_nats=round(nats, 4),
            annotated=effects(model, annotated, parts.test, length),
            faulty=effects(model, faulty, parts.test, length),
            missed=effects(model, _missed(annotated, faulty), parts.test, length),
        )

    model = open_model(base)
    quiet_parts = split(quiet).validation
    clean_nats = Look(quiet, quiet_parts, sequence_length(model, recipe)).loss(model, make_objective("mask"))
    before = row("(before)", model, 0, 0.0, "", clean_nats)
    rows = [before]
    for objective in objectives:
        try:
            with WorkProgress(objective, 1.0) as progress:
                tuned = finetune_model(
                    open_model(base),
                    annotated,
                    parts,
                    msgspec.structs.replace(settings, objective=objective),
                    recipe,
                    clean=(quiet, quiet_parts),
                    fields_of_tokens=start.tokenizer.fields_of_tokens(),
                    progress=lambda done, total, text: progress.update(done / total, text),
                )
        except NothingGainedError as error:
            # The weights before count, as where clean traffic ends the training later.
            rows.append(msgspec.structs.replace(before, objective=objective, stopped="clean traffic"))
            say(f"{objective}: {error}")
            continue
        outcome, nats = tuned.outcome, tuned.clean_nats_after
        rows.append(row(objective, tuned.model, outcome.steps, outcome.seconds, outcome.stopped, nats))
        say(f"{objective}: {outcome.steps} steps in {outcome.seconds:.0f} s, stopped by {outcome.stopped}")
    return rows


def _missed(annotated: Shards, faulty: Shards) -> Shards:
    if annotated.labelled is None or faulty.labelled is None:
        raise InputError(f"{annotated.folder}: there are no labels to compare lines by")
    return replace(faulty, labelled=faulty.labelled & ~annotated.labelled)


def render_objectives(rows: Sequence[ObjectiveRow]) -> Table:
    """The rows as a terminal table; nats a line, and average precision of lines ranked by surprisal."""
    table = Table(title="nats a line, and average precision (AP) of lines ranked by surprisal")
    for heading in (
        "objective",
        "clean nats/token",
        "other lines",
        "annotated",
        "AP",
        "faulty",
        "AP",
        "AP, delta",
        "missed by annotator",
        "AP",
        "steps",
        "s",
    ):
        table.add_column(heading, justify="left" if heading == "objective" else "right")
    for row in rows:
        table.add_row(
            row.objective,
            f"{row.clean_nats:.4f}",
            _text(row.faulty.unlabelled_nats_per_line),
            _text(row.annotated.labelled_nats_per_line),
            _text(row.annotated.average_precision),
            _text(row.faulty.labelled_nats_per_line),
            _text(row.faulty.average_precision),
            _text(row.faulty.delta_average_precision),
            _text(row.missed.labelled_nats_per_line),
            _text(row.missed.average_precision),
            f"{row.steps:,}",
            f"{row.seconds:.0f}",
        )
    if rows:
        table.add_row("(a random score)", *[""] * 3, *(_random(rows[0])))
    return table


def _random(row: ObjectiveRow) -> list[str]:
    """A random score's average precision is the share of labelled lines."""
    shares = [
        effect.labelled_lines / max(effect.labelled_lines + effect.unlabelled_lines, 1)
        for effect in (row.annotated, row.faulty, row.missed)
    ]
    return [f"{shares[0]:.3f}", "", f"{shares[1]:.3f}", f"{shares[1]:.3f}", "", f"{shares[2]:.3f}", "", ""]


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
