"""The tokenizers `group` and `row` against texts that are looked up one by one."""

import functools
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from ecustream.errors import BundleError
from ecustream.scores import FIELD_DELTA, FIELD_NAME
from ecustream.scoring.deltas import BIN_NAMES, bins_of
from ecustream.scoring.rows import RowKind, RowTokenizer
from ecustream.traffic import Line, Stream
from tests.scoring.addressed import ADDRESSED, ADDRESSED_CYCLES_NS, ADDRESSED_LINES
from tests.scoring.tiny import make_line, make_lines
from tests.scoring.traffic import chunks
from training.tokenizers import make_tokenizer

KINDS: tuple[RowKind, ...] = ("group", "row")
ROUND_NS = (None, 0, 1000, 10_000_000, 1_000_000_000)
SEEN = make_lines([(stream, delta_ns, 1) for stream in ADDRESSED[:4] for delta_ns in ROUND_NS])
ESC = ADDRESSED[0]


@functools.cache
def learned(kind: str) -> RowTokenizer:
    """A tokenizer that has seen a few delta times of the known streams, in normal operation only."""
    tokenizer = make_tokenizer(kind, ADDRESSED_CYCLES_NS, lambda: [SEEN])
    assert isinstance(tokenizer, RowTokenizer)
    return tokenizer


