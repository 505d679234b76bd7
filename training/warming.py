"""How long a recurrent model needs after a reset until its scores are those of a long stream."""

import numpy as np
import numpy.typing as npt

from ecustream.scoring.network import AnyNetwork

__all__ = ["warming_tokens"]

_LEAST_SEEN = 64
"""Tokens after a reset that must be seen to judge by."""


def warming_tokens(
    network: AnyNetwork,
    ids: npt.NDArray[np.integer],
    tolerance_nats: float = 1e-3,
    *,
    starts: int = 8,
    most: int = 8192,
) -> int:
    """Tokens after a reset from which on scores equal those of a stream that began long before.

    The same tokens are scored in one long stream and in streams that begin at several places of it. The
    answer is the first token from which on every one of them agrees, the worst and not a percentile: among
    thousands of settled tokens those before would not show. It is rounded up to two digits.

    Args:
        network: scores; its own `warming_tokens` does not matter.
        ids: tokens of one uninterrupted piece of clean traffic; all used are the first
            `(starts + 2) * most`, and with fewer than `3 * most` shorter warm-ups only can be told.
        tolerance_nats: by which two scores may differ and still be the same; the network itself may differ
            by 1e-4 between two ways to cut a stream.
        starts: streams that begin anew.
        most: the answer where scores have not settled well within so many tokens, or the traffic is too
            short to tell.
    """
    reach = min(most, len(ids) // 3)
    if reach < _LEAST_SEEN:
        return most
    tokens: npt.NDArray[np.int64] = ids[: reach * (starts + 2)].astype(np.int64)
    settled = _nats(network, tokens)
    unlike = 0
    for first in np.linspace(reach, len(tokens) - reach, starts).astype(int).tolist():
        span = slice(first, first + reach)
        differs = np.flatnonzero(~(np.abs(_nats(network, tokens[span]) - settled[span]) <= tolerance_nats))
        unlike = max(unlike, 1 + int(differs[-1]) if len(differs) else 0)
    # What agrees for a moment at the end has not settled.
    return most if unlike > reach - reach // 4 else min(_rounded_up(unlike), most)


def _nats(network: AnyNetwork, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Surprisal of the tokens of a new stream."""
    stream = network.new_stream()
    cuts = range(network.max_chunk, len(ids), network.max_chunk)
    pieces = np.split(ids, list(cuts))
    return np.concatenate([network.score(piece, [(stream, len(piece))]).nats for piece in pieces])


def _rounded_up(tokens: int) -> int:
    digit = int(10 ** max(0, len(str(tokens)) - 2))
    return -(-tokens // digit) * digit
