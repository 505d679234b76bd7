"""A plan with one run of each kind."""

import msgspec

from training.reproduction.plan import Plan, PredictRun, StartRun, TableKind
from training.reproduction.scales import plan_of

__all__ = ["little", "little_entries"]


def little() -> Plan:
    """One run of each kind; tables of what they need."""
    plan = plan_of("tiny")
    names = ("bpe-qwen-small-256", "row-qwen-small-128", "start", "objective-entropy", "perturb-lines")
    entries = tuple(entry for entry in plan.entries if entry.run in names)
    return msgspec.structs.replace(
        plan,
        runs=tuple(
            msgspec.structs.replace(run, budget_flops=4 * 10**8) if isinstance(run, StartRun) else run
            for run in plan.runs
            if run.name in names
        ),
        entries=entries,
        budget_flops=4 * 10**8,
        traffic=msgspec.structs.replace(plan.traffic, judged_seconds=18.0),
    )


def little_entries() -> Plan:
    """The little plan with a row in every table."""
    plan = little()
    tables: tuple[TableKind, ...] = ("models", "tokenizers", "tokenizers, same lines", "prompts")
    entries = tuple(
        msgspec.structs.replace(plan.entries[0], table=table, run=run.name, variant=run.name, read=None)
        for table in tables
        for run in plan.runs
        if isinstance(run, PredictRun)
    )
    return msgspec.structs.replace(plan, entries=entries)
