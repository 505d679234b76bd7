"""The `fields` tokenizer: a line as one token for its name and one for its delta time.

A line becomes `[state] name delta`; the state token stands only where the activity state changes. The
delta token is `asinh((delta / cycle - 1) / 0.02)` in 128 bins where the PDU has a learned cycle, which
resolves 0.3 % of the cycle at nominal (the middle of bin 32) and covers 0 to 9,000 cycles; without a
cycle it is one of 64 logarithmic bins of the delta itself, 1 µs to 1,000 s.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, pre_tokenizers

from ecustream.errors import BundleError
from ecustream.scores import FIELD_DELTA, FIELD_NAME, FIELD_STATE
from ecustream.traffic import ACTIVITY_STATES, Line, Stream

__all__ = ["UNKNOWN_TOKEN", "Encoded", "FieldsTokenizer"]

_RELATIVE_BINS = 128
_LOG_BINS = 64
_SHARPNESS = 0.02
# The cycle itself lies in the middle of a bin; otherwise PDUs that are on time would halve between two.
_NOMINAL_BIN = 32
_BIN = math.asinh(1 / _SHARPNESS) / _NOMINAL_BIN
_LOW = -_NOMINAL_BIN * _BIN
_LOG_LOW_NS, _LOG_HIGH_NS = 1e3, 1e12
_SPECIALS = ("<pad>", "<unk>", "<delta:none>")
_UNSEEN = -1
UNKNOWN_TOKEN = 1
_DELTA_NONE = 2


class Encoded:
    """A chunk of n lines as m token ids: `ids` and `fields` of shape (m,), `line_of` each token's line."""

    __slots__ = ("fields", "ids", "line_of")

    def __init__(
        self, ids: npt.NDArray[np.int64], fields: npt.NDArray[np.int64], line_of: npt.NDArray[np.int64]
    ) -> None:
        self.ids = ids
        self.fields = fields
        self.line_of = line_of


