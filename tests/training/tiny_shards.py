"""Shards made by hand for tests of training: lines of two or three tokens that can be learned."""

from itertools import pairwise
from pathlib import Path

import numpy as np

from training.shards import Piece, Shards
from training.splits import Part, Split

__all__ = ["VOCABULARY", "tiny_shards", "tiny_split"]

VOCABULARY = 40


def tiny_shards(lines: int = 3000, seed: int = 0) -> Shards:
    """One drive: PDUs in turn with some noise, each with its own interval, every fifth line with a state."""
    random = np.random.default_rng(seed)
    ids, fields, first_token = [], [], [0]
    for line in range(lines):
        pdu = line % 7 if random.random() < 0.9 else int(random.integers(7))
        ids += [4 + pdu, 12 + pdu * 2 + int(random.random() < 0.2)]
        fields += [0, 1]
        if line % 5 == 0:
            ids.append(30 + line // 500 % 4)
            fields.append(2)
        first_token.append(len(ids))
    return Shards(
        folder=Path("tiny"),
        tokenizer="fields",
        vocabulary=VOCABULARY,
        pieces=[Piece("tiny", "", lines, 0)],
        ids=np.array(ids, np.uint16),
        fields=np.array(fields, np.int8),
        first_token=np.array(first_token, np.int64),
        labelled=None,
        tokenizer_json="",
    )


def tiny_split(shards: Shards) -> Split:
    """The first eight tenths train, then one each validates and tests."""
    lines = len(shards.first_token) - 1
    cuts = [0, lines * 8 // 10, lines * 9 // 10, lines]
    train, validation, test = ([Part(a, b)] for a, b in pairwise(cuts))
    return Split(train, validation, test)
