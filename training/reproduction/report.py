"""What a reproduction found, beside what the paper says: sections of a page."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from training.budget import flops_text
from training.measures.page import Cell, Picture, Section, Table
from training.nats import Nats
from training.perturbation import LEVEL, Study
from training.perturbation_report import table as sensitivity_table
from training.reproduction import paper
from training.reproduction.plan import Entry, ObjectiveRun, PerturbRun, Plan, StartRun, TableKind
from training.reproduction.records import (
    Detected,
    Failed,
    Objective,
    Perturbed,
    Predicted,
    Record,
    Started,
    Verdict,
)
from training.reproduction.words import (
    DETECTING,
    LEAD,
    MODELS,
    MOVED,
    PROMPTS,
    SEEN,
    TOKENIZERS,
    TOKENIZERS_SAME_LINES,
)

__all__ = ["Report", "report"]

_PAPER_TOKENS = {"row": 1, "group": 2, "bpe": 50}


class Report(NamedTuple):
    """A report before it is written: its title, paragraphs before the first section, and sections."""

    title: str
    lead: str
    sections: list[Section]


def report(plan: Plan, records: Mapping[str, Record]) -> Report:
    """The report of a plan.

    Args:
        plan: what was asked for.
        records: of all its runs, by name; those that failed have rows without figures.

    Raises:
        KeyError: a run has no record.
    """
    return Report(
        f"The paper's experiments again, at scale {plan.scale}",
        _lead(plan, records),
        [
            _predictions("Table I: models", MODELS, "models", plan, records),
            _predictions("Table II: tokenizers", TOKENIZERS, "tokenizers", plan, records),
            _predictions(
                "Table II, with as many lines of context",
                TOKENIZERS_SAME_LINES,
                "tokenizers, same lines",
                plan,
                records,
            ),
            _predictions("Table III: prompt lengths", PROMPTS, "prompts", plan, records),
            _objectives(plan, records),
            _perturbations(plan, records),
            _seen(plan, records),
            _costs(plan, records),
        ],
    )


def _lead(plan: Plan, records: Mapping[str, Record]) -> str:
    every = [records[run.name] for run in plan.runs]
    machines = sorted({record.machine for record in every})
    software = sorted({f"ecustream {record.version}, {record.libraries}" for record in every})
    days = sorted({record.date for record in every})
    traffic = plan.traffic
    facts = (
        f"Run {' to '.join(dict.fromkeys((days[0], days[-1])))} (UTC) on {'; '.join(machines)}. Seed "
        f"{plan.seed}. With {'; '.join(software)}. {len(every)} runs took "
        f"{sum(record.seconds for record in every) / 60:.1f} minutes and "
        f"{flops_text(sum(record.flops for record in every))} of training.\n\n"
        f"Traffic is simulated: vehicle {traffic.preset}, seed {traffic.vehicle_seed}, "
        f"{len(traffic.clean_drives)} clean drives of {traffic.clean_seconds:g} s to train on (of each "
        f"the last fifth is measured on), one of {traffic.faulty_seconds:g} s with faults to fine-tune on, "
        f"two of {traffic.judged_seconds:g} s with faults to judge on, and a clean one as long for "
        "thresholds and for lines to move. Every training of tables I to III may spend "
        f"{flops_text(plan.budget_flops)} and {plan.most_seconds:g} s{_start_text(plan)}."
    )
    cut = [run.name for run in plan.runs if _cut_short(records[run.name])]
    if cut:
        facts += (
            f"\n\nTime ended {len(cut)} of the trainings before they had spent that ({', '.join(cut)}): "
            "between these and the others compare with care."
        )
    failed = [f"{name}: {r.result.reason}" for name, r in records.items() if isinstance(r.result, Failed)]
    if failed:
        facts += f"\n\nWithout a result: {'; '.join(failed)}."
    return f"{LEAD}\n\n{facts}"


def _start_text(plan: Plan) -> str:
    """What the bundle's training may spend."""
    return "".join(
        f", that of the model of table IV and figures 6 and 7 {flops_text(run.budget_flops)} and "
        f"{run.most_seconds:g} s"
        for run in plan.runs
        if isinstance(run, StartRun)
    )


def _cut_short(record: Record) -> bool:
    return isinstance(record.result, Predicted | Started) and record.result.stopped == "time"


