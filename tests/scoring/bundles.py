"""A small bundle with a random model, as contents of its files."""

import functools
from collections.abc import Sequence

from safetensors.torch import save

from ecustream.scoring.fields import FieldsTokenizer
from ecustream.scoring.manifest import BUNDLE_FORMAT, BundleInfo, BundlePdu, fingerprint
from ecustream.traffic import ACTIVITY_STATES
from tests.scoring.tiny import CYCLES_NS, oracle

__all__ = ["PDUS", "bundle_files", "bundle_info"]

PDUS = [BundlePdu(key, key.upper(), "ETH1", cycle_ns) for key, cycle_ns in CYCLES_NS.items()]


@functools.cache
def bundle_files(names: int = len(PDUS)) -> dict[str, bytes]:
    """Contents of the four files for a model that knows so many PDUs; the tokenizer knows `PDUS`."""
    tokenizer = FieldsTokenizer(CYCLES_NS)
    model = oracle(8, vocabulary=tokenizer.vocabulary_size - len(PDUS) + names, hidden=8)
    weights = {k: v.contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    return {
        "config.json": model.config.to_json_string(use_diff=False).encode(),
        "model.safetensors": save(weights, {"format": "pt"}),
        "tokenizer.json": tokenizer.to_json().encode(),
        "calibration.json": b'{"format": 1}',
    }


def bundle_info(pdus: Sequence[BundlePdu] = PDUS) -> BundleInfo:
    """`bundle.json` for these PDUs."""
    return BundleInfo(
        format=BUNDLE_FORMAT,
        tokenizer="fields",
        fields=["pduName", "deltaTime", "activityState"],
        tokens_per_line=2.01,
        window_tokens=8,
        receptive_field_tokens=15,
        key="stream",
        pdus=list(pdus),
        fingerprint=fingerprint(list(pdus)),
        activity_states={str(code): text for code, text in ACTIVITY_STATES.items()},
        names=[[0x1234, "ESC_03", None]],
        trained={"steps": 7},
    )
