"""The `fields` tokenizer against the formula in its documentation."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from ecustream.errors import BundleError
from ecustream.scores import FIELD_DELTA, FIELD_NAME, FIELD_STATE
from ecustream.scoring.deltas import middle_ns
from ecustream.scoring.fields import FieldsTokenizer
from ecustream.traffic import Line, Stream
from tests.scoring.tiny import CYCLES_NS, make_line, make_lines, make_stream
from tests.scoring.traffic import LINES, STREAMS, chunks, reference_tokens

FAST, SLOW, ON_EVENT, STRANGER, _ = STREAMS
UNKNOWN = 1
EDGE = 1e-9
"""A delta time closer to the edge of its bin than this may round to either side."""


FIRST_DELTA = 6


def delta_token(delta_ns: int, stream: Stream = FAST) -> int:
    """The token of one delta time."""
    return int(FieldsTokenizer(CYCLES_NS).encode([make_line(0, stream, delta_ns)]).ids[-1])


@settings(max_examples=100, deadline=None)
@given(LINES, st.data())
def test_ids_are_those_of_the_formula_line_by_line(lines: list[Line], data: st.DataObject) -> None:
    """Ids, fields and line numbers follow the documented formula however the lines are chunked."""
    tokenizer = FieldsTokenizer(CYCLES_NS)
    ids, fields, line_of = [], [], []
    for part in data.draw(chunks(len(lines))):
        encoded = tokenizer.encode(lines[part])
        assert encoded.ids.dtype == np.int64
        ids += encoded.ids.tolist()
        fields += encoded.fields.tolist()
        line_of += (encoded.line_of + part.start).tolist()
    expected = reference_tokens(lines, CYCLES_NS)
    assert list(zip(fields, line_of, strict=True)) == [(field, line) for _, field, line in expected]
    for token, (position, _, _) in zip(ids, expected, strict=True):
        assert token == int(position) or abs(position - round(position)) < EDGE


def test_a_line_is_its_state_its_name_and_its_delta() -> None:
    """The first line states the activity state, the next ones only name and delta time."""
    encoded = FieldsTokenizer(CYCLES_NS).encode(
        make_lines([(FAST, None, 1), (SLOW, None, 1), (FAST, 10_000_000, 2)])
    )
    states = [FIELD_STATE, FIELD_NAME, FIELD_DELTA]
    assert encoded.fields.tolist() == [*states, *states[1:], *states]
    assert encoded.line_of.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]


def test_the_state_is_told_again_after_a_reset_only() -> None:
    """An unchanged state is not repeated in the next chunk, and is after a reset."""
    tokenizer = FieldsTokenizer(CYCLES_NS)
    counts = [len(tokenizer.encode([make_line(i, FAST, None, state)]).ids) for i, state in enumerate([0, 0])]
    tokenizer.reset()
    counts.append(len(tokenizer.encode([make_line(2, FAST, None, 0)]).ids))
    assert counts == [3, 2, 3]
    assert len(tokenizer.encode([]).ids) == 0
    assert len(tokenizer.encode([make_line(3, FAST, None, 0)]).ids) == 2


def test_a_stream_skipped_at_first_is_known_when_it_comes() -> None:
    """A tokenizer that joins a run late meets streams out of the order of their index."""
    tokenizer = FieldsTokenizer(CYCLES_NS)
    late = tokenizer.encode([make_line(0, SLOW, 1_000_000_000)])
    early = tokenizer.encode([make_line(1, FAST, 10_000_000)])
    assert early.ids.tolist() == [late.ids[1] - 1, late.ids[2]]


def test_a_pdu_that_training_did_not_know_is_unknown() -> None:
    """Every unknown stream has the same token, and its delta time falls into the logarithmic bins."""
    tokenizer = FieldsTokenizer(CYCLES_NS)
    lines = make_lines([(stream, 5_000_000, 1) for stream in (STRANGER, STREAMS[4], ON_EVENT)])
    ids = tokenizer.encode(lines).ids[1:]
    assert ids[0] == ids[2] == UNKNOWN != ids[4]
    assert ids[1] == ids[3] == ids[5]
    assert [tokenizer.knows(s) for s in STREAMS] == [True, True, True, False, False]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([FAST, SLOW, ON_EVENT, STRANGER]), st.integers(0, 2**62), st.integers(0, 2**62))
def test_a_longer_delta_never_has_a_lower_bin(stream: Stream, one_ns: int, other_ns: int) -> None:
    """Bins rise with the delta time, from 0 to longer than any recording."""
    short, long = sorted([one_ns, other_ns])
    assert delta_token(short, stream) <= delta_token(long, stream)


@settings(max_examples=100, deadline=None)
@given(st.integers(-10_000, 10_000), st.sampled_from([1, -1]))
def test_near_the_cycle_a_delta_is_resolved_to_a_third_of_a_percent(off_ns: int, side: int) -> None:
    """Within 0.1 % of the cycle, delta times that are 0.3 % of it apart never share a bin."""
    near = 10_000_000 + off_ns
    assert delta_token(near) != delta_token(near + side * 30_000)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**14))
def test_a_cyclic_delta_is_read_back_within_its_bin(delta_ns: int) -> None:
    """The middle of a bin is off by at most half its width: 0.15 % of the cycle at nominal, 7.5 % far off."""
    cycle_ns = CYCLES_NS["fast"]
    back = middle_ns(delta_token(min(delta_ns, 9_000 * cycle_ns)) - FIRST_DELTA, cycle_ns)
    off = min(delta_ns, 9_000 * cycle_ns) / cycle_ns - 1
    assert back == pytest.approx((1 + off) * cycle_ns, abs=0.075 * (0.02**2 + off**2) ** 0.5 * cycle_ns)


@settings(max_examples=100, deadline=None)
@given(st.integers(1000, 10**12))
def test_a_delta_without_a_cycle_is_read_back_within_its_bin(delta_ns: int) -> None:
    """The middle of a logarithmic bin is off by at most half of one of 64 of nine decades."""
    back = middle_ns(delta_token(delta_ns, ON_EVENT) - FIRST_DELTA, 0)
    assert back == pytest.approx(delta_ns, rel=10 ** (9 / 128) - 1 + 1e-9)


def test_every_token_says_what_it_is_or_nothing() -> None:
    """Names and delta times have words, in the cycle of the line's PDU; specials and states have none."""
    tokenizer = FieldsTokenizer(CYCLES_NS, {"fast": "ESC_03"})
    words = [tokenizer.words(token, FAST) for token in range(-1, tokenizer.vocabulary_size + 1)][1:-1]
    assert words[198:] == ["ESC_03", "slow", "on_event"]
    assert words[:6] == [None] * 6
    assert None not in words[6:]
    assert (words[6 + 32], tokenizer.words(6 + 32, SLOW)) == ("10.0 ms", "1.00 s")
    assert words[134 + 63] == tokenizer.words(134 + 63, SLOW) == "850.53 s"
    assert [tokenizer.words(token, FAST) for token in (-1, tokenizer.vocabulary_size)] == [None, None]


