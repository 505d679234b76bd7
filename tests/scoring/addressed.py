"""Streams with identities that are hard to write down, lines of them, and a bundle.json that knows them."""

from hypothesis import strategies as st

from ecustream.scoring.manifest import BundleInfo, BundlePdu
from ecustream.traffic import Stream
from tests.scoring.bundles import bundle_info
from tests.scoring.tiny import make_lines
from tests.scoring.traffic import DELTAS_NS, STATES

__all__ = ["ADDRESSED", "ADDRESSED_CYCLES_NS", "ADDRESSED_LINES", "info_of"]

ADDRESSED = [
    Stream(0, "a", "ESC_03", "ETH1", "fd53:7cb8:383:3::48", 42994, "ff14::3:7f", 42557),
    Stream(1, "b", "ESC_03", "ETH1", "fd53:7cb8:383:7::48", 42994, "ff14::7:7f", 42557),
    Stream(2, "c", "Tür öffner\n100%\t日本", "bus 0", "10.0.0.1", 1, "239.0.0.1", 65535),
    Stream(3, "d", "<unk>", "<pad>", "-", 0, "", 0),
    Stream(4, "stranger", "never seen", "ETH2", "10.0.0.9", 9, "10.0.0.8", 8),
]
"""Streams of four known PDUs, and of one that is not."""
ADDRESSED_CYCLES_NS = {"a": 5_000_000, "b": 1_000_000_000, "c": 0, "d": 100_000}

ADDRESSED_LINES = st.lists(st.tuples(st.sampled_from(ADDRESSED), DELTAS_NS, STATES), max_size=30).map(
    make_lines
)
"""Lines in any order of streams."""


def info_of(kind: str) -> BundleInfo:
    """`bundle.json` of a bundle with this tokenizer."""
    pdus = [BundlePdu(s.key, s.name, s.source, ADDRESSED_CYCLES_NS[s.key]) for s in ADDRESSED[:4]]
    info = bundle_info(pdus)
    info.tokenizer = kind
    return info
