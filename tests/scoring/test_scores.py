"""Perplexity and surprisal of lines, from nats given by hand."""

import math

import numpy as np
import pytest

from ecustream.scores import LineScore, ScoreBlock
from tests.scoring.tiny import make_line, make_stream

LINES = [make_line(i, make_stream(0, "fast"), 10_000_000) for i in range(2)]
NAN = float("nan")


@pytest.fixture
def block() -> ScoreBlock:
    """One line with two tokens, and one that also states the activity state."""
    return ScoreBlock(
        LINES,
        np.array([[0.5, 1.5, NAN], [1.0, 2.0, 6.0]], dtype=np.float32),
        np.array([2, 3]),
        np.array([[198, 38, -1], [199, 40, 4]]),
        np.array([True, False]),
    )


def test_surprisal_is_the_sum_and_perplexity_the_mean_in_the_exponent(block: ScoreBlock) -> None:
    """A field without a token counts neither in the sum nor in the mean, as in the paper's formula."""
    assert block.surprisal_nats().tolist() == [2.0, 9.0]
    assert block.perplexity().tolist() == pytest.approx([math.e, math.exp(3)])


def test_rows_say_the_same_line_by_line(block: ScoreBlock) -> None:
    """Each row is a LineScore of plain Python numbers."""
    first, second = block.rows()
    assert first.line is LINES[0]
    assert first.field_nats[:2] == (0.5, 1.5)
    assert math.isnan(first.field_nats[2])
    assert (first.tokens, first.expected, first.warming) == (2, (198, 38, -1), True)
    assert second == LineScore(LINES[1], (1.0, 2.0, 6.0), 9.0, 3, (199, 40, 4), False)
    assert [row.perplexity for row in (first, second)] == pytest.approx(block.perplexity().tolist())
    assert block.row(1) == second
    assert type(second.surprisal_nats) is float
    assert type(second.warming) is bool


def test_more_surprising_means_higher(block: ScoreBlock) -> None:
    """Raising the nats of any field raises both scores."""
    before = list(zip(block.surprisal_nats(), block.perplexity(), strict=True))[1]
    for field in range(3):
        nats = block.field_nats.copy()
        nats[1, field] += 0.5
        raised = ScoreBlock(block.lines, nats, block.tokens, block.expected, block.warming)
        assert raised.surprisal_nats()[1] > before[0]
        assert raised.perplexity()[1] > before[1]
