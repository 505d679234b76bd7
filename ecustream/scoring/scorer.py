"""Lines in, surprisal out: any number of streams scored together, each with a state of its own."""

from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from ecustream.scores import FIELDS, ScoreBlock
from ecustream.scoring.network import AnyNetwork, StreamState, Surprisal
from ecustream.scoring.tokenizer import Encoded, LineTokenizer
from ecustream.stages import StageClock
from ecustream.traffic import Line

__all__ = ["ScoredStream", "Scorer"]

Ids = npt.NDArray[np.int64]


class ScoredStream:
    """What is remembered of one stream: one interface's traffic, or one trace's."""

    def __init__(self, tokenizer: LineTokenizer, state: StreamState) -> None:
        self.tokenizer = tokenizer
        self.state = state

    def reset(self) -> None:
        """Start again after a gap in the stream; the next lines are marked as warming."""
        self.state.reset()
        self.tokenizer.reset()


class Scorer:
    """Scores the lines of streams; how they are cut into calls never changes a score.

    Args:
        network: scores tokens.
        new_tokenizer: makes a tokenizer in its initial state, one for each stream.
        clock: told how long tokenization and the network take.
    """

    def __init__(
        self,
        network: AnyNetwork,
        new_tokenizer: Callable[[], LineTokenizer],
        clock: StageClock | None = None,
    ) -> None:
        self._network = network
        self._new_tokenizer = new_tokenizer
        self._clock = clock or StageClock(enabled=False)

    def open_stream(self) -> ScoredStream:
        """A new stream, of which nothing is known yet."""
        return ScoredStream(self._new_tokenizer(), self._network.new_stream())

    def score(self, batch: Sequence[tuple[ScoredStream, Sequence[Line]]]) -> list[ScoreBlock]:
        """Score lines that follow those of the previous call.

        Args:
            batch: streams, none twice, each with its next lines.

        Returns:
            A block for each stream, in the order of `batch`.
        """
        count = sum(len(lines) for _, lines in batch)
        with self._clock.stage("tokenization", count):
            encoded = [stream.tokenizer.encode(lines) for stream, lines in batch]
        with self._clock.stage("model", count):
            seen = [stream.state.since_reset for stream, _ in batch]
            said = self._surprisal([stream for stream, _ in batch], encoded)
        return [self._block(batch[i][1], encoded[i], said[i], seen[i]) for i in range(len(batch))]

    def _surprisal(self, streams: Sequence[ScoredStream], encoded: Sequence[Encoded]) -> list[Surprisal]:
        """The network takes at most `max_chunk` tokens of a stream at once, so long chunks take turns."""
        step = self._network.max_chunk
        longest = max((len(e.ids) for e in encoded), default=0)
        turns = [
            self._turn(streams, [e.ids[first : first + step] for e in encoded])
            for first in range(0, max(longest, 1), step)
        ]
        if len(turns) == 1:
            return turns[0]
        return [
            Surprisal(np.concatenate([s.nats for s in said]), np.concatenate([s.best for s in said]))
            for said in zip(*turns, strict=True)
        ]

    def _turn(self, streams: Sequence[ScoredStream], parts: Sequence[Ids]) -> list[Surprisal]:
        states = [(stream.state, len(part)) for stream, part in zip(streams, parts, strict=True)]
        if len(parts) == 1:
            return [self._network.score(parts[0], states)]
        said = self._network.score(np.concatenate([np.empty(0, np.int64), *parts]), states)
        ends = list(accumulate(len(part) for part in parts))
        cuts = [slice(end - len(part), end) for end, part in zip(ends, parts, strict=True)]
        return [Surprisal(said.nats[cut], said.best[cut]) for cut in cuts]

    def _block(self, lines: Sequence[Line], encoded: Encoded, said: Surprisal, seen: int) -> ScoreBlock:
        count = len(lines)
        field_nats = np.full((count, len(FIELDS)), np.nan, dtype=np.float32)
        expected = np.full((count, len(FIELDS)), -1, dtype=np.int64)
        field_nats[encoded.line_of, encoded.fields] = said.nats
        expected[encoded.line_of, encoded.fields] = said.best
        if np.count_nonzero(expected >= 0) < len(said.best):
            _add_up(field_nats, expected, encoded, said.nats)
        tokens = np.bincount(encoded.line_of, minlength=count)
        # A line is warming if its first token could not yet look back as far as in a long stream.
        first_token = np.cumsum(tokens) - tokens + seen
        return ScoreBlock(
            list(lines), field_nats, tokens, expected, first_token < self._network.warming_tokens
        )


def _add_up(
    field_nats: npt.NDArray[np.float32], expected: Ids, encoded: Encoded, nats: npt.NDArray[np.float32]
) -> None:
    """Where a field has several tokens, put the sum of their nats, and that no one token was expected."""
    cells = encoded.line_of * field_nats.shape[1] + encoded.fields
    several = (np.bincount(cells, minlength=field_nats.size) > 1).reshape(field_nats.shape)
    sums = np.bincount(cells, nats, field_nats.size).reshape(field_nats.shape)
    field_nats[several] = sums[several]
    expected[several] = -1
