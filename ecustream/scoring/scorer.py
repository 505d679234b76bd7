"""Lines in, surprisal out: one stream scored chunk by chunk over its rolling window."""

from collections.abc import Sequence

import numpy as np
import torch

from ecustream.scores import FIELDS, ScoreBlock
from ecustream.scoring.fields import FieldsTokenizer
from ecustream.scoring.qwen2 import Qwen2, receptive_field
from ecustream.traffic import Line

__all__ = ["Scorer"]


class Scorer:
    """Scores the lines of one stream; the size of the chunks never changes a score.

    Args:
        model: the network.
        tokenizer: turns lines to ids; this scorer owns its state.
        chunk_lines: at most so many lines are computed at once; more are split.
    """

    def __init__(self, model: Qwen2, tokenizer: FieldsTokenizer, chunk_lines: int = 128) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._chunk_lines = chunk_lines
        self._window = model.new_window(max_chunk=3 * chunk_lines)
        self._receptive_field = receptive_field(model.layers, model.window)

    def reset(self) -> None:
        """Start again after a gap in the stream; the next lines are marked as warming."""
        self._window.reset()
        self._tokenizer.reset()

    def score(self, lines: Sequence[Line]) -> ScoreBlock:
        """Score `lines`, which follow those of the previous call."""
        parts = [
            self._score_chunk(lines[i : i + self._chunk_lines])
            for i in range(0, len(lines), self._chunk_lines)
        ]
        if len(parts) == 1:
            return parts[0]
        width = len(FIELDS)
        return ScoreBlock(
            list(lines),
            np.concatenate([p.field_nats for p in parts] or [np.empty((0, width), np.float32)]),
            np.concatenate([p.tokens for p in parts] or [np.empty(0, np.int64)]),
            np.concatenate([p.expected for p in parts] or [np.empty((0, width), np.int64)]),
            np.concatenate([p.warming for p in parts] or [np.empty(0, np.bool_)]),
        )

    @torch.inference_mode()
    def _score_chunk(self, lines: Sequence[Line]) -> ScoreBlock:
        encoded = self._tokenizer.encode(lines)
        window = self._window
        seen = window.since_reset
        ids = torch.from_numpy(encoded.ids)
        previous = window.last_logits
        if previous is None:
            # Nothing came before the first token: a uniform guess.
            previous = torch.zeros(1, self._model.vocab)
        logits = self._model.logits(ids, window)
        window.last_logits = logits[-1:].clone()
        predicted = torch.log_softmax(torch.cat([previous, logits[:-1]]), dim=1)
        nats = -predicted.gather(1, ids[:, None])[:, 0].numpy()
        best = predicted.argmax(dim=1).numpy()
        count = len(lines)
        field_nats = np.full((count, len(FIELDS)), np.nan, dtype=np.float32)
        expected = np.full((count, len(FIELDS)), -1, dtype=np.int64)
        field_nats[encoded.line_of, encoded.fields] = nats
        expected[encoded.line_of, encoded.fields] = best
        tokens = np.bincount(encoded.line_of, minlength=count)
        # A line is warming if its first token could not yet look back over the whole receptive field.
        first_token = np.concatenate([[0], np.cumsum(tokens)[:-1]]) + seen
        return ScoreBlock(list(lines), field_nats, tokens, expected, first_token < self._receptive_field)
