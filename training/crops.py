"""Data sets of token sequences out of shards: crops from anywhere, and lanes that carry on.

An item depends on the data set's seed and its own number alone, so a resumed run, and one that is spread
over processes, sees the same items.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ecustream.errors import ConfigError, InputError
from ecustream.scoring.tokenizer import UNKNOWN_TOKEN
from training.shards import Shards
from training.splits import Part

__all__ = ["Crops", "Item", "Lanes", "windows_of"]

Item = dict[str, Tensor]
"""`input_ids`, `targets` (the token after each, never masked) and `fields` (of the targets), int64 of shape
(length,); `labelled`, bool (length,): the target belongs to a line that is a known anomaly; `lines`, int64
scalar: how many lines' first tokens are among the targets. Of lanes also `lane`, int64 scalar, and `fresh`,
bool scalar: the lane begins anew here, so that state carried from its last item must be forgotten."""

Int64 = npt.NDArray[np.int64]


def windows_of(parts: Sequence[Part], shards: Shards, length: int) -> Int64:
    """First tokens of consecutive windows of `length` tokens that do not overlap, from each part's start.

    The rest of a part that fills no window is left out.
    """
    starts = [np.empty(0, np.int64)]
    for part in parts:
        first, stop = int(shards.first_token[part.first_line]), int(shards.first_token[part.stop_line])
        starts.append(np.arange(first, stop - length + 1, length, dtype=np.int64))
    return np.concatenate(starts)


class _Tokens(NamedTuple):
    """Tokens in order: id, field, line, whether a line begins there (untold of the first); (n,) each."""

    ids: Int64
    fields: Int64
    line_of: Int64
    firsts: npt.NDArray[np.bool_]

    def kept(self, which: npt.NDArray[np.bool_] | slice) -> "_Tokens":
        return _Tokens(self.ids[which], self.fields[which], self.line_of[which], self.firsts[which])


class _Source:
    """Parts that a sequence of `length` tokens and its last target can be taken from.

    Attributes:
        first_lines: first line of each part.
        first_tokens: its first token.
        stop_tokens: its last token's successor.
        last_lines: the last of its lines from which a whole sequence follows.
    """

    def __init__(self, shards: Shards, parts: Sequence[Part], length: int, mask_tokens: float) -> None:
        if length < 1:
            raise ConfigError(f"a training sequence needs at least one token, not {length}")
        if not 0 <= mask_tokens < 1:
            raise ConfigError(
                f"the share of masked tokens must be at least 0 and below 1, not {mask_tokens:g}"
            )
        self.shards = shards
        self.length = length
        self._mask_tokens = mask_tokens
        lines = np.array(parts, np.int64).reshape(-1, 2)
        tokens = np.asarray(shards.first_token[lines])
        long_enough = tokens[:, 1] - tokens[:, 0] > length
        if not long_enough.any():
            per_line = len(shards.ids) / (len(shards.first_token) - 1)
            raise InputError(
                f"too little traffic to train on: needs pieces of more than {length} tokens "
                f"(about {round(length / per_line)} lines), the longest has "
                f"{max(tokens[:, 1] - tokens[:, 0], default=0)}"
            )
        self.first_lines = lines[long_enough, 0]
        self.first_tokens, self.stop_tokens = tokens[long_enough].T
        self.last_lines = self.line_at(self.stop_tokens - length - 1)

    def line_at(self, tokens: Int64) -> Int64:
        """The line that each token is of."""
        return np.searchsorted(self.shards.first_token, tokens, side="right") - 1

    def read(self, start: int, stop: int) -> _Tokens:
        """The tokens start:stop of the shards."""
        first_line = int(np.searchsorted(self.shards.first_token, start, side="right")) - 1
        # No line is without a token: no more lines than tokens begin here.
        starts = self.shards.first_token[first_line + 1 : first_line + stop - start] - start
        firsts = np.zeros(stop - start, np.bool_)
        firsts[starts[: np.searchsorted(starts, stop - start)]] = True
        line_of = first_line + np.cumsum(firsts)
        span = slice(start, stop)
        return _Tokens(
            self.shards.ids[span].astype(np.int64), self.shards.fields[span].astype(np.int64), line_of, firsts
        )

    def item(self, tokens: _Tokens, random: np.random.Generator) -> Item:
        """An item of `length` + 1 tokens."""
        input_ids = tokens.ids[:-1].copy()
        if self._mask_tokens:
            input_ids[random.random(self.length) < self._mask_tokens] = UNKNOWN_TOKEN
        labelled = self.shards.labelled
        odd = np.zeros(self.length, np.bool_) if labelled is None else labelled[tokens.line_of[1:]]
        return {
            "input_ids": torch.from_numpy(input_ids),
            "targets": torch.from_numpy(tokens.ids[1:]),
            "labelled": torch.from_numpy(odd),
            "fields": torch.from_numpy(tokens.fields[1:]),
            "lines": torch.tensor(int(np.count_nonzero(tokens.firsts[1:]))),
        }


class Crops(Dataset[Item]):
    """Sequences from random lines on, some lines left out and some input tokens hidden.

    Parts are drawn by their tokens. A part's last whole sequence, which may begin within a line, is drawn
    like any other, so that every token of a part but its first can be a target, as long as no line is longer
    than a sequence.

    Args:
        shards: where the tokens are.
        parts: those shorter than a sequence are skipped.
        length: input tokens of an item.
        count: number of items.
        seed: of everything random here, not negative.
        mask_tokens: share of the input tokens that is replaced by `UNKNOWN_TOKEN`.
        drop_lines: up to this share of the lines of an item is left out.

    Raises:
        InputError: no part is long enough.
        ConfigError: a share or the length is impossible.
    """

    def __init__(
        self,
        shards: Shards,
        parts: Sequence[Part],
        length: int,
        count: int,
        seed: int,
        *,
        mask_tokens: float = 0.0,
        drop_lines: float = 0.0,
    ) -> None:
        if not 0 <= drop_lines < 1:
            raise ConfigError(
                f"the share of dropped lines must be at least 0 and below 1, not {drop_lines:g}"
            )
        self._source = _Source(shards, parts, length, mask_tokens)
        self._count = count
        self._seed = seed
        self._drop_lines = drop_lines
        self._tokens_before = np.cumsum(self._source.stop_tokens - self._source.first_tokens)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self._count:
            raise IndexError(index)
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self._seed, index))))
        source = self._source
        at = random.integers(self._tokens_before[-1])
        part = int(np.searchsorted(self._tokens_before, at, side="right"))
        stop = int(source.stop_tokens[part])
        # One more than the lines that a sequence can begin with stands for the part's last sequence.
        line = int(random.integers(source.first_lines[part], source.last_lines[part] + 2))
        last_start = stop - source.length - 1
        start = last_start if line > source.last_lines[part] else int(source.shards.first_token[line])
        tokens = self._without_some_lines(start, stop, random) if self._drop_lines else None
        if tokens is None:
            tokens = source.read(start, start + source.length + 1)
        return source.item(tokens, random)

    def _without_some_lines(self, start: int, stop: int, random: np.random.Generator) -> _Tokens | None:
        """Length + 1 tokens, a random share of their lines left out; None if the part ends before."""
        needed = self._source.length + 1
        share = random.random() * self._drop_lines
        reach = int(needed / (1 - share) * 1.1) + 8
        while True:
            tokens = self._source.read(start, min(start + reach, stop))
            lines = tokens.line_of - tokens.line_of[0]
            tokens = tokens.kept((random.random(int(lines[-1]) + 1) >= share)[lines])
            if len(tokens.ids) >= needed:
                return tokens.kept(slice(needed))
            if start + reach >= stop:
                return None
            reach *= 2


class _Lap(NamedTuple):
    """A lane's way through all parts: first tokens of its passes, and its steps before the end of each."""

    parts: Int64
    starts: Int64
    steps: Int64