@settings(max_examples=30, deadline=None)
@given(LINES)
def test_tokens_have_the_fields_that_are_told_of_them(lines: list[Line]) -> None:
    """Each token of a line is of the one field that `fields_of_tokens` says."""
    tokenizer = FieldsTokenizer(CYCLES_NS)
    encoded = tokenizer.encode(lines)
    fields = tokenizer.fields_of_tokens()
    assert fields.shape == (tokenizer.vocabulary_size,)
    assert fields[encoded.ids].tolist() == encoded.fields.tolist()


def test_a_fresh_one_has_the_vocabulary_and_no_memory() -> None:
    """It gives the same tokens and words from the start, whatever the first has been through."""
    first = FieldsTokenizer(CYCLES_NS, {"fast": "ESC_03"})
    lines = make_lines([(FAST, None, 1), (SLOW, None, 1), (STRANGER, 5, 1)])
    ids = first.encode(lines).ids.tolist()
    fresh = first.fresh()
    assert fresh.encode(lines).ids.tolist() == ids != first.encode(lines).ids.tolist()
    assert fresh.vocabulary_size == first.vocabulary_size
    assert fresh.words(198, FAST) == "ESC_03"


@settings(max_examples=30, deadline=None)
@given(LINES)
def test_tokenizer_json_gives_the_same_ids(lines: list[Line]) -> None:
    """The tokenizers library, from tokenizer.json, encodes the texts of the tokens to the same ids."""
    ours = FieldsTokenizer(CYCLES_NS)
    theirs = Tokenizer.from_str(ours.to_json())
    texts = {token: text for text, token in ours.vocabulary().items()}
    ids = ours.encode(lines).ids.tolist()
    assert theirs.encode("\n".join(texts[token] for token in ids)).ids == ids
    assert theirs.get_vocab_size() == ours.vocabulary_size


def test_tokenizer_json_opens_from_a_file(tmp_path: Path) -> None:
    """Keys with spaces, bars, brackets and umlauts survive; a text it does not know is unknown."""
    keys = ["ESC 03|ETH1|[fd53::48]:42994|[ff14::3:7f]:42557", "Tür_öffner", "<unk>", "0x1F"]
    ours = FieldsTokenizer(dict.fromkeys(keys, 0))
    path = tmp_path / "tokenizer.json"
    path.write_text(ours.to_json(), encoding="utf-8")
    theirs = Tokenizer.from_file(str(path))
    assert [theirs.token_to_id(f"<pdu:{key}>") for key in keys] == [198, 199, 200, 201]
    assert theirs.encode("\n".join(f"<pdu:{key}>" for key in keys)).ids == [198, 199, 200, 201]
    assert theirs.encode("never seen").ids == [UNKNOWN]


def test_the_tokenizer_json_of_other_pdus_is_refused() -> None:
    """Names in another order would silently mean other PDUs."""
    ours = FieldsTokenizer(CYCLES_NS)
    ours.check_json(ours.to_json())
    other = FieldsTokenizer(dict(reversed(CYCLES_NS.items())))
    with pytest.raises(BundleError, match=r"tokenizer.json: its vocabulary is not that of bundle.json"):
        ours.check_json(other.to_json())
    for damaged in ("", "{}", "[]", ours.to_json()[:-1]):
        with pytest.raises(BundleError, match=r"tokenizer.json: "):
            ours.check_json(damaged)


def test_streams_of_one_key_share_a_name_token() -> None:
    """Where the key is the name alone, a PDU seen on two socket pairs is one PDU."""
    lines = [make_line(i, make_stream(i, "fast"), 10_000_000) for i in range(2)]
    ids = FieldsTokenizer(CYCLES_NS).encode(lines).ids
    assert ids[1] == ids[3]
