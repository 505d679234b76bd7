"""Shards of made-up traffic that a model can learn: every PDU follows the one before, with some noise."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ecustream.scores import FIELD_DELTA, FIELD_NAME
from ecustream.scoring.tokenizer import Encoded
from ecustream.traffic import STATE_NORMAL, Line, Stream
from training.shards import Piece, Shards, write_shards

__all__ = ["NumberTokenizer", "made_shards", "shards_of_widths"]

_BATCH_LINES = 100
_NOISE = 0.05


class NumberTokenizer:
    """Reads two token ids off a line: the index of its stream, and its delta as it is."""

    name = "numbers"

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary_size = vocabulary

    def fresh(self) -> Self:
        """Another one; there is no state."""
        return self

    def knows(self, stream: Stream) -> bool:
        """All streams are known."""
        return True

    def reset(self) -> None:
        """There is nothing to forget."""

    def encode(self, lines: Sequence[Line]) -> Encoded:
        """The line's name, then its delta."""
        ids = np.array([(line.stream.index, line.delta_ns) for line in lines], np.int64)
        fields = np.tile(np.array([FIELD_NAME, FIELD_DELTA]), len(lines))
        return Encoded(ids.ravel(), fields, np.repeat(np.arange(len(lines)), 2))

    def fields_of_tokens(self) -> npt.NDArray[np.int64]:
        """No token is of one field alone."""
        return np.full(self.vocabulary_size, -1)

    def words(self, token: int, stream: Stream) -> str | None:
        """Tokens mean nothing."""
        return None

    def to_json(self) -> str:
        """A text of its own."""
        return f'{{"numbers": {self.vocabulary_size}}}\n'


def _lines(names: npt.NDArray[Any], deltas: npt.NDArray[Any]) -> Iterator[list[Line]]:
    streams: dict[int, Stream] = {}
    batch: list[Line] = []
    for number, (name, delta) in enumerate(zip(names.tolist(), deltas.tolist(), strict=True)):
        stream = streams.setdefault(name, Stream(name, f"{name}", f"PDU_{name}", "ETH1", "a", 1, "b", 2))
        batch.append(Line(number, number + 1, 1_000_000 * number, stream, STATE_NORMAL, delta))
        if len(batch) == _BATCH_LINES:
            yield batch
            batch = []
    if batch:
        yield batch


def made_shards(
    folder: Path, lines_per_piece: Sequence[int], vocabulary: int, seed: int, labelled_share: float = 0.0
) -> Shards:
    """Shards of two tokens a line: names that go round, and deltas that follow from the name.

    Ids 2 and on; the upper half of the vocabulary are names, of which a twentieth is drawn at random
    instead. With a `labelled_share` about that share of the lines is drawn at random and labelled.
    """
    random = np.random.default_rng(seed)
    middle = 2 + (vocabulary - 2) // 2
    period = min(vocabulary - middle, middle - 2)
    odd: list[npt.NDArray[np.bool_]] = []

    def pieces() -> Iterator[tuple[str, str, Iterable[list[Line]]]]:
        for number, count in enumerate(lines_per_piece):
            odd.append(random.random(count) < labelled_share)
            noisy = odd[-1] | (random.random(count) < _NOISE)
            places = (random.integers(period) + np.arange(count)) % period
            places = np.where(noisy, random.integers(0, period, count), places)
            deltas = np.where(odd[-1], random.integers(0, period, count), places)
            yield f"piece-{number}", f"{number:064x}", _lines(middle + places, 2 + deltas)

    def labels(piece: int, lines: Sequence[Line]) -> npt.NDArray[np.bool_]:
        return odd[piece][[line.number for line in lines]]

    tokenizer = NumberTokenizer(vocabulary)
    return write_shards(folder, tokenizer, pieces(), labels if labelled_share else None)


def shards_of_widths(widths: Sequence[Sequence[int]], labelled: bool = False) -> Shards:
    """Shards in memory whose lines have the given numbers of tokens, a drive for each row.

    A token's id says where it is: they are 0, 1, 2 and on, over all drives. Every third line is labelled.
    """
    flat = np.array([width for row in widths for width in row], np.int64)
    lines_before = np.cumsum([0, *(len(row) for row in widths)]).tolist()
    pieces = [
        Piece(f"piece-{number}", f"{number:064x}", len(row), first_line)
        for number, (row, first_line) in enumerate(zip(widths, lines_before, strict=False))
    ]
    tokens = int(flat.sum())
    return Shards(
        folder=Path("in memory"),
        tokenizer="numbers",
        vocabulary=tokens,
        pieces=pieces,
        ids=np.arange(tokens, dtype=np.uint32),
        fields=np.arange(tokens, dtype=np.int8) % 3,
        first_token=np.concatenate([[0], np.cumsum(flat)]),
        labelled=np.arange(len(flat)) % 3 == 1 if labelled else None,
        tokenizer_json="{}",
    )
