"""The tokenizers `bpe` and `bpe-binned` against the tokenizers library, line by line."""

import functools
import json
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from ecustream.errors import BundleError
from ecustream.scores import FIELD_DELTA, FIELD_NAME, FIELD_STATE
from ecustream.scoring.bpe import BpeKind, BpeTokenizer, bpe_library
from ecustream.scoring.deltas import bins_of, middles_us
from ecustream.traffic import Line
from tests.scoring.addressed import ADDRESSED, ADDRESSED_CYCLES_NS, ADDRESSED_LINES
from tests.scoring.tiny import make_line, make_lines
from tests.scoring.traffic import chunks
from training.tokenizers import make_tokenizer

KNOWN = make_lines([(stream, None, 1) for stream in [ADDRESSED[0], *ADDRESSED[:4]]])
KINDS: tuple[BpeKind, ...] = ("bpe", "bpe-binned")


@functools.cache
def learned(kind: str) -> BpeTokenizer:
    """A tokenizer whose merges come from the known streams."""
    tokenizer = make_tokenizer(kind, ADDRESSED_CYCLES_NS, lambda: [KNOWN], 290)
    assert isinstance(tokenizer, BpeTokenizer)
    return tokenizer


def text_of(line: Line, kind: str) -> str:
    """What a line is to be written as, from the documentation alone."""
    s = line.stream
    columns = (s.name, s.source, s.src, s.sport, s.dst, s.dport)
    texts = [str(c).replace("%", "%25").replace(" ", "%20").replace("\n", "%0A") for c in columns]
    delta = "-"
    if line.delta_ns is not None:
        delta = str(min(round(line.delta_ns / 1000), 10**15 - 1))
        if kind == "bpe-binned":
            cycle_ns = ADDRESSED_CYCLES_NS.get(s.key, 0)
            at = bins_of(np.array([float(line.delta_ns)]), np.array([cycle_ns]))[0]
            delta = str(middles_us(cycle_ns)[at])
    return " ".join([*texts, str(line.state), delta]) + "\n"


def encoded_in(
    tokenizer: BpeTokenizer, lines: Sequence[Line], parts: Sequence[slice]
) -> list[tuple[int, int, int]]:
    """(id, field, line) of each token, the lines given in these parts."""
    out: list[tuple[int, int, int]] = []
    for part in parts:
        e = tokenizer.encode(lines[part])
        out += zip(e.ids.tolist(), e.fields.tolist(), (e.line_of + part.start).tolist(), strict=True)
    return out


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(lines=ADDRESSED_LINES, data=st.data())
def test_the_library_gives_the_same_ids_for_the_text_of_each_line(
    kind: str, lines: list[Line], data: st.DataObject
) -> None:
    """However lines are chunked, line i has the ids of its text, and decoding gives the text back."""
    tokenizer = learned(kind).fresh()
    library = Tokenizer.from_str(tokenizer.to_json())
    tokens = encoded_in(tokenizer, lines, data.draw(chunks(len(lines))))
    expected = [(i, id_) for i, line in enumerate(lines) for id_ in library.encode(text_of(line, kind)).ids]
    assert [(line, id_) for id_, _, line in tokens] == expected
    text = library.decode([id_ for id_, _, _ in tokens], skip_special_tokens=False)
    assert text == "".join(text_of(line, kind) for line in lines)
    assert all(1 < id_ < tokenizer.vocabulary_size for id_, _, _ in tokens)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(lines=ADDRESSED_LINES)
