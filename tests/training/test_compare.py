"""Tokenizers and models side by side, on little traffic for few steps."""

import math
from pathlib import Path

import numpy as np
import pytest

from ecustream.decode.names import NameTable
from ecustream.errors import ConfigError
from tests.training.shards_for_tests import made_shards
from training.compare import Contender, by_frequencies, compare, parse_contender, render
from training.recipe import Recipe
from training.splits import Part, Split
from training.traces import Traces


def test_a_contender_is_read_and_named_alike() -> None:
    """Its window replaces that of the body."""
    assert parse_contender("bpe:0.3m:512") == Contender("bpe", "0.3m", 512)
    assert parse_contender("bpe:0.3m:512").sizes().window == 512
    assert parse_contender("row:2m").name == "row:2m"
    for text in ("bpe", "bpe:7b", "words:0.3m", "bpe:0.3m:1", "bpe:0.3m:x", "bpe:0.3m:4:4"):
        with pytest.raises(ConfigError, match=r"is not TOKENIZER:BODY|window must be a number"):
            parse_contender(text)


def test_every_contender_is_measured_on_the_same_lines(clean_trace: Path, tmp_path: Path) -> None:
    """Fields add up to the line, and what learned most of all knows more than frequencies of nothing do."""
    names = NameTable.load(clean_trace.with_suffix(".names.csv"))
    contenders = [parse_contender(t) for t in ("fields:0.3m:32", "group:0.3m:32", "fields:mamba2-0.3m")]
    told: list[str] = []
    rows, floor = compare(
        Traces([clean_trace], names),
        contenders,
        Recipe(batch=2, length=64, max_steps=3, max_seconds=None, evaluate_every=3),
        tmp_path,
        say=told.append,
    )
    assert [row.contender for row in rows] == [c.name for c in contenders] == [t.split(": ")[0] for t in told]
    for row in rows:
        assert row.test.per_line == pytest.approx(sum(row.test.per_field.values()))
        assert row.test.tokens_per_line == pytest.approx(2, abs=0.1)
        assert row.steps == 3
        assert row.flops > 0
    assert 3 < floor < 6 < rows[0].test.per_line
    assert "fields:mamba2-0.3m" in [str(cell) for cell in render(rows, floor).columns[0].cells]


def test_frequencies_are_those_of_the_training_part(tmp_path: Path) -> None:
    """The figure is the mean -log p(name) p(delta | name) of a plain count."""
    shards = made_shards(tmp_path / "shards", [600], 30, seed=3)
    parts = Split([Part(0, 400)], [], [Part(500, 600)])
    pairs = [
        tuple(shards.ids[shards.first_token[i] : shards.first_token[i + 1]].tolist()) for i in range(600)
    ]
    train, test = pairs[:400], pairs[500:]
    names = {name for name, _ in train}
    deltas = {delta for _, delta in train}
    all_names = 400 + sum(1.0 if t in names else 1e-3 for t in range(30))
    of_delta = sum(1.0 if t in deltas else 1e-3 for t in range(30))
    nats = []
    for name, delta in test:
        with_name = [d for n, d in train if n == name]
        p_name = (len(with_name) + (1.0 if name in names else 1e-3)) / all_names
        p_delta = (with_name.count(delta) + (1.0 if delta in deltas else 1e-3)) / (len(with_name) + of_delta)
        nats.append(-math.log(p_name * p_delta))
    assert by_frequencies(shards, parts) == pytest.approx(float(np.mean(nats)))
