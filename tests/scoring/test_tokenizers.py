"""The tokenizer of a bundle, by its name."""

import pytest

from ecustream.errors import BundleError
from ecustream.scoring.tokenizers import open_tokenizer
from tests.scoring.addressed import ADDRESSED, ADDRESSED_CYCLES_NS, info_of
from tests.scoring.tiny import make_lines
from training.tokenizers import KINDS, make_tokenizer

LINES = make_lines([(s, d, 1) for s in ADDRESSED[:4] for d in (None, 0, 5_000_000, 1_234_567_890)])


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_opens_from_its_file_and_gives_the_same_tokens(kind: str) -> None:
    """Ids, fields, words and the file itself are those of the tokenizer that was written."""
    made = make_tokenizer(kind, ADDRESSED_CYCLES_NS, lambda: [LINES])
    opened = open_tokenizer(info_of(kind), made.to_json())
    assert opened.name == made.name == kind
    assert opened.vocabulary_size == made.vocabulary_size == len(made.fields_of_tokens())
    assert opened.to_json() == made.to_json()
    theirs, ours = opened.encode(LINES), made.encode(LINES)
    assert theirs.ids.tolist() == ours.ids.tolist()
    assert theirs.fields.tolist() == ours.fields.tolist()
    assert [opened.knows(stream) for stream in ADDRESSED] == [True] * 4 + [False]


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_opens_the_file_of_another(kind: str) -> None:
    """Only `bpe` and `bpe-binned` have files that are the same."""
    for other in KINDS:
        if kind.partition("-")[0] != other.partition("-")[0]:
            text = make_tokenizer(other, ADDRESSED_CYCLES_NS, lambda: [LINES]).to_json()
            with pytest.raises(BundleError, match=r"^tokenizer.json: "):
                open_tokenizer(info_of(kind), text)


def test_names_are_those_of_bundle_json() -> None:
    """The `fields` tokenizer tells PDUs by their names, not their keys."""
    text = make_tokenizer("fields", ADDRESSED_CYCLES_NS, list).to_json()
    assert open_tokenizer(info_of("fields"), text).words(198, ADDRESSED[1]) == "ESC_03"


def test_an_unknown_kind_is_refused() -> None:
    """The sentence has its name."""
    with pytest.raises(BundleError, match=r"bundle.json names an unknown tokenizer 'words'"):
        open_tokenizer(info_of("words"), "{}")