def texts_of(line: Line, kind: str) -> list[str]:
    """The texts of a line's tokens, from the documentation alone."""
    s = line.stream
    columns = (s.name, s.source, s.src, s.sport, s.dst, s.dport)
    texts = [str(c).replace("%", "%25").replace(" ", "%20").replace("\n", "%0A") for c in columns]
    delta_ns = np.array([-1.0 if line.delta_ns is None else line.delta_ns])
    delta_bin = bins_of(delta_ns, np.array([ADDRESSED_CYCLES_NS.get(s.key, 0)]))[0]
    rest = f"{line.state} {BIN_NAMES[delta_bin]}"
    if kind == "row":
        return [f"<row:{' '.join(texts)} {rest}>"]
    return [f"<pdu:{texts[0]}>", f"<rest:{' '.join(texts[1:])} {rest}>"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(lines=ADDRESSED_LINES, data=st.data())
def test_the_library_gives_the_same_ids_for_the_texts(
    kind: str, lines: list[Line], data: st.DataObject
) -> None:
    """However lines are chunked; a combination that never came is unknown."""
    tokenizer = learned(kind).fresh()
    library = Tokenizer.from_str(tokenizer.to_json())
    ids: list[int] = []
    line_of: list[int] = []
    for part in data.draw(chunks(len(lines))):
        encoded = tokenizer.encode(lines[part])
        ids += encoded.ids.tolist()
        line_of += (encoded.line_of + part.start).tolist()
    texts = [text for line in lines for text in texts_of(line, kind)]
    assert ids == library.encode("\n".join(texts)).ids
    seen = {text for line in SEEN for text in texts_of(line, kind)}
    assert [id_ == 1 for id_ in ids] == [text not in seen for text in texts]
    per_line = 2 if kind == "group" else 1
    assert line_of == [i for i in range(len(lines)) for _ in range(per_line)]


def fields_of(kind: str, lines: Sequence[Line]) -> list[int]:
    """Fields of the lines' tokens."""
    fields: list[int] = learned(kind).encode(lines).fields.tolist()
    return fields


def test_the_rest_of_a_group_is_its_delta_time_and_a_row_is_its_name() -> None:
    """So they are scored, and `fields_of_tokens` says the same of each id that can be of one field only."""
    assert fields_of("group", SEEN[:2]) == [FIELD_NAME, FIELD_DELTA] * 2
    assert fields_of("row", SEEN[:2]) == [FIELD_NAME] * 2
    for kind in KINDS:
        tokenizer = learned(kind)
        encoded = tokenizer.encode([*SEEN, make_line(0, ADDRESSED[4], 5)])
        told = tokenizer.fields_of_tokens()
        assert told.shape == (tokenizer.vocabulary_size,)
        assert told[0] == -1
        assert told[1] == (-1 if kind == "group" else FIELD_NAME)
        known = encoded.ids > 1
        assert told[encoded.ids[known]].tolist() == encoded.fields[known].tolist()


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
def test_it_is_read_back_as_it_was(kind: RowKind) -> None:
    """From its file it gives the same ids, and it knows the same PDUs."""
    tokenizer = learned(kind)
    back = RowTokenizer.from_json(kind, ADDRESSED_CYCLES_NS, tokenizer.to_json())
    assert back.name == kind
    assert back.encode(SEEN).ids.tolist() == tokenizer.fresh().encode(SEEN).ids.tolist()
    assert back.vocabulary_size == Tokenizer.from_str(tokenizer.to_json()).get_vocab_size()
    assert [back.knows(stream) for stream in ADDRESSED] == [True] * 4 + [False]
    assert len(back.encode([]).ids) == 0


def words(kind: RowKind, line: Line, token: int, stream: Stream) -> str | None:
    """What one token of a line means for a line of `stream`."""
    return learned(kind).words(int(learned(kind).fresh().encode([line]).ids[token]), stream)


def test_tokens_in_words() -> None:
    """A name is the PDU's name; the time is told where the token is of the very stream."""
    on_time, first = make_line(0, ESC, 10_000_000), make_line(0, ESC, None)
    assert words("group", on_time, 0, ESC) == "ESC_03"
    assert words("group", on_time, 1, ESC) == "10.0 ms"
    assert words("group", on_time, 1, ADDRESSED[1]) is None
    assert words("group", first, 1, ESC) is None
    assert words("row", on_time, 0, ESC) == "ESC_03 after 10.0 ms"
    assert words("row", on_time, 0, ADDRESSED[1]) == "ESC_03"
    assert words("row", first, 0, ESC) == "ESC_03"
    odd = ADDRESSED[2]
    assert words("group", make_line(0, odd, None), 0, ESC) == odd.name
    assert words("row", make_line(0, odd, None), 0, ESC) == odd.name
    for kind in KINDS:
        size = learned(kind).vocabulary_size
        assert [learned(kind).words(token, ESC) for token in (-1, 0, 1, size)] == [None] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_damaged_or_of_another_kind_are_refused(kind: RowKind) -> None:
    """Each is one sentence that names the file."""
    good = learned(kind).to_json()
    other = learned("row" if kind == "group" else "group").to_json()
    fields = make_tokenizer("fields", ADDRESSED_CYCLES_NS, list).to_json()
    gap = good.replace(f'":{learned(kind).vocabulary_size - 1}', '":9999')
    with pytest.raises(BundleError, match="its ids do not count up from 0"):
        RowTokenizer.from_json(kind, ADDRESSED_CYCLES_NS, gap)
    for wrong in ("", "{}", "[]", good[:-1], other, fields, good.replace(" none>", " never>")):
        with pytest.raises(BundleError, match=r"^tokenizer.json: "):
            RowTokenizer.from_json(kind, ADDRESSED_CYCLES_NS, wrong)
    with pytest.raises(BundleError, match=f"it is not that of a {kind} tokenizer"):
        RowTokenizer.from_json(kind, ADDRESSED_CYCLES_NS, good.replace("<pad>", "<padding>"))


def test_texts_that_would_share_an_id_are_refused() -> None:
    """The same text twice, or more of them than there may be."""
    text = "<row:A B C 1 D 2 1 none>"
    with pytest.raises(BundleError, match="not all different"):
        RowTokenizer("row", {}, [text, text])
    with pytest.raises(BundleError, match="too many"):
        RowTokenizer("row", {}, [f"<row:A{i} B C 1 D 2 1 none>" for i in range(65_535)])
    for broken in ("<row:A B C 1 D 2 7 none>", "<row:A B C 1 D 2 x none>", "<row:>"):
        with pytest.raises(BundleError, match="not that of a row tokenizer"):
            RowTokenizer("row", {}, [broken])
