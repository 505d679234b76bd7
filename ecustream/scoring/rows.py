"""The paper's tokenizers `group`, two tokens a line, and `row`, one: whole columns as one token each.

In `group` the first token is the pduName and the second everything else: source, addresses, activity state
and the delta time's bin of `ecustream.scoring.deltas`. In `row` one token is the line's whole content. The
vocabulary is what traffic contained; a combination that never came is the unknown token. Surprisal of the
second token counts as that of the delta time, and that of the only token of `row` as that of the name,
whatever in it was strange.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from ecustream.errors import BundleError
from ecustream.scores import FIELD_DELTA, FIELD_NAME
from ecustream.scoring.columns import identity_columns, plain
from ecustream.scoring.deltas import BIN_NAMES, BINS, bins_of, deltas_of, middle_ns
from ecustream.scoring.seen_streams import SeenStreams
from ecustream.scoring.tokenizer import UNKNOWN_TOKEN, Encoded
from ecustream.scoring.word_level import PAD_TEXT, UNKNOWN_TEXT, read_vocabulary, word_level_json
from ecustream.traffic import ACTIVITY_STATES, Line, Stream
from ecustream.units import duration

__all__ = ["MOST_TOKENS", "RowKind", "RowTokenizer", "name_text", "rest_text"]

RowKind = Literal["group", "row"]

MOST_TOKENS = 65_536
_BIN_OF_NAME = {name: i for i, name in enumerate(BIN_NAMES)}
_CODE_OF_STATE = {str(state): state for state in ACTIVITY_STATES}
_STATES = len(ACTIVITY_STATES)

Ids = npt.NDArray[np.int64]


def name_text(stream: Stream) -> str:
    """Text of the first token of `group`."""
    return f"<pdu:{identity_columns(stream)[0]}>"


def rest_text(name: RowKind, stream: Stream, state: int, delta_bin: int) -> str:
    """Text of the second token of `group`, or of the token of `row`."""
    return f"<{_REST[name]}:{_identity(name, stream)} {state} {BIN_NAMES[delta_bin]}>"


_REST: Mapping[RowKind, str] = {"group": "rest", "row": "row"}


def _identity(name: RowKind, stream: Stream) -> str:
    return " ".join(identity_columns(stream)[1 if name == "group" else 0 :])


class RowTokenizer:
    """Lines to token ids; see `LineTokenizer`. It remembers nothing of the lines before.

    Args:
        name: `group` or `row`.
        cycles_ns: learned cycle of every known PDU key; 0 where it has none.
        texts: of `name_text` and `rest_text`, in the order of their ids, which begin at 2.

    Raises:
        BundleError: there are too many texts, the same twice, or one that is none of these.
    """

    def __init__(self, name: RowKind, cycles_ns: Mapping[str, int], texts: Iterable[str]) -> None:
        self.name: str = name
        self._kind: RowKind = name
        self._cycles = dict(cycles_ns)
        self._texts = [PAD_TEXT, UNKNOWN_TEXT, *texts]
        self._ids = {text: i for i, text in enumerate(self._texts)}
        if len(self._ids) != len(self._texts) or len(self._texts) > MOST_TOKENS:
            raise BundleError(f"tokenizer.json: {len(self._texts)} texts are too many, or not all different")
        self._identities: dict[str, int] = {}
        codes = {self._code(text): i for i, text in enumerate(self._texts) if self._is_rest(text)}
        # Whatever is not there is found at or before the last one, which no line has.
        self._codes = np.array([*sorted(codes), np.iinfo(np.int64).max])
        self._id_of_code = np.array([*(codes[code] for code in sorted(codes)), UNKNOWN_TOKEN])
        self._streams = SeenStreams(self._facts, 3)

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids."""
        return len(self._texts)

    def fresh(self) -> Self:
        """Another one with the same vocabulary, in its initial state."""
        other = copy(self)
        other._streams = SeenStreams(other._facts, 3)
        return other

    def knows(self, stream: Stream) -> bool:
        """Whether the stream's key was in the traffic that the tokenizer was made for."""
        return stream.key in self._cycles

    def reset(self) -> None:
        """Nothing: every line is told whole."""

    def encode(self, lines: Sequence[Line]) -> Encoded:
        """Token ids of `lines`, in order."""
        count = len(lines)
        if not count:
            none = np.empty(0, dtype=np.int64)
            return Encoded(none, none, none)
        names, identities, cycles = self._streams.of(lines)
        states = np.array([line.state for line in lines])
        # That of an identity which no text has, -1, is negative, and no text's.
        codes = (identities * _STATES + states) * BINS + bins_of(deltas_of(lines), cycles)
        at = np.searchsorted(self._codes, codes)
        rest = np.where(self._codes[at] == codes, self._id_of_code[at], UNKNOWN_TOKEN)
        if self._kind == "row":
            return Encoded(rest, np.full(count, FIELD_NAME), np.arange(count))
        ids, fields = np.empty((count, 2), dtype=np.int64), np.empty((count, 2), dtype=np.int64)
        ids[:, 0], fields[:, 0] = names, FIELD_NAME
        ids[:, 1], fields[:, 1] = rest, FIELD_DELTA
        return Encoded(ids.ravel(), fields.ravel(), np.arange(2 * count) // 2)

    def _facts(self, stream: Stream) -> tuple[int, int, int]:
        """Its name token, the number of its identity (-1 where no text has it), and its cycle."""
        name = self._ids.get(name_text(stream), UNKNOWN_TOKEN)
        identity = self._identities.get(_identity(self._kind, stream), -1)
        return name, identity, self._cycles.get(stream.key, 0)

    def _is_rest(self, text: str) -> bool:
        return text.startswith(f"<{_REST[self._kind]}:")

    def _code(self, text: str) -> int:
        """The packed content of a text of `rest_text`."""
        identity, state, delta_bin = self._parts(text)
        number = self._identities.setdefault(identity, len(self._identities))
        return (number * _STATES + state) * BINS + delta_bin

    def _parts(self, text: str) -> tuple[str, int, int]:
        """Identity, state and bin of a text of `rest_text`."""
        content = text.removeprefix(f"<{_REST[self._kind]}:").removesuffix(">")
        match content.rsplit(" ", 2):
            case [identity, state, delta_bin] if state in _CODE_OF_STATE and delta_bin in _BIN_OF_NAME:
                return identity, _CODE_OF_STATE[state], _BIN_OF_NAME[delta_bin]
        raise BundleError(f"tokenizer.json: it is not that of a {self.name} tokenizer: {text[:80]!r}")

    def fields_of_tokens(self) -> Ids:
        """The field that each token id can be of; -1 for padding, and in `group` for the unknown token."""
        rest = FIELD_DELTA if self._kind == "group" else FIELD_NAME
        fields = np.array([rest if self._is_rest(text) else FIELD_NAME for text in self._texts])
        fields[0] = -1
        if self._kind == "group":
            fields[UNKNOWN_TOKEN] = -1
        return fields

    def words(self, token: int, stream: Stream) -> str | None:
        """A PDU's name, and where the token is of this stream the time after which its line comes."""
        if not UNKNOWN_TOKEN < token < len(self._texts):
            return None
        text = self._texts[token]
        if not self._is_rest(text):
            return plain(text.removeprefix("<pdu:").removesuffix(">"))
        identity, _, delta_bin = self._parts(text)
        name = "" if self._kind == "group" else plain(identity.partition(" ")[0])
        if identity != _identity(self._kind, stream):
            return name or None
        middle = middle_ns(delta_bin, self._cycles.get(stream.key, 0))
        after = "" if middle is None else duration(middle)
        return f"{name} after {after}" if name and after else name or after or None

    def to_json(self) -> str:
        """`tokenizer.json`: a word-level tokenizer of the tokenizers library over the token texts."""
        return word_level_json(self._ids)

    @classmethod
    def from_json(cls, name: RowKind, cycles_ns: Mapping[str, int], text: str) -> Self:
        """Read `tokenizer.json`.

        Raises:
            BundleError: it is damaged or that of another tokenizer.
        """
        vocabulary = read_vocabulary(text)
        texts = sorted(vocabulary, key=vocabulary.__getitem__)
        kinds = ("<pdu:", "<rest:") if name == "group" else ("<row:",)
        if texts[:2] != [PAD_TEXT, UNKNOWN_TEXT] or not all(other.startswith(kinds) for other in texts[2:]):
            raise BundleError(f"tokenizer.json: it is not that of a {name} tokenizer")
        made = cls(name, cycles_ns, texts[2:])
        if made._ids != vocabulary:
            raise BundleError("tokenizer.json: its ids do not count up from 0")
        return made
