"""One stream of the batched Qwen2 against whole forward passes of Hugging Face's Qwen2ForCausalLM."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from ecustream.errors import BundleError, ConfigError
from ecustream.scoring.batched import BatchedQwen2
from ecustream.scoring.fields import FieldsTokenizer
from ecustream.scoring.kernels import AttentionKind
from ecustream.scoring.qwen2 import receptive_field
from ecustream.scoring.scorer import Scorer
from tests.scoring.on_devices import (
    CHUNKS,
    DEVICES,
    ENGINES,
    TOLERANCE_NATS,
    batched,
    chunk_tokens,
    expected_nats,
    random_ids,
    scored,
)
from tests.scoring.tiny import (
    CYCLES_NS,
    config_of,
    make_lines,
    make_stream,
    oracle,
    oracle_logits,
    served,
)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize(("window", "layers", "kv_heads"), [(24, 2, 2), (66, 1, 1), (5, 4, 4)])
@pytest.mark.parametrize(("device", "attention"), ENGINES)
def test_any_chunk_size_gives_the_surprisal_of_one_whole_pass(
    device: torch.device, attention: AttentionKind, chunk: str, window: int, layers: int, kv_heads: int
) -> None:
    """Every chunk size and kernel gives Hugging Face's surprisal, across slides of the cache."""
    model = oracle(window, layers=layers, kv_heads=kv_heads)
    ids = random_ids(6 * window + 5)
    size = chunk_tokens(chunk, window)
    network = batched(model, device, attention=attention, max_chunk=size)
    np.testing.assert_allclose(
        scored(network, ids, size), expected_nats(model, ids), atol=TOLERANCE_NATS, rtol=0
    )


@pytest.mark.parametrize("device", DEVICES)
def test_best_is_the_most_probable_token(device: torch.device) -> None:
    """Each token comes with what would have been likeliest in its place; after nothing, the first of all."""
    model = oracle(24)
    ids = random_ids(100)
    network = batched(model, device, max_chunk=100)
    best = network.score(ids, [(network.new_stream(), 100)]).best
    np.testing.assert_array_equal(best[1:], oracle_logits(model, torch.from_numpy(ids))[:-1].argmax(1))
    assert best[0] == 0
    assert best.dtype == np.int64


@pytest.mark.parametrize(("device", "attention"), ENGINES)
def test_a_token_sees_itself_and_window_minus_1_before_it(
    device: torch.device, attention: AttentionKind
) -> None:
    """In one layer a token's prediction changes with the token W-1 before it, not with the one W before."""
    window = 12
    network = batched(oracle(window, layers=1), device, attention=attention, max_streams=4)
    ids = random_ids(60)
    expected = scored(network, ids, 9)
    for back, seen in ((window - 1, True), (window, False), (window + 1, False)):
        other = ids.copy()
        other[50 - back] = (other[50 - back] + 1) % 40
        change = abs(scored(network, other, 9)[51] - expected[51])
        assert (change > 100 * TOLERANCE_NATS) if seen else (change < TOLERANCE_NATS), back


@pytest.mark.parametrize("device", DEVICES)
def test_many_slides_of_the_cache_change_nothing(device: torch.device) -> None:
    """A slot that slides every few tokens still equals one whole pass."""
    model = oracle(3, layers=1)
    ids = random_ids(550)
    nats = scored(batched(model, device, max_chunk=5), ids, [1, 2, 3, 5] * 50)
    np.testing.assert_allclose(nats, expected_nats(model, ids), atol=TOLERANCE_NATS, rtol=0)


@pytest.mark.parametrize("device", DEVICES)
def test_a_window_of_one_token_sees_itself_alone(device: torch.device) -> None:
    """With a window of one, a token is predicted by the one before it and nothing else."""
    network = batched(oracle(1), device, max_streams=2)
    ids = random_ids(90)
    nats = scored(network, ids, 4)
    for i in range(1, 90, 11):
        assert nats[i] == pytest.approx(scored(network, ids[i - 1 : i + 1], 2)[1], abs=TOLERANCE_NATS)


@pytest.mark.parametrize("offset", [0, 10**6, 2**24, 10**12, 2**63 - 40, 2**64 - 40, 10**30])
@pytest.mark.parametrize("device", DEVICES)
def test_scores_do_not_depend_on_how_old_the_stream_is(device: torch.device, offset: int) -> None:
    """From any position on, also across the ends of 63 and 64 bits, a stream scores as one whole pass."""
    model = oracle(24)
    network = batched(model, device)
    ids = random_ids(120)
    old = network.new_stream()
    old.position = offset
    nats = scored(network, ids, 25, old)
    np.testing.assert_allclose(nats, expected_nats(model, ids), atol=TOLERANCE_NATS, rtol=0)
    assert old.position == offset + 120


