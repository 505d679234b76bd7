"""The tokenizers `bpe`, which is the paper's, and `bpe-binned`: a line as bytes of text, common ones merged.

A line is the text `pduName source sourceIp sourcePort destIp destPort activityState deltaTime` and a line
end, the delta time in whole µs, `-` where there is none. The paper's timestamp is left out: it is a running
clock, of which a model could learn nothing but to copy its leading digits, and the delta times hold the
rest. In `bpe-binned` the delta time is the middle of its bin in the `fields` tokenizer: the line then says
what `fields` says, no more, and nats a line can be compared.

Any text has tokens, since there is one for every byte. Merges were learned from traffic; none crosses
from one column into the next, and none holds a digit: the digits 0 to 9 are always tokens of their own.
What ends a column belongs to it: a blank, or after the delta time the line end, which is a token that
occurs nowhere else. So a line's tokens depend on that line alone.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from ecustream.errors import BundleError
from ecustream.scores import FIELD_DELTA, FIELD_NAME, FIELD_STATE
from ecustream.scoring.columns import identity_columns
from ecustream.scoring.deltas import bins_of, deltas_of, middles_us
from ecustream.scoring.seen_streams import SeenStreams
from ecustream.scoring.tokenizer import Encoded
from ecustream.scoring.word_level import PAD_TEXT, UNKNOWN_TEXT
from ecustream.traffic import Line, Stream

__all__ = ["FEWEST_TOKENS", "BpeKind", "BpeTokenizer", "bpe_library", "identity_text"]

BpeKind = Literal["bpe", "bpe-binned"]

_LINE_END = 2
_FIRST_BYTE = 3
FEWEST_TOKENS = _FIRST_BYTE + 256
"""Size of a vocabulary without any merge."""
_DIGIT_0, _BLANK, _NO_DELTA = (_FIRST_BYTE + ord(c) for c in "0 -")
# A column that ends in letters may be merged with its blank; digits and other blanks stand alone.
_COLUMNS_AND_DIGITS = r"[^0-9 ]+ ?|[0-9]| "
_LONGEST_US = 1e15 - 1
"""Thirty years; longer delta times count as this."""

Ids = npt.NDArray[np.int64]


def identity_text(stream: Stream) -> str:
    """What the lines of a stream begin with: all columns before the activity state, and a blank."""
    return " ".join(identity_columns(stream)) + " "


def bpe_library(merges: Iterable[tuple[str, str]]) -> Tokenizer:
    """The tokenizers library's tokenizer of lines, with these merges of byte-level characters."""
    merges = list(merges)
    texts = [PAD_TEXT, UNKNOWN_TEXT, "\n", *_byte_characters(), *(first + second for first, second in merges)]
    # Two merges may give the same text, which is one token then.
    vocabulary = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    library = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    library.add_special_tokens([AddedToken(texts[_LINE_END], normalized=False)])
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_COLUMNS_AND_DIGITS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    return library


def _byte_characters() -> list[str]:
    """The printable character that stands for each byte, as in GPT-2."""
    shown = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) if byte in shown else chr(256 + hidden.index(byte)) for byte in range(256)]