def _predictions(
    heading: str, text: str, kind: TableKind, plan: Plan, records: Mapping[str, Record]
) -> Section:
    entries = [entry for entry in plan.entries if entry.table == kind]
    columns = (
        "variant",
        "the paper's",
        "ours",
        "tokens a line",
        "nats a line",
        "unknown lines, %",
        "parameters",
        "trained tokens",
        "time, s",
        "FLOPs",
    )
    rows = [_row(entry, records[entry.run]) for entry in entries]
    caption = (
        "Next-token accuracy and perplexity a token: the paper's of its own, private traffic, and ours of "
        "lines that were not trained on."
    )
    parts: list[Table | Picture] = [Table(caption, columns, rows)]
    said = [text, f"{_best(entries, records)}{_derived(entries)}".strip()]
    return Section(heading, "\n\n".join(said), parts)


def _row(entry: Entry, record: Record) -> list[Cell]:
    theirs = _theirs(entry)
    paper_says = None if theirs is None else _whole(f"{100 * theirs.accuracy:.2f} %, {theirs.perplexity:.2f}")
    found = _result(entry, record)
    if found is None:
        return [entry.variant, paper_says, *([None] * 6), record.seconds, "failed"]
    result, nats = found
    own = entry.read is None
    return [
        entry.variant,
        paper_says,
        _whole(f"{100 * nats.accuracy:.2f} %, {nats.perplexity:.3g}"),
        nats.tokens_per_line,
        nats.per_line,
        100 * result.unknown_lines_share,
        result.parameters,
        result.tokens,
        record.seconds if own else None,
        _whole(flops_text(record.flops) if own else "same model"),
    ]


def _result(entry: Entry, record: Record) -> tuple[Predicted, Nats] | None:
    """None where it failed."""
    result = record.result
    if not isinstance(result, Predicted):
        return None
    return result, result.test if entry.read is None else result.read[entry.read.tokens]


def _theirs(entry: Entry) -> paper.Predicting | None:
    if isinstance(entry.paper, int):
        return paper.PROMPTS.get(entry.paper)
    tables = paper.MODELS if entry.table == "models" else paper.TOKENIZERS
    return None if entry.paper is None else tables.get(entry.paper)


def _best(entries: Sequence[Entry], records: Mapping[str, Record]) -> str:
    found = {entry.variant: _result(entry, records[entry.run]) for entry in entries}
    nats = {variant: of[1] for variant, of in found.items() if of is not None}
    if not nats:
        return ""
    by_token = min(nats, key=lambda name: nats[name].perplexity)
    by_line = min(nats, key=lambda name: nats[name].per_line)
    if by_token == by_line:
        return f"Here {by_token} has both the lowest perplexity a token and the fewest nats a line."
    return (
        f"Here {by_token} has the lowest perplexity a token ({nats[by_token].perplexity:.3g}), but "
        f"{by_line} the fewest nats a line ({nats[by_line].per_line:.3g}; {by_token} has "
        f"{nats[by_token].per_line:.3g})."
    )


def _derived(entries: Sequence[Entry]) -> str:
    """The paper's own figures a line."""
    said = [
        f"{entry.paper} {tokens * math.log(theirs.perplexity):.2f}"
        for entry in entries
        if entry.table == "tokenizers"
        and (theirs := _theirs(entry)) is not None
        and (tokens := _PAPER_TOKENS.get(str(entry.paper)))
    ]
    return f" The paper's own figures in nats a line: {', '.join(said)}." if said else ""


def _objectives(plan: Plan, records: Mapping[str, Record]) -> Section:
    columns = (
        "objective",
        "perplexity",
        "rule's lines",
        "rule's regions",
        "true lines",
        "true regions",
        "clean lines told, %",
        "clean nats/token",
        "time, s",
        "FLOPs",
    )
    rows: list[list[Cell]] = []
    for name, theirs in paper.OBJECTIVES.items():
        pair = _whole(f"{theirs.recall:.2f} / {theirs.precision:.2f}")
        pairs = [None, pair] if "regions" in name else [pair, None]
        rows.append([f"paper: {name}", _whole("> 1.5, 3 lines"), *pairs, *([None] * 6)])
    for run in plan.runs:
        if not isinstance(run, ObjectiveRun):
            continue
        record = records[run.name]
        name = run.objective or "(before)"
        if isinstance(record.result, Objective):
            rows += [_told(name, record, one) for one in record.result.detected]
        else:
            rows.append([name, "failed", *([None] * 6), record.seconds, None])
    caption = (
        "Recall / precision of lines of two other drives with such a perplexity for so many lines, against "
        "labels by rule and true ones. Regions: "
        "lines at most 100 ms apart; by consecutive lines, as in the paper, every PDU in between would cut "
        "one in two. Clean lines told: of the drive that the thresholds come from. Clean nats/token: before "
        "and after fine-tuning."
    )
    tuning = plan.finetune
    text = (
        f"{DETECTING}\n\nFine-tuning: LoRA of rank {tuning.rank}, learning rate {tuning.learning_rate:g}, "
        f"alpha {tuning.alpha:g}, {plan.finetune_recipe.max_steps} steps, on labels by rule. The paper: rank "
        "64, 5e-05, 0.5."
    )
    return Section("Table IV: objectives of fine-tuning", text, [Table(caption, columns, rows)])


