"""Runs of tables I to III: a model from nothing, and what it predicts of traffic that it has not seen."""

import msgspec

from ecustream.progress import WorkProgress
from training.bodies import Body
from training.budget import Budget
from training.nats import Nats, measure
from training.pretraining import pretrain
from training.recipe import Recipe
from training.reproduction.plan import Plan, PredictRun
from training.reproduction.records import Predicted
from training.reproduction.stage import Stage

__all__ = ["predict", "recipe_for"]

_NO_END = 1_000_000


def recipe_for(plan: Plan, body: Body, sequence_tokens: int) -> Recipe:
    """The plan's recipe for one body: as many tokens a step, whatever the length of a sequence."""
    micro = plan.recipe.accumulation
    return msgspec.structs.replace(
        plan.recipe,
        batch=max(1, plan.tokens_per_step // sequence_tokens // micro) * micro,
        length=sequence_tokens,
        crop_windows=1,
        carried=body.kind != "qwen2",
        # The budget ends it, and time where a machine is slower than was thought.
        max_steps=_NO_END,
        max_seconds=plan.most_seconds,
    )


def predict(stage: Stage, run: PredictRun) -> tuple[Predicted, int, float]:
    """Train and measure.

    Returns:
        What it predicts, FLOPs of training, and its seconds.

    Raises:
        InputError: there is too little traffic.
        ConfigError: the body cannot be, or training diverges.
    """
    plan = stage.plan
    shards, unknown = stage.shards(run.tokenizer)
    recipe = recipe_for(plan, run.body, run.context)
    with WorkProgress("training", 1000) as progress:
        trained = pretrain(
            shards,
            stage.parts,
            run.body,
            recipe,
            budget=Budget(plan.budget_flops),
            progress=lambda done, total, text: progress.update(1000 * done / total, text),
        )
    outcome = trained.outcome

    def unseen(context: int) -> Nats:
        return measure(trained.model, shards, stage.parts.test, context, most_tokens=plan.test_tokens)

    result = Predicted(
        vocabulary=shards.vocabulary,
        unknown_lines_share=unknown,
        parameters=sum(parameter.numel() for parameter in trained.model.parameters()),
        steps=outcome.steps,
        tokens=outcome.tokens,
        stopped=outcome.stopped,
        test=unseen(run.context),
        read={context: unseen(context) for context in run.also_read},
    )
    return result, outcome.flops, outcome.seconds
