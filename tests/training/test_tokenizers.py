"""Tokenizers learned from traffic, against counts of its lines by hand."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from ecustream.decode.names import NameTable
from ecustream.errors import ConfigError
from ecustream.scoring.bpe import identity_text
from ecustream.scoring.rows import name_text
from ecustream.traffic import Line, Stream
from tests.scoring.tiny import CYCLES_NS, make_line, make_lines, make_stream
from training import tokenizers
from training.calibrate import IntervalLearner
from training.tokenizers import KINDS, describe, make_tokenizer
from training.traces import Traces

FAST, SLOW = make_stream(0, "fast"), make_stream(1, "slow")
ROWS: list[tuple[Stream, int | None, int]] = [
    *[(FAST, 10_000_000, 1)] * 5,
    *[(SLOW, 1_000_000_000, 1)] * 3,
    (FAST, 20_000_000, 1),
    (SLOW, 1_000_000_000, 2),
]
LINES = make_lines(ROWS)


def test_rows_are_counted_and_the_most_frequent_come_first() -> None:
    """What is equally frequent is in the order of its text."""
    backwards = LINES[::-1]
    vocabulary = Tokenizer.from_str(
        make_tokenizer("row", CYCLES_NS, lambda: [backwards]).to_json()
    ).get_vocab()
    fast, slow = (f"{key} ETH1 10.0.0.1 42994 239.0.0.1 42557" for key in ("fast", "slow"))
    assert sorted(vocabulary, key=vocabulary.__getitem__)[2:] == [
        f"<row:{fast} 1 relative:32>",
        f"<row:{slow} 1 relative:32>",
        f"<row:{fast} 1 relative:64>",
        f"<row:{slow} 2 relative:32>",
    ]


def test_groups_count_names_and_all_else_apart() -> None:
    """Two PDUs of the same addresses share what is not their name."""
    vocabulary = Tokenizer.from_str(make_tokenizer("group", CYCLES_NS, lambda: [LINES]).to_json()).get_vocab()
    rest = "ETH1 10.0.0.1 42994 239.0.0.1 42557"
    assert sorted(vocabulary, key=vocabulary.__getitem__)[2:] == [
        f"<rest:{rest} 1 relative:32>",
        name_text(FAST),
        name_text(SLOW),
        f"<rest:{rest} 1 relative:64>",
        f"<rest:{rest} 2 relative:32>",
    ]


def test_a_vocabulary_that_would_be_too_large_is_what_is_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rarest combinations are left out, and are unknown."""
    monkeypatch.setattr(tokenizers, "MOST_TOKENS", 4)
    tokenizer = make_tokenizer("row", CYCLES_NS, lambda: [LINES])
    assert tokenizer.encode(LINES).ids.tolist() == [2] * 5 + [3] * 3 + [1, 1]


def test_a_stream_index_means_another_stream_in_the_next_batch() -> None:
    """Traces count their streams from 0 each; what is learned goes by their content."""
    other = make_stream(0, "slow")
    batches = [LINES[:5], [make_line(0, other, 1_000_000_000)] * 7]
    tokenizer = make_tokenizer("row", CYCLES_NS, lambda: batches)
    assert [int(tokenizer.fresh().encode(lines[:1]).ids[0]) for lines in batches] == [3, 2]
    # "ab" is three times as frequent as "cd", which the later batch alone has.
    often, seldom = make_stream(0, "abababab"), make_stream(0, "cdcdcdcd")
    batches = [[make_line(0, often, None)] * 3, [make_line(0, seldom, None)]]
    library = Tokenizer.from_str(make_tokenizer("bpe", {}, lambda: batches, 259 + 1).to_json())
    assert library.id_to_token(259) == "ab"