def _told(name: str, record: Record, one: Detected) -> list[Cell]:
    result = record.result
    assert isinstance(result, Objective)
    before, after = result.clean_nats_before, result.clean_nats_after
    # What a run took is said once, not with each of its filters.
    first = one is result.detected[0]
    return [
        name,
        _whole(one.rule),
        _recall_and_precision(one.annotated_lines),
        _recall_and_precision(one.annotated_regions),
        _recall_and_precision(one.true_lines),
        _recall_and_precision(one.true_regions),
        100 * one.clean_share,
        _whole(f"{before:.3f}, {after:.3f}") if first and before is not None and after is not None else None,
        record.seconds if first else None,
        _whole(flops_text(record.flops)) if first and record.flops else None,
    ]


def _recall_and_precision(verdict: Verdict) -> str:
    texts = ["–" if of is None else f"{of:.2f}" for of in (verdict.recall, verdict.precision)]
    return _whole(" / ".join(texts))


def _whole(text: str) -> str:
    """Text that no line of a table breaks."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _perturbations(plan: Plan, records: Mapping[str, Record]) -> Section:
    parts: list[Table | Picture] = []
    said = []
    for run in plan.runs:
        if isinstance(run, PerturbRun):
            record = records[run.name]
            if not isinstance(record.result, Perturbed):
                said.append(f"Moved by {run.sizes.unit}: failed.")
                continue
            parts += [sensitivity_table(record.result.study), *_pictures(record)]
            said.append(_reached(record.result.study))
    starts = [r.result for r in records.values() if isinstance(r.result, Started)]
    hours = sum(one.calibrated_hours for one in starts)
    if not starts:
        return Section("Figure 6: one line is moved", "\n\n".join([MOVED, *said]), parts)
    said.append(
        f"The detector's thresholds for the model come from {3600 * hours:.0f} s of clean traffic. That is "
        "far less than the hour for which they promise one false alarm, so they stand high."
        if hours < 1
        else f"The detector's thresholds for the model come from {hours:.1f} hours of clean traffic."
    )
    return Section("Figure 6: one line is moved", "\n\n".join([MOVED, *said]), parts)


def _reached(study: Study) -> str:
    unit = study.sizes.unit
    texts = [
        f"{one.detector} " + ("not at all" if one.size is None else f"from {one.size:.3g} {unit}")
        for one in study.sensitivities
    ]
    return f"Moved by {unit}, {LEVEL:.0%} of {study.places} places are noticed by: {'; '.join(texts)}."


def _seen(plan: Plan, records: Mapping[str, Record]) -> Section:
    pictures = [
        picture
        for run in plan.runs
        if isinstance(run, ObjectiveRun)
        for picture in _pictures(records[run.name])
    ]
    return Section("Figure 7: what is detected", SEEN, pictures)


def _pictures(record: Record) -> list[Picture]:
    return [Picture(svg, caption) for caption, svg in record.pictures]


def _costs(plan: Plan, records: Mapping[str, Record]) -> Section:
    rows: list[list[Cell]] = [
        [
            run.name,
            record.seconds,
            record.training_seconds if record.flops else None,
            flops_text(record.flops) if record.flops else None,
            flops_text(round(record.flops / record.training_seconds)) if record.training_seconds else None,
            record.machine,
            record.date,
        ]
        for run in plan.runs
        for record in (records[run.name],)
    ]
    columns = ("run", "wall time, s", "of it training, s", "FLOPs", "FLOPs a second", "machine", "date")
    text = (
        "A run that several tables show was made once. FLOPs are those of training, forward and backward: "
        "matrix products, convolutions and attention. Wall time is also of what the run was the first to "
        "need, such as traffic, a tokenizer or shards."
    )
    return Section("What each run cost", text, [Table("Runs in their order.", columns, rows)])
