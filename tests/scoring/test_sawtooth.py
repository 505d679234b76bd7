"""The sawtooth of a full-attention Qwen2 against whole forward passes of Hugging Face's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.errors import BundleError
from ecustream.scoring.sawtooth import SawtoothQwen2, Teeth
from tests.scoring.tiny import config_of, full_attention_oracle, oracle, oracle_logits

LENGTH = 24
TOLERANCE = 1e-4
Ids = npt.NDArray[np.int64]


def served(model: Any, *, length: int = LENGTH, max_chunk: int = 1024) -> SawtoothQwen2:
    """The oracle's weights, served as a sawtooth."""
    return SawtoothQwen2(config_of(model), model.state_dict(), length=length, max_chunk=max_chunk)


def random_ids(count: int, seed: int = 0) -> Ids:
    """Token ids without any pattern."""
    return np.random.default_rng(seed).integers(0, 40, count)


def reference(model: Any, ids: Ids, length: int) -> npt.NDArray[np.float64]:
    """Nats of each token from whole passes over the text that the sawtooth promises, one per restart."""
    nats = np.full(len(ids), np.log(40.0))
    begin, first = 0, 1
    while first < len(ids):
        text = torch.from_numpy(ids[begin : begin + length])
        predicted = torch.log_softmax(oracle_logits(model, text), dim=1)
        last = min(begin + length, len(ids))
        for t in range(first, last):
            nats[t] = -predicted[t - 1 - begin, int(ids[t])].item()
        # The younger half of the text goes on.
        first, begin = last, begin + length - length // 2
    return nats


def scored(network: SawtoothQwen2, ids: Ids, sizes: Sequence[int], stream: Teeth | None = None) -> Any:
    """Nats of `ids` in chunks of these sizes."""
    stream = stream or network.new_stream()
    ends = np.cumsum(sizes)
    assert ends[-1] == len(ids)
    parts = np.split(ids, ends[:-1])
    return np.concatenate([network.score(part, [(stream, len(part))]).nats for part in parts])


@pytest.mark.parametrize("length", [2, 3, 24, 25])
@pytest.mark.parametrize("chunk", [1, 7, 11, 12, 13, 24, 96])
def test_any_chunk_size_gives_whole_passes_over_the_training_length(length: int, chunk: int) -> None:
    """Each token is scored as in a whole pass over at most `length` tokens, however chunks are cut."""
    model = full_attention_oracle()
    ids = random_ids(8 * chunk if chunk > 12 else 96)
    nats = scored(served(model, length=length), ids, [chunk] * (len(ids) // chunk) + [len(ids) % chunk])
    np.testing.assert_allclose(nats, reference(model, ids, length), atol=TOLERANCE, rtol=0)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=12))
def test_streams_in_one_call_do_not_see_each_other(counts: list[tuple[int, int]]) -> None:
    """Two streams that share calls in any proportion score as each of them alone."""
    model = full_attention_oracle()
    network = served(model)
    streams = network.new_stream(), network.new_stream()
    ids = [random_ids(sum(pair[k] for pair in counts), seed=k) for k in (0, 1)]
    nats: list[list[Any]] = [[], []]
    at = [0, 0]
    for pair in counts:
        parts = [ids[k][at[k] : at[k] + pair[k]] for k in (0, 1)]
        said = network.score(np.concatenate(parts), list(zip(streams, pair, strict=True))).nats
        nats[0].append(said[: pair[0]])
        nats[1].append(said[pair[0] :])
        at = [at[k] + pair[k] for k in (0, 1)]
    for k in (0, 1):
        np.testing.assert_allclose(
            np.concatenate(nats[k]), reference(model, ids[k], LENGTH)[: at[k]], atol=TOLERANCE, rtol=0
        )


def test_a_reset_stream_scores_as_a_new_one() -> None:
    """After a gap nothing of the past is left, whichever of the two caches it was in."""
    network = served(full_attention_oracle())
    for before in (5, 20, 30, 100):
        stream = network.new_stream()
        network.score(random_ids(before, seed=1), [(stream, before)])
        stream.reset()
        ids = random_ids(60, seed=2)
        np.testing.assert_allclose(
            scored(network, ids, [60], stream), scored(network, ids, [60]), atol=TOLERANCE, rtol=0
        )


def test_every_token_after_warming_has_at_least_half_the_training_length_before_it() -> None:
    """What lies further back than the whole length never counts; what lies within half of it always does."""
    network = served(full_attention_oracle())
    ids = random_ids(200)
    nats = scored(network, ids, [200])
    near, far = np.empty(200), np.empty(200)
    for t in range(100, 180):
        changed = ids.copy()
        changed[: t - LENGTH + 1] = (changed[: t - LENGTH + 1] + 1) % 40
        far[t] = abs(scored(network, changed, [200])[t] - nats[t])
        changed = ids.copy()
        changed[t - network.warming_tokens] = (changed[t - network.warming_tokens] + 1) % 40
        near[t] = abs(scored(network, changed, [200])[t] - nats[t])
    assert far[100:180].max() < TOLERANCE
    assert (near[100:180] > 0).all()


def test_what_cannot_be_a_sawtooth_is_refused() -> None:
    """Sliding models are rolled instead, and one token cannot be halved."""
    sliding = oracle(8)
    with pytest.raises(BundleError, match="sliding layers is served from a rolling cache"):
        SawtoothQwen2(config_of(sliding), sliding.state_dict(), length=24)
    with pytest.raises(BundleError, match="window_tokens is 1, but restarts need 2 to"):
        served(full_attention_oracle(), length=1)


def test_the_caches_never_grow() -> None:
    """However long the stream, there are two caches of the training length."""
    network = served(full_attention_oracle())
    stream = network.new_stream()
    places = {stream.front.cache.data_ptr(), stream.back.cache.data_ptr()}
    for _ in range(50):
        network.score(random_ids(37), [(stream, 37)])
    assert {stream.front.cache.data_ptr(), stream.back.cache.data_ptr()} == places
    assert stream.front.cache.shape[3] == stream.back.cache.shape[3] == LENGTH
    assert stream.since_reset == 50 * 37
