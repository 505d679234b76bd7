"""Tokenizers of every kind, learned from traffic, and what they make of it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec
import numpy as np
from tokenizers import pre_tokenizers, trainers

from ecustream.errors import ConfigError
from ecustream.scoring.bpe import FEWEST_TOKENS, BpeKind, BpeTokenizer, bpe_library, identity_text
from ecustream.scoring.deltas import bins_of, deltas_of
from ecustream.scoring.fields import FieldsTokenizer
from ecustream.scoring.rows import MOST_TOKENS, RowKind, RowTokenizer, name_text, rest_text
from ecustream.scoring.tokenizer import UNKNOWN_TOKEN, LineTokenizer
from ecustream.traffic import Line, Stream

__all__ = ["KINDS", "TokenizerReport", "describe", "make_tokenizer"]

KINDS = ("fields", "bpe", "bpe-binned", "group", "row")
_LINES_TO_MERGE = 200_000

Batches = Callable[[], Iterable[Sequence[Line]]]


def make_tokenizer(
    kind: str, cycles_ns: Mapping[str, int], batches: Batches, vocabulary: int = 408
) -> LineTokenizer:
    """Make a tokenizer for traffic; the same traffic gives the same tokenizer.

    Args:
        kind: one of `KINDS`.
        cycles_ns: learned cycle of every known PDU key; 0 where it has none.
        batches: starts a fresh pass over the traffic to learn from; not called for `fields`. The merges of
            `bpe` are learned from its first 200,000 lines.
        vocabulary: token ids of `bpe` and `bpe-binned`, fewer where the traffic has no more to merge.

    Raises:
        ConfigError: there is no such kind, or the vocabulary cannot hold all bytes.
    """
    match kind:
        case "fields":
            return FieldsTokenizer(cycles_ns)
        case "bpe" | "bpe-binned" as bpe:
            return _learn_bpe(bpe, cycles_ns, batches, vocabulary)
        case "group" | "row" as row:
            return _learn_rows(row, cycles_ns, batches)
        case _:
            raise ConfigError(f"there is no tokenizer {kind!r}, only {', '.join(KINDS)}")


def _learn_bpe(
    kind: BpeKind, cycles_ns: Mapping[str, int], batches: Batches, vocabulary: int
) -> BpeTokenizer:
    if vocabulary < FEWEST_TOKENS:
        raise ConfigError(f"{kind} needs a vocabulary of {FEWEST_TOKENS} or more, not {vocabulary}")
    # State and delta time are single digits, with which nothing is merged.
    texts: Counter[str] = Counter()
    for lines in batches():
        counted = Counter(line.stream.index for line in lines)
        streams = {line.stream.index: line.stream for line in lines}
        for index, count in counted.items():
            texts[identity_text(streams[index])] += count
        if texts.total() >= _LINES_TO_MERGE:
            break
    library = bpe_library([])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 3,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator(texts.elements(), trainer)
    merges = msgspec.json.decode(library.to_str(), type=_LibraryFile).model.merges
    return BpeTokenizer(kind, bpe_library(merges), cycles_ns)


class _LibraryModel(msgspec.Struct):
    merges: list[tuple[str, str]]


class _LibraryFile(msgspec.Struct):
    model: _LibraryModel


def _learn_rows(kind: RowKind, cycles_ns: Mapping[str, int], batches: Batches) -> RowTokenizer:
    counts: Counter[str] = Counter()
    for lines in batches():
        for (stream, state, delta_bin), count in _combinations(lines, cycles_ns):
            counts[rest_text(kind, stream, state, delta_bin)] += count
            if kind == "group":
                counts[name_text(stream)] += count
    ordered = sorted(counts, key=lambda text: (-counts[text], text))
    return RowTokenizer(kind, cycles_ns, ordered[: MOST_TOKENS - 2])


def _combinations(
    lines: Sequence[Line], cycles_ns: Mapping[str, int]
) -> Iterator[tuple[tuple[Stream, int, int], int]]:
    """Each (stream, state, bin of the delta time) among the lines, with its count."""
    cycles = np.array([cycles_ns.get(line.stream.key, 0) for line in lines])
    bins = bins_of(deltas_of(lines), cycles).tolist()
    # An index means a stream only within one trace, and no batch has lines of two.
    streams = {line.stream.index: line.stream for line in lines}
    counted = Counter((line.stream.index, line.state, b) for line, b in zip(lines, bins, strict=True))
    for (index, state, delta_bin), count in counted.items():
        yield (streams[index], state, delta_bin), count


class TokenizerReport(msgspec.Struct, frozen=True):
    """What a tokenizer makes of traffic.

    Attributes:
        name: its kind.
        vocabulary: number of token ids.
        tokens_per_line: mean.
        unknown_lines_share: share of lines with an unknown token, 0 to 1.
        lines: how many there were.
    """

    name: str
    vocabulary: int
    tokens_per_line: float
    unknown_lines_share: float
    lines: int


def describe(tokenizer: LineTokenizer, drives: Iterable[Iterable[Sequence[Line]]]) -> TokenizerReport:
    """Count what a tokenizer makes of drives, given in batches, each from the tokenizer's initial state."""
    tokens = unknown = count = 0
    for batches in drives:
        current = tokenizer.fresh()
        for lines in batches:
            encoded = current.encode(lines)
            tokens += len(encoded.ids)
            unknown += len(np.unique(encoded.line_of[encoded.ids == UNKNOWN_TOKEN]))
            count += len(lines)
    per_line, share = (tokens / count, unknown / count) if count else (0.0, 0.0)
    return TokenizerReport(tokenizer.name, tokenizer.vocabulary_size, per_line, share, count)
