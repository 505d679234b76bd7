"""What the scoring stage says of lines: surprisal in nats a field, always higher for stranger."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecustream.traffic import Line

__all__ = ["FIELDS", "FIELD_DELTA", "FIELD_NAME", "FIELD_STATE", "LineScore", "ScoreBlock"]

FIELDS = ("pduName", "deltaTime", "activityState")
"""Fields a line can be scored in, in the order of the columns of `ScoreBlock.field_nats`."""
FIELD_NAME, FIELD_DELTA, FIELD_STATE = range(3)


class LineScore(NamedTuple):
    """How surprising one line was.

    Attributes:
        line: the line.
        field_nats: surprisal in nats of each of `FIELDS`, summed over its tokens; nan where it had none.
        surprisal_nats: their sum.
        tokens: how many tokens the line had.
        expected: for each of `FIELDS` the model's most probable token, -1 where it had none or several.
        warming: whether the model's receptive field was not yet full; such scores mean little.
    """

    line: Line
    field_nats: tuple[float, float, float]
    surprisal_nats: float
    tokens: int
    expected: tuple[int, int, int]
    warming: bool

    @property
    def perplexity(self) -> float:
        """exp(mean nats a token), the paper's score."""
        return float(np.exp(self.surprisal_nats / self.tokens))


@dataclass(frozen=True, slots=True)
class ScoreBlock:
    """Scores of a chunk of n lines as arrays, one row a line; see `LineScore` for the meaning."""

    lines: list[Line]
    field_nats: npt.NDArray[np.float32]
    tokens: npt.NDArray[np.int64]
    expected: npt.NDArray[np.int64]
    warming: npt.NDArray[np.bool_]

    def surprisal_nats(self) -> npt.NDArray[np.float64]:
        """Nats of each line, shape (n,)."""
        nats = self.field_nats.astype(np.float64)
        nats[np.isnan(nats)] = 0.0
        total: npt.NDArray[np.float64] = nats.sum(axis=1)
        return total

    def perplexity(self) -> npt.NDArray[np.float64]:
        """exp(mean nats a token) of each line, shape (n,)."""
        return np.exp(self.surprisal_nats() / self.tokens)

    def row(self, i: int) -> LineScore:
        """Line `i`, as Python numbers."""
        return next(self.part(slice(i, i + 1)).rows())

    def part(self, lines: slice) -> "ScoreBlock":
        """Some of its lines."""
        return ScoreBlock(
            self.lines[lines],
            self.field_nats[lines],
            self.tokens[lines],
            self.expected[lines],
            self.warming[lines],
        )

    def rows(self) -> Iterator[LineScore]:
        """The block line by line, as Python numbers."""
        for line, nats, total, tokens, expected, warming in zip(
            self.lines,
            self.field_nats.tolist(),
            self.surprisal_nats().tolist(),
            self.tokens.tolist(),
            self.expected.tolist(),
            self.warming.tolist(),
            strict=True,
        ):
            yield LineScore(line, tuple(nats), total, tokens, tuple(expected), warming)
