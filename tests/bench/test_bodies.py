"""The bodies that the bench measures, and the traffic that they score."""

import math

import numpy as np
import pytest
import torch

from ecustream.bench.bodies import BODIES, bundle_body, random_body
from ecustream.knowledge import DEMO_BUNDLE
from ecustream.scoring.qwen2 import Qwen2
from tests.bench.tiny import with_tokens


def test_flops_of_the_floor_body_are_those_counted_by_hand() -> None:
    """Two operations for each weight that multiplies, and for each number of 512 keys and 512 values."""
    body = random_body("4x128")
    projections = 128 * 128 + 128 * 128 + 128 * 128 + 128 * 128
    feed_forward = 128 * 512 + 128 * 512 + 512 * 128
    attention = 2 * 512 * (64 + 64)
    head = 128 * 224
    expected = 2 * (4 * (projections + feed_forward + attention) + head)
    assert expected == 3_203_072
    assert Qwen2(body.config, body.weights).flops_per_token == expected


def test_named_bodies_have_the_sizes_of_their_names() -> None:
    """Weights without the embedding are 1 M, 2 M, 25 M and 0.36 G, as the names say."""
    assert set(BODIES) == {"4x128", "2M", "25M", "0.4B"}
    for name, expected in (("4x128", 1e6), ("2M", 2e6), ("25M", 25e6), ("0.4B", 0.36e9)):
        size = BODIES[name]
        kv = size.hidden // size.heads * size.kv_heads
        layer = 2 * size.hidden * (size.hidden + kv) + 3 * size.hidden * size.inner
        assert size.layers * layer == pytest.approx(expected, rel=0.15)
    assert [name for name, size in BODIES.items() if size.for_gpu] == ["0.4B"]
    size = BODIES["0.4B"]
    assert (size.vocab, size.window, size.tokens_per_line) == (408, 1024, 50)


def test_random_weights_give_sane_scores_and_repeat() -> None:
    """Surprisal of random lines lies around a uniform guess, in the same numbers every time."""
    one, again, other = (random_body("4x128", seed) for seed in (0, 0, 1))
    for name, tensor in one.weights.items():
        assert torch.equal(tensor, again.weights[name])
    assert not torch.equal(
        one.weights["model.embed_tokens.weight"], other.weights["model.embed_tokens.weight"]
    )
    network = Qwen2(one.config, one.weights)
    nats = one.open_lane(network).nats(300)
    assert len(nats) == 601  # the first line also states the activity state
    assert nats.mean() == pytest.approx(math.log(224) + 0.5, abs=1.0)
    assert 0.5 < nats.std() < 2
    np.testing.assert_allclose(nats, one.open_lane(network).nats(300))


def test_lanes_repeat_their_lines_and_begin_again() -> None:
    """After a reset a lane gives the same scores, whatever was scored before and however it is cut."""
    for body in (random_body("4x128"), with_tokens()):
        lane = body.open_lane(Qwen2(body.config, body.weights, max_chunk=64))
        whole = lane.nats(40)
        lane.score(17)
        lane.reset()
        np.testing.assert_allclose(np.concatenate([lane.nats(n) for n in (1, 9, 30)]), whole, atol=1e-4)


def test_the_traffic_of_a_bundle_is_of_pdus_that_it_knows() -> None:
    """No line of the shipped bundle's traffic is strange to it."""
    body = bundle_body(DEMO_BUNDLE)
    assert (body.window_tokens, body.warming_tokens) == (256, 766)
    network = Qwen2(body.config, body.weights)
    lane = body.open_lane(network)
    lane.score(400)
    # A stranger costs the trained model some ten nats.
    assert lane.nats(1000).mean() < 6
