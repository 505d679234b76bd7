"""Tiny bodies for the tests of the bench."""

import pytest

from ecustream.bench.bodies import BODIES, Body, BodySize, random_body

__all__ = ["TINY", "TINY_TOKENS", "with_tokens"]

TINY = BodySize(2, 16, 2, 1, 32, window=24, vocab=224)
TINY_TOKENS = BodySize(2, 16, 2, 1, 32, window=24, vocab=40, tokens_per_line=5, for_gpu=True)


def with_tokens() -> Body:
    """A body whose traffic is plain tokens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BODIES, "tiny tokens", TINY_TOKENS)
        return random_body("tiny tokens")