def test_merges_are_those_of_a_plain_count() -> None:
    """The first merge joins the most frequent pair of characters of the identities, weighted by lines."""
    streams = [make_stream(0, "xyxy"), make_stream(1, "zw_zw_zw")]
    lines = [make_line(0, streams[0], None)] * 8 + [make_line(0, streams[1], None)] * 5
    pairs: Counter[str] = Counter()
    for line in lines:
        for column in identity_text(line.stream).split(" "):
            for i in range(len(column) - 1):
                if not any(c.isdigit() for c in column[i : i + 2]):
                    pairs[column[i : i + 2]] += 1
    library = Tokenizer.from_str(make_tokenizer("bpe", {}, lambda: [lines], 260).to_json())
    first, count = pairs.most_common(1)[0]
    assert (library.id_to_token(259), count) == (first, 16)


def test_only_the_first_lines_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long trace is not read to its end for merges."""
    monkeypatch.setattr(tokenizers, "_LINES_TO_MERGE", 4)
    read = []

    def batches() -> Iterator[list[Line]]:
        for lines in (LINES[:2], LINES[2:4], LINES[4:6]):
            read.append(lines)
            yield lines

    make_tokenizer("bpe", CYCLES_NS, batches)
    assert len(read) == 2


def test_what_cannot_be_made_is_refused() -> None:
    """An unknown kind, and a vocabulary that does not hold the bytes."""
    with pytest.raises(ConfigError, match="there is no tokenizer 'word', only fields, bpe, bpe-binned"):
        make_tokenizer("word", CYCLES_NS, lambda: [LINES])
    with pytest.raises(ConfigError, match="bpe-binned needs a vocabulary of 259 or more, not 258"):
        make_tokenizer("bpe-binned", CYCLES_NS, lambda: [LINES], 258)
    assert make_tokenizer("bpe", CYCLES_NS, lambda: [LINES], 259).vocabulary_size == 259


def test_a_report_counts_tokens_and_unknown_lines() -> None:
    """A line with two unknown tokens is one; each trace begins in the initial state."""
    tokenizer = make_tokenizer("group", CYCLES_NS, lambda: [LINES])
    strange = make_line(10, make_stream(2, "strange"), 77)
    report = describe(tokenizer, [[LINES, [strange, make_line(11, FAST, 123)]]])
    assert (report.name, report.vocabulary, report.lines) == ("group", 7, 12)
    assert (report.tokens_per_line, report.unknown_lines_share) == (2.0, 2 / 12)
    fields = make_tokenizer("fields", CYCLES_NS, list)
    fields.encode(LINES)
    # State tokens: at the start of each of the two traces, and where the last line's state changes.
    assert describe(fields, [[LINES], [LINES]]).tokens_per_line == (2 * 20 + 4) / 20
    assert describe(fields, [[LINES[:4], LINES[4:]]]).tokens_per_line == (20 + 2) / 10
    assert describe(fields, []).lines == 0
    # The ends of two drives, whose streams have the same index: each is its own.
    ends = [[[make_line(8, make_stream(0, name), 5)]] for name in ("slow", "strange")]
    assert describe(tokenizer, ends).unknown_lines_share == 1
    assert describe(fields, ends).unknown_lines_share == 1 / 2


@pytest.mark.parametrize("kind", KINDS)
def test_simulated_traffic_is_known_throughout(kind: str, clean_trace: Path) -> None:
    """What was learned from a trace has no unknown token in it, and is the same when learned again."""
    traces = Traces([clean_trace], NameTable.load(clean_trace.with_suffix(".names.csv")))
    learner = IntervalLearner()
    for _, batches in traces.read("reading"):
        for lines in batches:
            learner.add(lines)
    learner.end_piece()
    cycles_ns = {key: bounds.cycle_ns for key, bounds in sorted(learner.bounds().items())}

    def read() -> Iterator[list[Line]]:
        for _, batches in traces.read("learning", cycles_ns):
            yield from batches

    tokenizer = make_tokenizer(kind, cycles_ns, read)
    report = describe(tokenizer, [read()])
    assert report.unknown_lines_share == 0
    low, high = {"fields": (2, 2.01), "group": (2, 2), "row": (1, 1)}.get(kind, (40, 60))
    assert low <= report.tokens_per_line <= high
    assert 150 < report.vocabulary <= 408 if kind != "group" else report.vocabulary < 400
    assert make_tokenizer(kind, cycles_ns, read).to_json() == tokenizer.to_json()
