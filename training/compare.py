"""Tokenizers and models side by side on the same traffic, each trained for the same time or FLOPs.

A tokenizer decides into how many tokens a line falls, so nats and perplexity a token of two tokenizers
say nothing about each other. What can be compared is nats a line, and only between those that write down
the same content: `fields`, `bpe-binned`, `group` and `row` do; `bpe` writes every microsecond of the delta
time, which costs nats that the others do not pay. A line of a combination that `group` or `row` never saw
is one unknown token, which costs them less than what it hides: look at their share of unknown lines.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from rich.table import Table

from ecustream.errors import ConfigError
from ecustream.progress import WorkProgress
from ecustream.scores import FIELDS
from training.assemble import learn, read_parts
from training.bodies import BODIES, Body
from training.budget import Budget, flops_text
from training.fit import learn_tokenizer
from training.nats import Nats, measure
from training.pretraining import pretrain
from training.recipe import Recipe, crop_length
from training.sharding import shard_clean
from training.shards import Shards
from training.splits import Part, Split, split_drives
from training.tokenizers import KINDS, describe
from training.traces import Traces

__all__ = ["Contender", "Row", "by_frequencies", "compare", "parse_contender", "render"]

_TEST_TOKENS = 400_000

Counts = npt.NDArray[np.int64]


class Contender(msgspec.Struct, frozen=True):
    """A tokenizer, and a body by its name in `BODIES`, with another window if one is given."""

    tokenizer: str
    body: str
    window: int | None = None

    @property
    def name(self) -> str:
        """As `parse_contender` reads it."""
        return ":".join([self.tokenizer, self.body, *([] if self.window is None else [str(self.window)])])

    def sizes(self) -> Body:
        """The body, with the window."""
        body = BODIES[self.body]
        return body if self.window is None else msgspec.structs.replace(body, window=self.window)


class Row(msgspec.Struct, kw_only=True):
    """A contender's figures; `test` are those of the last 20 % of each trace."""

    contender: str
    vocabulary: int
    unknown_lines_share: float
    parameters: int
    steps: int
    seconds: float
    flops: int
    stopped: str
    lines_per_second: float
    test: Nats


def parse_contender(text: str) -> Contender:
    """A contender from `TOKENIZER:BODY` or `TOKENIZER:BODY:WINDOW`.

    Raises:
        ConfigError: there is no such tokenizer or body, or the window is no number.
    """
    parts = text.split(":")
    if len(parts) not in (2, 3) or parts[0] not in KINDS or parts[1] not in BODIES:
        raise ConfigError(
            f"contender {text!r} is not TOKENIZER:BODY or TOKENIZER:BODY:WINDOW; tokenizers are "
            f"{', '.join(KINDS)}, bodies {', '.join(BODIES)}"
        )
    if len(parts) == 2:
        return Contender(parts[0], parts[1])
    if not parts[2].isdecimal() or int(parts[2]) < 2:
        raise ConfigError(f"contender {text!r}: the window must be a number of tokens, 2 at least")
    return Contender(parts[0], parts[1], int(parts[2]))