def test_each_token_has_the_field_of_its_column(kind: str, lines: list[Line]) -> None:
    """Six columns are the identity, then the state, then the delta time; what ends a column is of it."""
    tokenizer = learned(kind).fresh()
    library = Tokenizer.from_str(tokenizer.to_json())
    of_tokens = tokenizer.fields_of_tokens()
    encoded = tokenizer.encode(lines)
    for i, line in enumerate(lines):
        mine = encoded.line_of == i
        texts = {
            field: library.decode(list(encoded.ids[mine & (encoded.fields == field)]), False)
            for field in range(3)
        }
        *_, state, delta = text_of(line, kind).split(" ")
        assert texts[FIELD_STATE] == f"{state} "
        assert texts[FIELD_DELTA] == delta
        assert texts[FIELD_NAME] == text_of(line, kind).removesuffix(f"{state} {delta}")
    told = of_tokens[encoded.ids]
    assert ((told == encoded.fields) | (told == -1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_digits_and_columns_are_never_merged(kind: str) -> None:
    """Beyond the single bytes no token has a digit, or anything after a blank."""
    vocabulary = Tokenizer.from_str(learned(kind).to_json()).get_vocab()
    merged = [text for text, id_ in vocabulary.items() if id_ >= 3 + 256]
    assert len(merged) == 290 - 3 - 256
    assert not [text for text in merged if set(text) & set("0123456789")]
    assert not [text for text in merged if "Ġ" in text[:-1]]


def test_specials_and_bytes_have_their_places() -> None:
    """Padding, unknown, the line end, then the bytes in their order."""
    library = bpe_library([])
    assert [library.id_to_token(i) for i in range(3)] == ["<pad>", "<unk>", "\n"]
    assert library.encode("~").ids == [3 + ord("~")]
    assert library.encode("ÿ").ids == [3 + byte for byte in "ÿ".encode()]
    assert library.get_vocab_size() == 259


def test_two_merges_that_give_one_text_share_its_token() -> None:
    """The text of a merge counts once in the vocabulary, as the library counts it."""
    merges = [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")]
    library = bpe_library(merges)
    assert sorted(library.get_vocab().values()) == list(range(259 + 3))
    tokenizer = BpeTokenizer.from_json("bpe", {}, library.to_str())
    assert tokenizer.to_json() == library.to_str()


def test_a_line_is_the_papers_text() -> None:
    """The example line of the paper's columns, in words that can be read off."""
    tokenizer = learned("bpe").fresh()
    ids = tokenizer.encode([make_line(0, ADDRESSED[0], 1_129_400)]).ids.tolist()
    text = Tokenizer.from_str(tokenizer.to_json()).decode(ids, skip_special_tokens=False)
    assert text == "ESC_03 ETH1 fd53:7cb8:383:3::48 42994 ff14::3:7f 42557 1 1129\n"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ADDRESSED[:4]), st.integers(0, 10**12), st.integers(0, 10**12))
def test_binned_lines_differ_where_their_bins_do(stream: object, one_ns: int, other_ns: int) -> None:
    """Two delta times of a PDU have the same tokens just if they fall into the same bin."""
    (s,) = [s for s in ADDRESSED if s is stream]
    ids = [learned("bpe-binned").encode([make_line(0, s, d)]).ids.tolist() for d in (one_ns, other_ns)]
    cycle_ns = ADDRESSED_CYCLES_NS[s.key]
    bins = bins_of(np.array([float(one_ns), float(other_ns)]), np.array([cycle_ns] * 2))
    assert (ids[0] == ids[1]) == (bins[0] == bins[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_one_has_seen_no_stream(kind: str) -> None:
    """The next trace counts its streams from 0 again, and they are others."""
    first = learned(kind).fresh()
    one, other = (make_line(0, msgspec.structs.replace(ADDRESSED[i], index=0), None) for i in (0, 2))
    ids = first.encode([one]).ids.tolist()
    assert (
        first.fresh().encode([other]).ids.tolist()
        == learned(kind).fresh().encode([make_line(0, ADDRESSED[2], None)]).ids.tolist()
        != ids
    )


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_read_back_and_has_no_memory(kind: BpeKind) -> None:
    """From its file, and after a reset, the same lines have the same ids; strangers are told apart."""
    tokenizer = learned(kind).fresh()
    back = BpeTokenizer.from_json(kind, ADDRESSED_CYCLES_NS, tokenizer.to_json())
    assert (back.name, back.to_json()) == (kind, tokenizer.to_json())
    lines = make_lines([(ADDRESSED[4], 7_000_000, 2), (ADDRESSED[2], None, 0), (ADDRESSED[0], 4_980_000, 1)])
    ids = back.encode(lines).ids.tolist()
    back.reset()
    assert back.encode(lines).ids.tolist() == ids == tokenizer.encode(lines).ids.tolist()
    assert [tokenizer.knows(stream) for stream in ADDRESSED] == [True] * 4 + [False]
    assert len(tokenizer.encode([]).ids) == 0
    assert {tokenizer.words(i, ADDRESSED[0]) for i in range(-1, tokenizer.vocabulary_size)} == {None}


def test_a_file_that_cuts_lines_in_another_way_is_refused() -> None:
    """Damage, other kinds of models, and other rules of cutting are one sentence each."""
    good = learned("bpe").to_json()
    for damaged in ("", "{}", "[]", good[:-1]):
        with pytest.raises(BundleError, match=r"^tokenizer.json: "):
            BpeTokenizer.from_json("bpe", {}, damaged)
    fields = make_tokenizer("fields", ADDRESSED_CYCLES_NS, list).to_json()
    other = json.loads(good)
    other["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "[0-9]+"
    for foreign in (fields, json.dumps(other)):
        with pytest.raises(BundleError, match=r"it is not that of a bpe tokenizer"):
            BpeTokenizer.from_json("bpe", {}, foreign)
    # Merges of characters, not of bytes.
    pieces = models.BPE(vocab={"▁": 0, "t": 1, "▁t": 2}, merges=[("▁", "t")])
    with pytest.raises(BundleError, match=r"^tokenizer.json: "):
        BpeTokenizer.from_json("bpe", {}, Tokenizer(pieces).to_str())
