"""Scores of real lines against a slow tokenizer and one whole pass of Hugging Face's Qwen2."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.scores import FIELD_STATE, ScoreBlock
from ecustream.scoring.fields import FieldsTokenizer
from ecustream.scoring.qwen2 import Qwen2, receptive_field
from ecustream.scoring.scorer import Scorer
from ecustream.traffic import Line
from tests.scoring.tiny import CYCLES_NS, make_line, make_lines, oracle, oracle_logits, served
from tests.scoring.traffic import LINES, STREAMS, chunks, reference_tokens

TOLERANCE = 1e-4
WINDOW = 6
VOCABULARY = FieldsTokenizer(CYCLES_NS).vocabulary_size
LAYERS = 2
FIELD_TOKENS = receptive_field(LAYERS, WINDOW)


@functools.cache
def model() -> Any:
    """The oracle, in the vocabulary of the lines."""
    return oracle(WINDOW, layers=LAYERS, vocabulary=VOCABULARY)


class OneStream:
    """A scorer with one new stream."""

    def __init__(self, network: Qwen2) -> None:
        self._scorer = Scorer(network, lambda: FieldsTokenizer(CYCLES_NS))
        self._stream = self._scorer.open_stream()

    def score(self, lines: Sequence[Line]) -> ScoreBlock:
        """Scores of the next lines."""
        return self._scorer.score([(self._stream, lines)])[0]

    def reset(self) -> None:
        """Start again after a gap."""
        self._stream.reset()


def scorer(max_chunk: int = 384) -> OneStream:
    """A new stream whose lines are computed at most so many tokens at a time."""
    return OneStream(served(model(), max_chunk=max_chunk))


def random_lines(count: int, seed: int) -> list[Line]:
    """Lines of all streams, most of them on time, with first occurrences and changes of state."""
    random = np.random.default_rng(seed)
    seen: set[int] = set()
    rows: list[tuple[Any, int | None, int]] = []
    state = 0
    for stream in random.choice(len(STREAMS), count).tolist():
        state = state if random.random() < 0.9 else int(random.integers(3))
        delta_ns = int(random.normal(10, 0.1) * 1e6) if stream in seen else None
        rows.append((STREAMS[stream], delta_ns, state))
        seen.add(stream)
    return make_lines(rows)


def assert_same(block: ScoreBlock, other: ScoreBlock, *, warming: bool = True) -> None:
    """The blocks agree line by line to the tolerance."""
    assert block.lines == other.lines
    np.testing.assert_allclose(block.field_nats, other.field_nats, atol=TOLERANCE, rtol=0)
    np.testing.assert_array_equal(block.tokens, other.tokens)
    if warming:
        np.testing.assert_array_equal(block.warming, other.warming)


def joined(blocks: Sequence[ScoreBlock]) -> ScoreBlock:
    """Blocks that follow each other as one."""
    return ScoreBlock(
        [line for block in blocks for line in block.lines],
        np.concatenate([b.field_nats for b in blocks]),
        np.concatenate([b.tokens for b in blocks]),
        np.concatenate([b.expected for b in blocks]),
        np.concatenate([b.warming for b in blocks]),
    )


def reference(lines: Sequence[Line]) -> ScoreBlock:
    """The same scores, token by token from the documentation and one whole pass of the oracle."""
    tokens = reference_tokens(lines, CYCLES_NS)
    ids = torch.tensor([int(token) for token, _, _ in tokens], dtype=torch.int64)
    before = torch.log_softmax(oracle_logits(model(), ids[:-1]), dim=1) if len(ids) > 1 else None
    nats = np.full((len(lines), 3), np.nan, dtype=np.float32)
    expected = np.full((len(lines), 3), -1)
    first: dict[int, int] = {}
    for at, (token, field, line) in enumerate(tokens):
        first.setdefault(line, at)
        if at == 0 or before is None:
            nats[line, field], expected[line, field] = math.log(VOCABULARY), 0
        else:
            nats[line, field] = -before[at - 1, int(token)].item()
            expected[line, field] = int(before[at - 1].argmax())
    count = np.array([sum(1 for _, _, i in tokens if i == line) for line in range(len(lines))], dtype=int)
    warming = np.array([first[line] < FIELD_TOKENS for line in range(len(lines))], dtype=bool)
    return ScoreBlock(list(lines), nats, count, expected, warming)


@settings(max_examples=40, deadline=None)
@given(LINES, st.data())
def test_scores_are_those_of_one_whole_pass_however_lines_are_chunked(
    lines: list[Line], data: st.DataObject
) -> None:
    """Calls of any size, split inside into any chunks, never change a score, a count or a flag."""
    under_test = scorer(max_chunk=data.draw(st.integers(1, 20)))
    blocks = [under_test.score(lines[part]) for part in data.draw(chunks(len(lines)))]
    assert_same(joined(blocks), reference(lines))


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_long_stream_is_scored_as_one_whole_pass(size: int) -> None:
    """Many lines, across many slides of the cache, with what the model expected instead."""
    lines = random_lines(150, seed=3)
    under_test = scorer(max_chunk=23)
    block = joined([under_test.score(lines[i : i + size]) for i in range(0, len(lines), size)])
    expected = reference(lines)
    assert_same(block, expected)
    # Where two tokens are all but equally probable, either may be called the most probable.
    assert (block.expected != expected.expected).mean() < 0.01
    np.testing.assert_array_equal(block.expected == -1, np.isnan(block.field_nats))


def test_the_first_token_of_every_chunk_is_scored() -> None:
    """With one line a call no name is without a score, and none but the very first is a uniform guess."""
    under_test = scorer()
    nats = joined([under_test.score([line]) for line in random_lines(30, seed=5)]).field_nats
    assert np.isfinite(nats[:, :2]).all()
    assert nats[0, FIELD_STATE] == pytest.approx(math.log(VOCABULARY), abs=1e-5)
    assert np.abs(nats[1:, 0] - math.log(VOCABULARY)).min() > 1e-3


def test_warming_marks_the_lines_that_cannot_look_back_over_the_receptive_field() -> None:
    """Token t is predicted from t tokens; lines whose first token has fewer than the field are marked."""
    lines = make_lines([(STREAMS[0], 10_000_000, 1)] * 12)
    under_test = scorer(max_chunk=11)
    # The first line has three tokens, the others two: line i begins at token 2 i + 1, the first at 0.
    expected = [(2 * i + 1 if i else 0) < FIELD_TOKENS for i in range(12)]
    assert under_test.score(lines).warming.tolist() == expected
    assert not under_test.score(lines).warming.any()
    under_test.reset()
    assert under_test.score(lines[:3]).warming.all()
    assert under_test.score(lines[3:]).warming.tolist() == expected[3:]


def test_the_lines_after_warming_are_those_that_a_replay_reproduces() -> None:
    """Joining a stream anywhere, all lines that are not warming have the scores of the running stream.

    It joins where the state changes: what it says first is then what the running stream says there too.
    """
    lines = random_lines(120, seed=7)
    running = scorer().score(lines)
    joins = [i for i in range(1, 90) if lines[i].state != lines[i - 1].state]
    assert len(joins) > 3
    worst_warming = 0.0
    for start in joins:
        replayed = scorer().score(lines[start:])
        gap = np.nan_to_num(np.abs(replayed.field_nats - running.field_nats[start:])).max(axis=1)
        assert gap[~replayed.warming].max() < TOLERANCE
        worst_warming = max(worst_warming, float(gap[replayed.warming][-1]))
    assert worst_warming > 10 * TOLERANCE


def test_a_reset_stream_scores_as_a_new_one() -> None:
    """Nothing of what came before a gap is left, neither in the model nor in the tokenizer."""
    under_test = scorer()
    under_test.score(random_lines(50, seed=1))
    under_test.reset()
    lines = random_lines(50, seed=2)
    assert_same(under_test.score(lines), scorer().score(lines))


def test_two_streams_over_one_model_do_not_see_each_other() -> None:
    """Scorers that share a model and are fed in turns give what each gives alone."""
    shared = served(model())
    lines = random_lines(60, seed=1), random_lines(60, seed=2)
    scorers = [OneStream(shared) for _ in lines]
    blocks: list[list[ScoreBlock]] = [[], []]
    for i in range(0, 60, 4):
        for stream, under_test, out in zip(lines, scorers, blocks, strict=True):
            out.append(under_test.score(stream[i : i + 4]))
    for stream, out in zip(lines, blocks, strict=True):
        assert_same(joined(out), scorer().score(stream))


def test_lines_are_handed_on_as_they_came() -> None:
    """The block holds the very lines that were scored; no lines give an empty block of the same shape."""
    lines = random_lines(7, seed=4)
    block = scorer(max_chunk=7).score(lines)
    assert all(a is b for a, b in zip(block.lines, lines, strict=True))
    empty = scorer().score([])
    assert empty.lines == []
    assert empty.field_nats.shape == empty.expected.shape == (0, 3)
    assert empty.tokens.shape == empty.warming.shape == (0,)
    assert list(empty.rows()) == []


@pytest.mark.parametrize("max_chunk", [1, 4])
def test_a_line_may_be_cut_anywhere(max_chunk: int) -> None:
    """Where a network takes fewer tokens at once than a line has, the line's tokens still end up in it."""
    lines = [make_line(i, STREAMS[0], None, i % 3) for i in range(20)]
    block = scorer(max_chunk).score(lines)
    assert block.tokens.tolist() == [3] * 20
    assert_same(block, reference(lines))