class BpeTokenizer:
    """Lines to token ids; see `LineTokenizer`. It remembers nothing of the lines before.

    Args:
        name: `bpe` or `bpe-binned`.
        library: of `bpe_library`.
        cycles_ns: learned cycle of every known PDU key; 0 where it has none.
    """

    def __init__(self, name: BpeKind, library: Tokenizer, cycles_ns: Mapping[str, int]) -> None:
        self.name: str = name
        self._kind: BpeKind = name
        self._library = library
        self._cycles = dict(cycles_ns)
        cycles = sorted({0, *self._cycles.values()})
        self._row_of_cycle = {cycle: row for row, cycle in enumerate(cycles)}
        self._middles_us = np.array([middles_us(cycle) for cycle in cycles])
        self._forget_streams()

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids."""
        return int(self._library.get_vocab_size())

    def fresh(self) -> Self:
        """Another one with the same vocabulary, in its initial state."""
        other = copy(self)
        other._forget_streams()
        return other

    def _forget_streams(self) -> None:
        # The identities of all streams end to end; a stream's begins where its facts say.
        self._identities = np.zeros(0, dtype=np.int64)
        self._filled = 0
        self._streams = SeenStreams(self._facts, 4)

    def knows(self, stream: Stream) -> bool:
        """Whether the stream's key was in the traffic that the tokenizer was made for."""
        return stream.key in self._cycles

    def reset(self) -> None:
        """Nothing: every line is told whole."""

    def encode(self, lines: Sequence[Line]) -> Encoded:
        """Token ids of `lines`, in order."""
        if not lines:
            none = np.empty(0, dtype=np.int64)
            return Encoded(none, none, none)
        begins, lengths, cycles, rows = self._streams.of(lines)
        deltas = deltas_of(lines)
        if self._kind == "bpe-binned":
            whole_us = self._middles_us[rows, bins_of(deltas, cycles)]
        else:
            whole_us = np.rint(np.minimum(deltas / 1000, _LONGEST_US)).astype(np.int64)
            whole_us[deltas < 0] = -1
        ends, end_fields = _state_and_delta(np.array([line.state for line in lines]), whole_us)
        told = ends >= 0
        per_line = lengths + told.sum(axis=1)
        stops = np.cumsum(per_line)
        # Token t of a line is token t of its identity, and after that one of those of its end.
        line_of = np.repeat(np.arange(len(lines)), per_line)
        within = np.arange(stops[-1]) - np.repeat(stops - per_line, per_line)
        named = within < np.repeat(lengths, per_line)
        ids, fields = np.empty_like(line_of), np.full_like(line_of, FIELD_NAME)
        ids[named] = self._identities[(within + np.repeat(begins, per_line))[named]]
        rest = ~named
        ids[rest], fields[rest] = ends[told], np.broadcast_to(end_fields, ends.shape)[told]
        return Encoded(ids, fields, line_of)

    def _facts(self, stream: Stream) -> tuple[int, int, int, int]:
        """Where its identity begins, how many tokens it has, its cycle, and the row of its middles."""
        ids = self._library.encode(identity_text(stream), add_special_tokens=False).ids
        begin, self._filled = self._filled, self._filled + len(ids)
        if self._filled > len(self._identities):
            new = max(self._filled, 2 * len(self._identities)) - len(self._identities)
            self._identities = np.pad(self._identities, (0, new))
        self._identities[begin : self._filled] = ids
        cycle = self._cycles.get(stream.key, 0)
        return begin, len(ids), cycle, self._row_of_cycle[cycle]

    def fields_of_tokens(self) -> Ids:
        """The field that each token id can be of; -1 for digits, blanks and `-`, which several have."""
        fields = np.full(self.vocabulary_size, FIELD_NAME)
        fields[:_FIRST_BYTE] = fields[_BLANK] = fields[_NO_DELTA] = -1
        fields[_DIGIT_0 : _DIGIT_0 + 10] = -1
        fields[_LINE_END] = FIELD_DELTA
        return fields

    def words(self, token: int, stream: Stream) -> str | None:
        """None: a piece of text means nothing to people."""
        return None

    def to_json(self) -> str:
        """`tokenizer.json`: the library's own, which gives the same ids for the text of a line."""
        return str(self._library.to_str(pretty=False))

    @classmethod
    def from_json(cls, name: BpeKind, cycles_ns: Mapping[str, int], text: str) -> Self:
        """Read `tokenizer.json`.

        Raises:
            BundleError: it is damaged, or cuts lines in another way.
        """
        try:
            theirs = Tokenizer.from_str(text)
            merges = json.loads(theirs.to_str())["model"].get("merges", [])
            library = bpe_library((first, second) for first, second in merges)
        except Exception as error:  # the tokenizers library raises bare Exception
            raise BundleError(f"tokenizer.json: {error}") from None
        if theirs.to_str() != library.to_str():
            raise BundleError(f"tokenizer.json: it is not that of a {name} tokenizer")
        return cls(name, library, cycles_ns)


def _state_and_delta(states: Ids, whole_us: Ids) -> tuple[Ids, Ids]:
    """The ends of lines, shape (lines, columns), -1 where a column is left out, and each column's field.

    The columns are the state and its blank, as many digits as the longest delta time has, a line end.
    """
    powers = 10 ** np.arange(len(str(int(whole_us.max()))))[::-1]
    ends = np.empty((len(states), len(powers) + 3), dtype=np.int64)
    ends[:, 0], ends[:, 1], ends[:, -1] = _DIGIT_0 + states, _BLANK, _LINE_END
    leading = whole_us[:, None] // powers
    ends[:, 2:-1] = np.where(leading > 0, _DIGIT_0 + leading % 10, -1)
    ends[:, -2] = np.where(whole_us < 0, _NO_DELTA, _DIGIT_0 + leading[:, -1] % 10)
    fields = np.full(len(powers) + 3, FIELD_DELTA)
    fields[:2] = FIELD_STATE
    return ends, fields