class FieldsTokenizer:
    """Lines to token ids, remembering the activity state from chunk to chunk.

    Args:
        cycles_ns: learned cycle of every known PDU key; 0 where it has none. The order gives the ids.
    """

    name = "fields"

    def __init__(self, cycles_ns: Mapping[str, int]) -> None:
        self._cycles = dict(cycles_ns)
        self._first_state = len(_SPECIALS)
        self._first_relative = self._first_state + len(ACTIVITY_STATES)
        self._first_log = self._first_relative + _RELATIVE_BINS
        self._first_name = self._first_log + _LOG_BINS
        self._name_of_key = {key: self._first_name + i for i, key in enumerate(self._cycles)}
        self._keys = list(self._cycles)
        self._state: int | None = None
        # One row a Stream.index, grown as streams appear.
        self._stream_name = np.zeros(0, dtype=np.int64)
        self._stream_cycle = np.zeros(0, dtype=np.float64)

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids."""
        return self._first_name + len(self._keys)

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
        streams = np.array([line.stream.index for line in lines])
        self._learn(lines, streams)
        deltas = np.array([-1.0 if line.delta_ns is None else line.delta_ns for line in lines])
        states = np.array([-1 if self._state is None else self._state, *(line.state for line in lines)])
        changed = np.flatnonzero(states[1:] != states[:-1])
        self._state = int(states[-1])
        # Two tokens a line; where the state changes, a third before them.
        ids, fields = np.empty((count, 2), dtype=np.int64), np.empty((count, 2), dtype=np.int64)
        ids[:, 0], fields[:, 0] = self._stream_name[streams], FIELD_NAME
        ids[:, 1], fields[:, 1] = self._delta_ids(deltas, self._stream_cycle[streams]), FIELD_DELTA
        line_of = np.arange(2 * count) // 2
        if not len(changed):
            return Encoded(ids.ravel(), fields.ravel(), line_of)
        return Encoded(
            np.insert(ids.ravel(), 2 * changed, self._first_state + states[changed + 1]),
            np.insert(fields.ravel(), 2 * changed, FIELD_STATE),
            np.insert(line_of, 2 * changed, changed),
        )

    def _learn(self, lines: Sequence[Line], streams: npt.NDArray[np.int64]) -> None:
        new = int(streams.max()) + 1 - len(self._stream_name)
        # A stream first seen in lines that were skipped has a lower index than some that came before it.
        if new <= 0 and int(self._stream_name[streams].min()) != _UNSEEN:
            return
        self._stream_name = np.pad(self._stream_name, (0, max(0, new)), constant_values=_UNSEEN)
        self._stream_cycle = np.pad(self._stream_cycle, (0, max(0, new)))
        for stream in {line.stream.index: line.stream for line in lines}.values():
            self._stream_name[stream.index] = self._name_of_key.get(stream.key, UNKNOWN_TOKEN)
            self._stream_cycle[stream.index] = self._cycles.get(stream.key, 0)

    def _delta_ids(
        self, deltas: npt.NDArray[np.float64], cycles: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.int64]:
        cyclic = cycles > 0
        ids = self._log_ids(deltas) if not cyclic.all() else np.empty(len(deltas), dtype=np.int64)
        if cyclic.any():
            relative = np.arcsinh((deltas / np.where(cyclic, cycles, 1.0) - 1) / _SHARPNESS)
            bins = np.clip(np.rint((relative - _LOW) / _BIN), 0, _RELATIVE_BINS - 1)
            np.copyto(ids, (bins + self._first_relative).astype(np.int64), where=cyclic)
        ids[deltas < 0] = _DELTA_NONE
        return ids

    def _log_ids(self, deltas: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        logs = np.log(np.maximum(deltas, _LOG_LOW_NS) / _LOG_LOW_NS) / math.log(_LOG_HIGH_NS / _LOG_LOW_NS)
        return self._first_log + np.clip(logs * _LOG_BINS, 0, _LOG_BINS - 1).astype(np.int64)

    def delta_ns_of(self, token: int, cycle_ns: int) -> float | None:
        """The delta time in the middle of a delta token's bin; None for a token that is not a delta."""
        if self._first_relative <= token < self._first_log:
            middle = _LOW + (token - self._first_relative) * _BIN
            return cycle_ns * (1 + _SHARPNESS * math.sinh(middle))
        if self._first_log <= token < self._first_name:
            fraction = (token - self._first_log + 0.5) / _LOG_BINS
            return _LOG_LOW_NS * float((_LOG_HIGH_NS / _LOG_LOW_NS) ** fraction)
        return None

    def cycle_ns_of(self, key: str) -> int:
        """The learned cycle of a PDU key; 0 where it has none or is not known."""
        return self._cycles.get(key, 0)

    def key_of(self, token: int) -> str | None:
        """The PDU key of a name token; None for any other token."""
        at = token - self._first_name
        return self._keys[at] if 0 <= at < len(self._keys) else None

    def vocabulary(self) -> dict[str, int]:
        """Token texts to ids, for `tokenizer.json`."""
        texts = [
            *_SPECIALS,
            *(f"<state:{state}>" for state in ACTIVITY_STATES),
            *(f"<delta:relative:{i}>" for i in range(_RELATIVE_BINS)),
            *(f"<delta:log:{i}>" for i in range(_LOG_BINS)),
            *(f"<pdu:{key}>" for key in self._keys),
        ]
        return {text: i for i, text in enumerate(texts)}

    def to_json(self) -> str:
        """`tokenizer.json`: a word-level tokenizer of the tokenizers library over the token texts."""
        tokenizer = Tokenizer(models.WordLevel(self.vocabulary(), unk_token=_SPECIALS[UNKNOWN_TOKEN]))
        tokenizer.pre_tokenizer = pre_tokenizers.Split("\n", "removed")
        return str(tokenizer.to_str(pretty=False))

    def check_json(self, text: str) -> None:
        """Refuse a `tokenizer.json` that gives other ids than this tokenizer.

        Raises:
            BundleError: it is damaged or belongs to other PDUs.
        """
        try:
            vocabulary = Tokenizer.from_str(text).get_vocab()
        except Exception as error:  # the tokenizers library raises bare Exception
            raise BundleError(f"tokenizer.json: {error}") from None
        if vocabulary != self.vocabulary():
            raise BundleError("tokenizer.json: its vocabulary is not that of bundle.json")