@pytest.mark.parametrize(("window", "layers"), [(4, 2), (3, 4), (9, 1)])
@pytest.mark.parametrize("device", DEVICES)
def test_replaying_the_receptive_field_reproduces_a_running_stream(
    device: torch.device, window: int, layers: int
) -> None:
    """The receptive field's tokens, replayed from nothing, give the running score; one fewer does not."""
    network = batched(oracle(window, layers=layers), device, max_streams=2)
    ids = random_ids(200)
    running = scored(network, ids, 7)
    assert network.warming_tokens == receptive_field(layers, window)
    worst = Counter[int]()
    for end in range(150, 165):
        for tokens in (network.warming_tokens, network.warming_tokens - 1):
            replayed = scored(network, ids[end - tokens : end + 1], 40)[-1]
            worst[tokens] = max(worst[tokens], abs(replayed - running[end]))
    assert worst[network.warming_tokens] < TOLERANCE_NATS
    assert worst[network.warming_tokens - 1] > 20 * TOLERANCE_NATS


@pytest.mark.parametrize("tokens_before", [1, 10, 100])
@pytest.mark.parametrize("device", DEVICES)
def test_reset_forgets_every_token(device: torch.device, tokens_before: int) -> None:
    """After a reset a stream scores as a new one, its first token against a uniform guess."""
    model = oracle(24)
    network = batched(model, device)
    stream = network.new_stream()
    scored(network, random_ids(tokens_before, seed=1), 30, stream)
    stream.reset()
    assert stream.since_reset == 0
    ids = random_ids(60)
    nats = scored(network, ids, 30, stream)
    np.testing.assert_allclose(nats, expected_nats(model, ids), atol=TOLERANCE_NATS, rtol=0)
    assert nats[0] == pytest.approx(math.log(40), abs=1e-6)
    assert stream.since_reset == 60


@pytest.mark.parametrize("device", DEVICES)
def test_a_scorer_over_it_says_what_it_says_over_the_qwen2_of_the_cpu(device: torch.device) -> None:
    """Lines of two streams get the same scores, expectations and warming marks from either network."""
    vocabulary = FieldsTokenizer(CYCLES_NS).vocabulary_size
    model = oracle(24, vocabulary=vocabulary)
    rows = [(make_stream(i, key), i * 1000, 1) for i, key in enumerate(["fast", "slow", "on_event"])] * 30
    blocks = []
    for network in (served(model, max_chunk=50), batched(model, device, max_streams=2, max_chunk=50)):
        scorer = Scorer(network, lambda: FieldsTokenizer(CYCLES_NS))
        one, other = scorer.open_stream(), scorer.open_stream()
        for first in range(0, 90, 30):
            lines = make_lines(rows[first : first + 30])
            blocks.append(scorer.score([(one, lines), (other, lines[:7])]))
    for theirs, ours in zip(blocks[:3], blocks[3:], strict=True):
        for expected, block in zip(theirs, ours, strict=True):
            np.testing.assert_allclose(block.field_nats, expected.field_nats, atol=TOLERANCE_NATS, rtol=0)
            np.testing.assert_array_equal(block.expected, expected.expected)
            np.testing.assert_array_equal(block.warming, expected.warming)


def test_what_does_not_fit_is_refused() -> None:
    """Wrong counts, chunks that are too long and unknown tokens are refused; nothing has moved then."""
    network = batched(oracle(24), torch.device("cpu"), max_streams=2, max_chunk=5)
    stream, other = network.new_stream(), network.new_stream()
    with pytest.raises(ValueError, match="the states were made for 0 to 5"):
        network.score(random_ids(6), [(stream, 6)])
    with pytest.raises(ValueError, match="4 tokens, but the streams' counts add up to 3"):
        network.score(random_ids(4), [(stream, 2), (other, 1)])
    for wrong in (-1, 40):
        with pytest.raises(ValueError, match="the vocabulary has 40"):
            network.score(np.array([3, wrong]), [(stream, 1), (other, 1)])
    assert (stream.filled, stream.position, stream.since_reset) == (0, 0, 0)


def test_a_model_that_attends_to_everything_is_refused() -> None:
    """A model trained with full attention must not be rolled."""
    model = oracle(24)
    config = config_of(model) | {"layer_types": ["full_attention"] * 2}
    with pytest.raises(BundleError, match="cannot be served from a rolling cache"):
        BatchedQwen2(
            config,
            model.state_dict(),
            device=torch.device("cpu"),
            dtype=torch.float32,
            max_streams=1,
            max_chunk=8,
        )


def test_a_kernel_that_does_not_work_here_is_refused() -> None:
    """Asked for by name, a kernel that fails its trial is an error that says why."""
    with pytest.raises(ConfigError, match="attention flash does not work on cpu: "):
        batched(oracle(24), torch.device("cpu"), attention="flash", dtype=torch.bfloat16)
