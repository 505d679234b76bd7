"""What the bench compares with computes what it is said to."""

import math

import numpy as np
import pytest
import torch

from ecustream.bench.peers import (
    HuggingFaceRolling,
    Recomputing,
    hugging_face_model,
    hugging_face_pass,
    own_pass,
)
from tests.scoring.tiny import config_of, oracle, oracle_logits, served

CPU = torch.device("cpu")


@pytest.mark.parametrize("chunk", [1, 7, 24, 25, 60])
def test_the_rolling_peer_scores_as_one_whole_pass(chunk: int) -> None:
    """Hugging Face's own cache, fed in chunks, gives the surprisal of one pass without a cache."""
    model = oracle(24)
    network = served(model)
    ids = torch.randint(0, 40, (150,), generator=torch.Generator().manual_seed(3))
    logits = oracle_logits(model, ids)
    expected = -torch.log_softmax(logits[:-1], 1).gather(1, ids[1:, None])[:, 0].numpy()
    peer = HuggingFaceRolling(model, network)
    state = peer.new_stream()
    said = [
        peer.score(part, [(state, len(part))]) for part in np.split(ids.numpy(), range(chunk, 150, chunk))
    ]
    nats = np.concatenate([part.nats for part in said])
    assert nats[0] == pytest.approx(math.log(40))
    np.testing.assert_allclose(nats[1:], expected, atol=1e-4)
    assert state.since_reset == 150
    # Bounded: the cache holds the window and no more.
    assert state.cache.layers[0].keys.shape[2] < 24 + chunk


def test_whole_windows_see_the_window_alone() -> None:
    """The recomputing peers give what a pass over the last window gives, and forget what was before."""
    model = oracle(24)
    network = served(model, max_chunk=10)
    ids = torch.randint(0, 40, (60,), generator=torch.Generator().manual_seed(4))
    for whole_pass in (hugging_face_pass(model), own_pass(network)):
        peer = Recomputing(whole_pass, network, 24)
        state = peer.new_stream()
        peer.score(ids[:57].numpy(), [(state, 57)])
        nats = peer.score(ids[57:].numpy(), [(state, 3)]).nats
        logits = oracle_logits(model, ids[-24:])
        expected = -torch.log_softmax(logits[-4:-1], 1).gather(1, ids[-3:, None])[:, 0]
        np.testing.assert_allclose(nats, expected.numpy(), atol=1e-4)


def test_a_peer_with_other_weights_is_refused() -> None:
    """A weight too few or too many does not pass for the same model."""
    model = oracle(24)
    weights = dict(model.state_dict())
    config = config_of(model)
    hugging_face_model(config, weights, device=CPU, dtype=torch.float32)
    with pytest.raises(ValueError, match="stranger"):
        hugging_face_model(config, {**weights, "stranger": torch.ones(1)}, device=CPU, dtype=torch.float32)
    del weights["model.norm.weight"]
    with pytest.raises(ValueError, match=r"model\.norm\.weight"):
        hugging_face_model(config, weights, device=CPU, dtype=torch.float32)
