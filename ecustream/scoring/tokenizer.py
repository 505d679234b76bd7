"""What a tokenizer owes the scorer and the trainer: lines in, token ids and the field of each id out."""

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from ecustream.traffic import Line, Stream

__all__ = ["PAD_TOKEN", "UNKNOWN_TOKEN", "Encoded", "LineTokenizer"]

PAD_TOKEN = 0
UNKNOWN_TOKEN = 1
"""The same ids in every tokenizer; training hides input tokens behind the unknown one."""


class Encoded:
    """A chunk of n lines as m token ids: `ids` and `fields` of shape (m,), `line_of` each token's line."""

    __slots__ = ("fields", "ids", "line_of")

    def __init__(
        self, ids: npt.NDArray[np.int64], fields: npt.NDArray[np.int64], line_of: npt.NDArray[np.int64]
    ) -> None:
        self.ids = ids
        self.fields = fields
        self.line_of = line_of


class LineTokenizer(Protocol):
    """Lines to token ids, remembering from chunk to chunk what it must; one for each stream.

    How lines are cut into chunks never changes their tokens. Every line has at least one token.

    Attributes:
        name: its kind, as `bundle.json` names it.
        vocabulary_size: number of token ids.
    """

    name: str

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids."""

    def fresh(self) -> Self:
        """Another one with the same vocabulary, in its initial state."""

    def knows(self, stream: Stream) -> bool:
        """Whether the stream's key is one that the vocabulary was made for."""

    def reset(self) -> None:
        """Forget the lines so far, as after a gap."""

    def encode(self, lines: Sequence[Line]) -> Encoded:
        """Token ids of `lines`, in order, with the field of `ecustream.scores.FIELDS` each belongs to."""

    def fields_of_tokens(self) -> npt.NDArray[np.int64]:
        """The field that each token id can be of, shape (vocabulary,); -1 where of none or of several."""

    def words(self, token: int, stream: Stream) -> str | None:
        """What a token means for a line of `stream`; None where it means nothing to people."""

    def to_json(self) -> str:
        """`tokenizer.json`; opens with `tokenizers.Tokenizer.from_str`."""
