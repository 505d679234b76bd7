"""`tokenizer.json` of tokenizers whose tokens are whole texts, one a line."""

from collections.abc import Mapping

from tokenizers import Tokenizer, models, pre_tokenizers

from ecustream.errors import BundleError

__all__ = ["PAD_TEXT", "UNKNOWN_TEXT", "read_vocabulary", "word_level_json"]

PAD_TEXT, UNKNOWN_TEXT = "<pad>", "<unk>"


def word_level_json(vocabulary: Mapping[str, int]) -> str:
    """A word-level tokenizer of the tokenizers library over token texts to ids; texts end at line ends."""
    tokenizer = Tokenizer(models.WordLevel(dict(vocabulary), unk_token=UNKNOWN_TEXT))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\n", "removed")
    return str(tokenizer.to_str(pretty=False))


def read_vocabulary(text: str) -> dict[str, int]:
    """Token texts to ids of a `tokenizer.json`.

    Raises:
        BundleError: it is damaged.
    """
    try:
        vocabulary: dict[str, int] = Tokenizer.from_str(text).get_vocab()
    except Exception as error:  # the tokenizers library raises bare Exception
        raise BundleError(f"tokenizer.json: {error}") from None
    return vocabulary
