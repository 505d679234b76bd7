"""The plans: `tiny` for tests, `cpu` within an hour on two cores, `gpu` within twenty minutes on an H200.

The paper's tables vary several things at a time: the pair 97.03 % / 1.53 is its "Qwen-0.4B", its "group"
tokenizer and its "prompt 1024". Here every table varies one thing from one model in the middle, and every
training may spend the same FLOPs.
"""

import msgspec

from ecustream.errors import ConfigError
from training.bodies import BODIES, Body
from training.finetune import FinetuneSettings
from training.perturbation import Sizes
from training.recipe import Recipe
from training.release import FINETUNING
from training.reproduction import paper
from training.reproduction.plan import (
    Context,
    Entry,
    ObjectiveRun,
    PerturbRun,
    Plan,
    PredictRun,
    Run,
    StartRun,
    TrafficPlan,
)

__all__ = ["OBJECTIVES", "SCALES", "plan_of"]

OBJECTIVES = ("contrastive", "entropy", "paper", "mask", "ce")
_LINE_TOKENS = 50
"""Of `bpe`, as the paper says; what windows of as many lines are made from."""


class _Scale(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between scales; `bodies` are the paper's three in its order."""

    traffic: TrafficPlan
    bodies: tuple[tuple[str, Body], ...]
    contexts: tuple[int, ...]
    middle: int
    budget_flops: int
    most_seconds: float
    tokens_per_step: int
    test_tokens: int
    start: Body
    start_budget_flops: int
    start_seconds: float
    start_tokenizer: str = "fields"
    recipe: Recipe
    rank: int
    finetune_steps: int
    finetune_rate: float
    objectives: tuple[str, ...] = OBJECTIVES
    places: int
    sizes_ms: tuple[float, ...] = (0, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)
    sizes_lines: tuple[float, ...] = (0, 1, 2, 5, 10, 20, 50, 100, 200, 1000)


_TINY = Body(hidden=16, layers=1, heads=2, inner=32, window=64)
_RECIPE = Recipe(
    mask_tokens=0.0, drop_lines=0.0, weight_decay=0.1, evaluate_every=100, patience=None, save_every=10_000
)

SCALES: dict[str, _Scale] = {
    "tiny": _Scale(
        traffic=TrafficPlan(
            preset="bench",
            vehicle_seed=0,
            clean_seconds=12,
            clean_drives=(201, 202),
            faulty_seconds=20,
            judged_seconds=25,
        ),
        bodies=(
            ("Mamba", Body(kind="mamba", hidden=16, layers=1)),
            ("Qwen, small", _TINY),
            ("Qwen, large", msgspec.structs.replace(_TINY, hidden=32)),
        ),
        contexts=(64, 128, 256),
        middle=128,
        budget_flops=2 * 10**9,
        most_seconds=20,
        tokens_per_step=512,
        test_tokens=20_000,
        start=_TINY,
        start_budget_flops=2 * 10**9,
        start_seconds=20,
        recipe=msgspec.structs.replace(_RECIPE, warmup_steps=2, evaluate_every=10),
        rank=4,
        finetune_steps=3,
        finetune_rate=5e-5,
        objectives=("contrastive", "entropy"),
        places=12,
        sizes_ms=(0, 5, 200),
        sizes_lines=(0, 5, 100),
    ),
    "cpu": _Scale(
        traffic=TrafficPlan(
            preset="bench",
            vehicle_seed=0,
            clean_seconds=300,
            clean_drives=(201, 202),
            faulty_seconds=120,
            judged_seconds=120,
        ),
        bodies=(
            ("Mamba-0.3M", BODIES["mamba-0.3m"]),
            ("Qwen-0.3M", BODIES["0.3m"]),
            ("Qwen-1M", BODIES["1m"]),
        ),
        contexts=(128, 256, 512, 1024),
        middle=512,
        budget_flops=8 * 10**12,
        most_seconds=160,
        tokens_per_step=4096,
        test_tokens=200_000,
        start=BODIES["0.3m"],
        start_budget_flops=20 * 10**12,
        start_seconds=360,
        recipe=_RECIPE,
        rank=16,
        finetune_steps=60,
        finetune_rate=5e-4,
        places=300,
    ),
    "gpu": _Scale(
        traffic=TrafficPlan(
            preset="hcp",
            vehicle_seed=0,
            clean_seconds=150,
            clean_drives=(201, 202),
            faulty_seconds=120,
            judged_seconds=120,
        ),
        bodies=(
            ("Mamba-130M", BODIES["mamba-130m"]),
            ("Qwen-0.4B", BODIES["0.4b"]),
            ("Qwen-1.3B", BODIES["1.3b"]),
        ),
        contexts=(256, 512, 1024, 4096),
        middle=1024,
        budget_flops=8 * 10**15,
        most_seconds=60,
        tokens_per_step=16_384,
        test_tokens=400_000,
        start=BODIES["25m"],
        start_budget_flops=8 * 10**15,
        start_seconds=60,
        recipe=msgspec.structs.replace(
            _RECIPE,
            precision="bfloat16",
            accumulation=2,
            learning_rate=5e-4,
            warmup_steps=10,
            evaluate_every=50,
        ),
        rank=64,
        finetune_steps=100,
        finetune_rate=5e-5,
        places=300,
    ),
}
"""What makes the plans; `python -m training reproduce --scale`."""


def plan_of(scale: str, seed: int = 0) -> Plan:
    """The plan of a scale.

    Raises:
        ConfigError: there is no such scale, or no such seed.
    """
    if seed < 0:
        raise ConfigError(f"seed is {seed}, but must be 0 at least")
    if scale not in SCALES:
        raise ConfigError(f"there is no scale {scale!r}, only {', '.join(SCALES)}")
    made = SCALES[scale]
    runs, entries = _predictions(made)
    runs += [
        StartRun(
            name="start",
            tokenizer=made.start_tokenizer,
            body=made.start,
            budget_flops=made.start_budget_flops,
            most_seconds=made.start_seconds,
        ),
        ObjectiveRun(name="objective-none", objective=None),
        *(ObjectiveRun(name=f"objective-{name}", objective=name) for name in made.objectives),
        PerturbRun(name="perturb-ms", sizes=Sizes("ms", made.sizes_ms), places=made.places),
        PerturbRun(name="perturb-lines", sizes=Sizes("lines", made.sizes_lines), places=made.places),
    ]
    return Plan(
        scale=scale,
        seed=seed,
        traffic=made.traffic,
        budget_flops=made.budget_flops,
        most_seconds=made.most_seconds,
        tokens_per_step=made.tokens_per_step,
        test_tokens=made.test_tokens,
        recipe=msgspec.structs.replace(made.recipe, seed=seed),
        finetune=FinetuneSettings(
            rank=made.rank, lora_alpha=made.rank, learning_rate=made.finetune_rate, max_clean_rise=None
        ),
        finetune_recipe=msgspec.structs.replace(
            FINETUNING, max_steps=made.finetune_steps, max_seconds=made.most_seconds, seed=seed
        ),
        runs=tuple(runs),
        entries=tuple(entries),
    )


def _predictions(made: _Scale) -> tuple[list[Run], list[Entry]]:
    """Tables I to III: each run once, however many tables show it."""
    runs: dict[str, PredictRun] = {}
    entries: list[Entry] = []
    small_name, small = made.bodies[1]
    longest = max(made.contexts)

    def run(label: str, tokenizer: str, body: Body, context: int) -> str:
        name = f"{tokenizer}-{label}-{context}".lower().replace(" ", "").replace(",", "-")
        if body.kind == "qwen2":
            body = msgspec.structs.replace(body, attention="full", window=context)
        # The longest context is where the others can be read with the same weights.
        others = tuple(c for c in made.contexts if c < longest)
        also = others if (tokenizer, label, context) == ("bpe", small_name, longest) else ()
        runs[name] = PredictRun(name=name, tokenizer=tokenizer, body=body, context=context, also_read=also)
        return name

    for theirs, (label, body) in zip(paper.MODELS, made.bodies, strict=True):
        entries.append(
            Entry(table="models", variant=label, run=run(label, "bpe", body, made.middle), paper=theirs)
        )
    entries += [
        Entry(
            table="tokenizers",
            variant=tokenizer,
            run=run(small_name, tokenizer, small, made.middle),
            paper=tokenizer if tokenizer in paper.TOKENIZERS else None,
        )
        for tokenizer in ("row", "group", "bpe", "fields", "bpe-binned")
    ]
    # An even number, so that the second half of a window, which is measured, is of whole lines.
    lines = longest // (2 * _LINE_TOKENS) * 2
    entries += [
        Entry(
            table="tokenizers, same lines",
            variant=f"{tokenizer}, {context} tokens",
            run=run(small_name, tokenizer, small, context),
            paper=tokenizer,
        )
        for tokenizer, context in (("row", lines), ("group", 2 * lines), ("bpe", longest))
    ]
    entries += [
        Entry(
            table="prompts",
            variant=f"{context} tokens",
            run=run(small_name, "bpe", small, context),
            paper=context if context in paper.PROMPTS else None,
        )
        for context in made.contexts
    ]
    entries += [
        Entry(
            table="prompts",
            variant=f"{longest}, reading {context}",
            run=run(small_name, "bpe", small, longest),
            read=Context(context),
        )
        for context in made.contexts[:-1]
    ]
    return list(runs.values()), entries
