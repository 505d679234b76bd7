"""The `fields` tokenizer: a line as one token for its name and one for its delta time.

A line becomes `[state] name delta`; the state token stands only where the activity state changes. The
delta token is the bin of `ecustream.scoring.deltas`.
"""

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from ecustream.errors import BundleError
from ecustream.scores import FIELD_DELTA, FIELD_NAME, FIELD_STATE
from ecustream.scoring.deltas import BIN_NAMES, NO_DELTA, bins_of, deltas_of, middle_ns
from ecustream.scoring.seen_streams import SeenStreams
from ecustream.scoring.tokenizer import UNKNOWN_TOKEN, Encoded
from ecustream.scoring.word_level import PAD_TEXT, UNKNOWN_TEXT, read_vocabulary, word_level_json
from ecustream.traffic import ACTIVITY_STATES, Line, Stream
from ecustream.units import duration

__all__ = ["FieldsTokenizer"]

_SPECIALS = (PAD_TEXT, UNKNOWN_TEXT, f"<delta:{BIN_NAMES[NO_DELTA]}>")
_DELTA_NONE = 2


class FieldsTokenizer:
    """Lines to token ids, remembering the activity state from chunk to chunk; see `LineTokenizer`.

    Args:
        cycles_ns: learned cycle of every known PDU key; 0 where it has none. The order gives the ids.
        names: PDU names by key, for people; a key that is not there stands for itself.
    """

    name = "fields"

    def __init__(self, cycles_ns: Mapping[str, int], names: Mapping[str, str] | None = None) -> None:
        self._cycles = dict(cycles_ns)
        self._names = dict(names or {})
        self._first_state = len(_SPECIALS)
        self._first_delta = self._first_state + len(ACTIVITY_STATES)
        self._first_name = self._first_delta + NO_DELTA
        self._name_of_key = {key: self._first_name + i for i, key in enumerate(self._cycles)}
        self._keys = list(self._cycles)
        self._state: int | None = None
        self._streams = SeenStreams(self._facts, 2)

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids."""
        return self._first_name + len(self._keys)

    def fresh(self) -> Self:
        """Another one with the same vocabulary, in its initial state."""
        return type(self)(self._cycles, self._names)

    def knows(self, stream: Stream) -> bool:
        """Whether the stream's key has a name token of its own."""
        return stream.key in self._name_of_key

    def reset(self) -> None:
        """Forget the activity state, as after a gap: the next line states it again."""
        self._state = None

    def encode(self, lines: Sequence[Line]) -> Encoded:
        """Token ids of `lines`, in order."""
        count = len(lines)
        if not count:
            none = np.empty(0, dtype=np.int64)
            return Encoded(none, none, none)
        names, cycles = self._streams.of(lines)
        bins = bins_of(deltas_of(lines), cycles)
        states = np.array([-1 if self._state is None else self._state, *(line.state for line in lines)])
        changed = np.flatnonzero(states[1:] != states[:-1])
        self._state = int(states[-1])
        # Two tokens a line; where the state changes, a third before them.
        ids, fields = np.empty((count, 2), dtype=np.int64), np.empty((count, 2), dtype=np.int64)
        ids[:, 0], fields[:, 0] = names, FIELD_NAME
        ids[:, 1], fields[:, 1] = bins + self._first_delta, FIELD_DELTA
        ids[bins == NO_DELTA, 1] = _DELTA_NONE
        line_of = np.arange(2 * count) // 2
        if not len(changed):
            return Encoded(ids.ravel(), fields.ravel(), line_of)
        return Encoded(
            np.insert(ids.ravel(), 2 * changed, self._first_state + states[changed + 1]),
            np.insert(fields.ravel(), 2 * changed, FIELD_STATE),
            np.insert(line_of, 2 * changed, changed),
        )

    def _facts(self, stream: Stream) -> tuple[int, int]:
        return self._name_of_key.get(stream.key, UNKNOWN_TOKEN), self._cycles.get(stream.key, 0)

    def fields_of_tokens(self) -> npt.NDArray[np.int64]:
        """The field that each token id can be of, shape (vocabulary,); -1 for padding."""
        fields = np.full(self.vocabulary_size, FIELD_NAME)
        fields[0] = -1
        fields[_DELTA_NONE] = fields[self._first_delta : self._first_name] = FIELD_DELTA
        fields[self._first_state : self._first_delta] = FIELD_STATE
        return fields

    def words(self, token: int, stream: Stream) -> str | None:
        """A PDU's name, or a delta time in the cycle of the line's PDU; None for any other token."""
        at = token - self._first_name
        if 0 <= at < len(self._keys):
            return self._names.get(self._keys[at], self._keys[at])
        delta_bin = token - self._first_delta
        middle = None if at >= 0 else middle_ns(delta_bin, self._cycles.get(stream.key, 0))
        return None if middle is None else duration(middle)

    def vocabulary(self) -> dict[str, int]:
        """Token texts to ids, for `tokenizer.json`."""
        texts = [
            *_SPECIALS,
            *(f"<state:{state}>" for state in ACTIVITY_STATES),
            *(f"<delta:{name}>" for name in BIN_NAMES[:NO_DELTA]),
            *(f"<pdu:{key}>" for key in self._keys),
        ]
        return {text: i for i, text in enumerate(texts)}

    def to_json(self) -> str:
        """`tokenizer.json`: a word-level tokenizer of the tokenizers library over the token texts."""
        return word_level_json(self.vocabulary())

    def check_json(self, text: str) -> None:
        """Refuse a `tokenizer.json` that gives other ids than this tokenizer.

        Raises:
            BundleError: it is damaged or belongs to other PDUs.
        """
        if read_vocabulary(text) != self.vocabulary():
            raise BundleError("tokenizer.json: its vocabulary is not that of bundle.json")