def compare(
    traces: Traces,
    contenders: Sequence[Contender],
    recipe: Recipe,
    work: Path,
    *,
    budget_flops: int | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> tuple[list[Row], float]:
    """Train every contender by one recipe on the same part of the traffic, and measure it on the last part.

    Args:
        traces: clean traffic.
        contenders: recurrent ones carry their state from sequence to sequence.
        recipe: of all.
        work: folder for token shards.
        budget_flops: each may spend so many.
        say: told each row as it is there.

    Returns:
        A row for each contender, and the nats a line of the same traffic by frequencies alone (how often each
        PDU comes, and how often each of its delta times); nan where no contender is of `fields`.

    Raises:
        InputError: there is too little traffic, or a training diverges.
    """
    known = learn(traces)
    parts = split_drives(known.line_counts)
    floor = math.nan
    rows = []
    made: dict[str, tuple[Shards, float]] = {}
    for contender in contenders:
        if contender.tokenizer not in made:
            tokenizer = learn_tokenizer(traces, contender.tokenizer, known, parts.train)
            shards = shard_clean(traces, tokenizer, known.cycles_ns, work / contender.tokenizer)
            last = read_parts(traces, "reading", known, parts.test)
            made[contender.tokenizer] = shards, describe(tokenizer, last).unknown_lines_share
            if contender.tokenizer == "fields":
                floor = by_frequencies(shards, parts)
        rows.append(_train(contender, *made[contender.tokenizer], parts, recipe, budget_flops))
        say(_sentence(rows[-1]))
    return rows, floor


def _train(
    contender: Contender,
    shards: Shards,
    unknown: float,
    parts: Split,
    recipe: Recipe,
    budget_flops: int | None,
) -> Row:
    body = contender.sizes()
    recipe = msgspec.structs.replace(recipe, carried=body.kind != "qwen2")
    started = time.monotonic()
    with WorkProgress(contender.name, 1.0) as progress:
        trained = pretrain(
            shards,
            parts,
            body,
            recipe,
            budget=None if budget_flops is None else Budget(budget_flops),
            progress=lambda done, total, text: progress.update(done / total, text),
        )
    outcome = trained.outcome
    return Row(
        contender=contender.name,
        vocabulary=shards.vocabulary,
        unknown_lines_share=unknown,
        parameters=sum(p.numel() for p in trained.model.parameters()),
        steps=outcome.steps,
        seconds=round(time.monotonic() - started, 1),
        flops=outcome.flops,
        stopped=outcome.stopped,
        lines_per_second=round(outcome.lines / outcome.seconds, 1),
        test=measure(trained.model, shards, parts.test, crop_length(body, recipe), most_tokens=_TEST_TOKENS),
    )


def by_frequencies(shards: Shards, parts: Split) -> float:
    """Nats a line of the test part where a name is as likely as it was frequent, and a delta as in its PDU.

    Counted over the training part of `fields` tokens, where one is added to what occurred and a thousandth to
    what did not.
    """
    size = shards.vocabulary
    names, deltas = _names_and_deltas(shards, parts.train)
    of_name, of_delta = np.bincount(names, minlength=size), np.bincount(deltas, minlength=size)
    pairs = np.bincount(names * size + deltas, minlength=size * size).reshape(size, size)
    name_counts = of_name + _prior(of_name)
    pair_counts = pairs + _prior(of_delta)
    names, deltas = _names_and_deltas(shards, parts.test)
    name_nats = -np.log(name_counts / name_counts.sum())[names]
    delta_nats = -np.log(pair_counts / pair_counts.sum(axis=1, keepdims=True))[names, deltas]
    return float((name_nats + delta_nats).mean())


def _prior(counts: Counts) -> npt.NDArray[np.float64]:
    return np.where(counts > 0, 1.0, 1e-3)


def _names_and_deltas(shards: Shards, parts: Sequence[Part]) -> tuple[Counts, Counts]:
    tokens = np.concatenate(
        [np.arange(shards.first_token[p.first_line], shards.first_token[p.stop_line]) for p in parts]
    )
    fields, ids = shards.fields[tokens], shards.ids[tokens].astype(np.int64)
    return ids[fields == FIELDS.index("pduName")], ids[fields == FIELDS.index("deltaTime")]


def _sentence(row: Row) -> str:
    test = row.test
    return (
        f"{row.contender}: {test.per_line:.3f} nats a line, {test.tokens_per_line:.1f} tokens a line, "
        f"{row.steps} steps in {row.seconds:.0f} s"
    )


def render(rows: Sequence[Row], by_frequencies: float) -> Table:
    """The rows as a terminal table."""
    caption = (
        None if math.isnan(by_frequencies) else f"by frequencies alone: {by_frequencies:.3f} nats a line"
    )
    table = Table(caption=caption, caption_justify="left")
    table.add_column("tokenizer:body", no_wrap=True)
    headings = (
        "vocabulary",
        "unknown lines",
        "parameters",
        "tokens/line",
        "nats/line",
        *FIELDS,
        "perplexity/token",
        "accuracy",
        "steps",
        "FLOPs",
        "lines/s in training",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        test = row.test
        table.add_row(
            row.contender,
            f"{row.vocabulary:,}",
            f"{100 * row.unknown_lines_share:.2f} %",
            f"{row.parameters:,}",
            f"{test.tokens_per_line:.1f}",
            f"{test.per_line:.3f}",
            *(f"{test.per_field[field]:.3f}" for field in FIELDS),
            f"{test.perplexity:.3f}",
            f"{100 * test.accuracy:.2f} %",
            f"{row.steps:,}",
            flops_text(row.flops),
            f"{row.lines_per_second:,.0f}",
        )
    return table
