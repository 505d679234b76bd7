"""The tokenizer of a bundle, by its name in `bundle.json`."""

from ecustream.errors import BundleError
from ecustream.scoring.bpe import BpeTokenizer
from ecustream.scoring.fields import FieldsTokenizer
from ecustream.scoring.manifest import BundleInfo
from ecustream.scoring.rows import RowTokenizer
from ecustream.scoring.tokenizer import LineTokenizer

__all__ = ["open_tokenizer"]


def open_tokenizer(info: BundleInfo, text: str) -> LineTokenizer:
    """The tokenizer that a bundle was made with, in its initial state.

    Args:
        info: says which one it is, and the cycles of the PDUs.
        text: of `tokenizer.json`.

    Raises:
        BundleError: there is no tokenizer of that name, or the text is damaged or another tokenizer's.
    """
    cycles_ns = {pdu.key: pdu.cycle_ns for pdu in info.pdus}
    match info.tokenizer:
        case "fields":
            tokenizer = FieldsTokenizer(cycles_ns, {pdu.key: pdu.name for pdu in info.pdus})
            tokenizer.check_json(text)
            return tokenizer
        case "bpe" | "bpe-binned" as bpe:
            return BpeTokenizer.from_json(bpe, cycles_ns, text)
        case "group" | "row" as row:
            return RowTokenizer.from_json(row, cycles_ns, text)
        case unknown:
            raise BundleError(f"bundle.json names an unknown tokenizer {unknown!r}")
