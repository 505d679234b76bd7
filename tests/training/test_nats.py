"""Nats of a model on traffic, against a plain loop over windows and fields."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ecustream.errors import InputError
from ecustream.scores import FIELDS
from tests.training.tiny_shards import VOCABULARY, tiny_shards
from training.bodies import Body, new_model
from training.nats import measure
from training.shards import Shards
from training.splits import Part

LENGTH = 32


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    made = new_model(Body(hidden=16, layers=1, heads=2, inner=32, window=8), VOCABULARY)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(5)
    return made


def plain(model: Any, shards: Shards, parts: list[Part]) -> dict[str, Any]:
    """All windows, one at a time, token by token."""
    nats, hits, lines = {0: 0.0, 1: 0.0, 2: 0.0}, 0, 0
    tokens = 0
    firsts = set(shards.first_token.tolist())
    for part in parts:
        start, stop = int(shards.first_token[part.first_line]), int(shards.first_token[part.stop_line])
        while start + LENGTH <= stop:
            ids = torch.from_numpy(shards.ids[start : start + LENGTH].astype(np.int64))
            with torch.no_grad():
                logs = torch.log_softmax(model(ids[None], use_cache=False).logits[0], dim=-1)
            for at in range(LENGTH // 2, LENGTH):
                nats[int(shards.fields[start + at])] -= float(logs[at - 1, ids[at]])
                hits += int(logs[at - 1].argmax()) == int(ids[at])
                lines += start + at in firsts
                tokens += 1
            start += LENGTH
    return {"nats": nats, "hits": hits, "lines": lines, "tokens": tokens}


def test_nats_are_those_of_a_plain_loop(model: Any) -> None:
    """Token, line and field; over several parts, none of which is a whole number of windows."""
    shards, parts = tiny_shards(200), [Part(3, 50), Part(60, 64), Part(100, 190)]
    expected = plain(model, shards, parts)
    found = measure(model, shards, parts, LENGTH, most_tokens=10**9)
    total = sum(expected["nats"].values())
    assert (found.tokens, found.lines) == (expected["tokens"], expected["lines"])
    assert found.per_token == pytest.approx(total / expected["tokens"], rel=1e-5)
    assert found.per_line == pytest.approx(total / expected["lines"], rel=1e-5)
    assert found.accuracy == pytest.approx(expected["hits"] / expected["tokens"])
    assert found.tokens_per_line == pytest.approx(expected["tokens"] / expected["lines"])
    assert found.perplexity == pytest.approx(math.exp(found.per_token))
    for index, field in enumerate(FIELDS):
        assert found.per_field[field] == pytest.approx(expected["nats"][index] / expected["lines"], rel=1e-5)


class Bigram(torch.nn.Module):
    """Predicts from the last token alone, by how often each followed it."""

    def __init__(self, ids: np.ndarray) -> None:
        super().__init__()
        counts = np.ones((VOCABULARY, VOCABULARY))
        np.add.at(counts, (ids[:-1], ids[1:]), 1)
        self.logs = torch.nn.Parameter(torch.from_numpy(counts / counts.sum(axis=1, keepdims=True)).log())

    def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:
        """Logits of the next token, (batch, length, vocabulary)."""
        return SimpleNamespace(logits=self.logs[input_ids])


def test_accuracy_is_of_each_field() -> None:
    """Against counting by hand, with a model that each field is guessed by differently."""
    shards = tiny_shards(400)
    ids, fields = shards.ids.astype(np.int64), shards.fields
    model = Bigram(ids)
    best = model.logs.detach().numpy().argmax(axis=1)
    starts = np.arange(0, len(ids) - LENGTH + 1, LENGTH)
    scored = (starts[:, None] + np.arange(LENGTH // 2, LENGTH)).ravel()
    hits = best[ids[scored - 1]] == ids[scored]
    found = measure(model, shards, [Part(0, 400)], LENGTH, most_tokens=10**9)
    assert found.accuracy == pytest.approx(hits.mean())
    for index, field in enumerate(FIELDS):
        assert found.field_accuracy[field] == pytest.approx(hits[fields[scored] == index].mean())
    assert len(set(found.field_accuracy.values())) == 3


@given(most=st.integers(1, 40 * LENGTH))
def test_few_windows_are_spread_over_all_traffic(model: Any, most: int) -> None:
    """About as many tokens as wanted are scored, windows far apart, never more windows than there are."""
    shards = tiny_shards(300)
    windows = int(shards.first_token[300]) // LENGTH
    found = measure(model, shards, [Part(0, 300)], LENGTH, most_tokens=most)
    assert found.tokens == LENGTH // 2 * min(windows, max(1, most // (LENGTH // 2)))


def test_windows_come_from_all_parts(model: Any) -> None:
    """Two windows of two parts are one of each: a part that is all one token shows."""
    shards = tiny_shards(400)
    shards.ids[int(shards.first_token[200]) :] = 5
    both = measure(model, shards, [Part(0, 200), Part(200, 400)], LENGTH, most_tokens=LENGTH)
    first = measure(model, shards, [Part(0, 200)], LENGTH, most_tokens=LENGTH // 2)
    second = measure(model, shards, [Part(200, 400)], LENGTH, most_tokens=LENGTH // 2)
    assert both.tokens == LENGTH
    assert both.per_token == pytest.approx((first.per_token + second.per_token) / 2, rel=0.05)
    assert abs(first.per_token - second.per_token) > 0.1 * both.per_token


def test_a_model_stays_in_its_mode(model: Any) -> None:
    """Measured in the middle of training, it goes on training."""
    for training in (True, False):
        model.train(training)
        measure(model, tiny_shards(100), [Part(0, 100)], LENGTH)
        assert model.training is training


def test_too_little_traffic_is_named(model: Any) -> None:
    """No part has a whole window."""
    with pytest.raises(InputError, match=f"tiny: too little traffic.*{LENGTH} tokens"):
        measure(model, tiny_shards(100), [Part(0, 10), Part(20, 30)], LENGTH)