class Lanes(Dataset[Item]):
    """Sequences that continue each other, for models that carry state from one to the next.

    Item i belongs to lane i % lanes and is its step i // lanes. Lanes begin evenly spread over the traffic,
    all shifted by one random amount, and go round through the parts in order, so that together they see
    every stretch equally often; a part is begun anew at a random line among its first `length` tokens. What
    is left at a part's end and fills no item is dropped.

    Args:
        shards: where the tokens are.
        parts: those shorter than a sequence are skipped.
        length: input tokens of an item.
        count: number of items, all lanes together.
        seed: of everything random here, not negative.
        lanes: how many.
        mask_tokens: share of the input tokens that is replaced by `UNKNOWN_TOKEN`.

    Raises:
        InputError: no part is long enough.
        ConfigError: a share, the length or the number of lanes is impossible.
    """

    def __init__(
        self,
        shards: Shards,
        parts: Sequence[Part],
        length: int,
        count: int,
        seed: int,
        lanes: int,
        *,
        mask_tokens: float = 0.0,
    ) -> None:
        if lanes < 1:
            raise ConfigError(f"at least one lane is needed, not {lanes}")
        self._source = source = _Source(shards, parts, length, mask_tokens)
        self._count = count
        self._seed = seed
        self._lanes = lanes
        # A part is begun anew at one of these lines.
        last = np.minimum(source.line_at(source.first_tokens + length - 1), source.last_lines)
        self._beginnings = last - source.first_lines + 1
        self._steps_before: list[list[int]] = [[0] for _ in range(lanes)]
        self._laps: dict[int, tuple[int, _Lap]] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self._count:
            raise IndexError(index)
        step, lane = divmod(index, self._lanes)
        start, fresh = self._place(lane, step)
        source = self._source
        # A third number: the items' draws must not be those of the laps.
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self._seed, index, 1))))
        item = source.item(source.read(start, start + source.length + 1), random)
        return item | {"lane": torch.tensor(lane), "fresh": torch.tensor(fresh)}

    def _place(self, lane: int, step: int) -> tuple[int, bool]:
        """First token of a lane's step, and whether the lane begins anew there."""
        before = self._steps_before[lane]
        while before[-1] <= step:
            before.append(before[-1] + int(self._lap(lane, len(before) - 1).steps[-1]))
        number = bisect_right(before, step) - 1
        kept = self._laps.get(lane)
        lap = kept[1] if kept is not None and kept[0] == number else self._lap(lane, number)
        self._laps[lane] = number, lap
        step -= before[number]
        at = int(np.searchsorted(lap.steps, step, side="right"))
        in_part = step - (int(lap.steps[at - 1]) if at else 0)
        return int(lap.starts[at]) + in_part * self._source.length, in_part == 0

    def _lap(self, lane: int, number: int) -> _Lap:
        source = self._source
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self._seed, lane, number, 2))))
        first_part, first_start = self._beginning(lane)
        parts = np.roll(np.arange(len(source.first_lines)), -first_part)
        lines = source.first_lines + (random.random(len(parts)) * self._beginnings).astype(np.int64)
        starts = source.shards.first_token[lines[parts]]
        if number == 0:
            starts[0] = first_start
        steps = np.cumsum((source.stop_tokens[parts] - starts - 1) // source.length)
        return _Lap(parts, starts, steps)

    def _beginning(self, lane: int) -> tuple[int, int]:
        """The part and the token that a lane begins at."""
        source = self._source
        random = np.random.Generator(np.random.PCG64(np.random.SeedSequence((self._seed, 3))))
        stops = np.cumsum(source.stop_tokens - source.first_tokens)
        at = int((lane + random.random()) / self._lanes * stops[-1])
        part = int(np.searchsorted(stops, at, side="right"))
        token = int(source.stop_tokens[part] - (stops[part] - at))
        line = min(
            int(np.searchsorted(source.shards.first_token, token, side="right")) - 1,
            int(source.last_lines[part]),
        )
        return part, int(source.shards.first_token[line])
