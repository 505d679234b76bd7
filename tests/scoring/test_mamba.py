"""Mambas that stream: any cut, any company and any length give what one whole pass of Hugging Face gives."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from ecustream.scoring.mamba import MambaStream
from tests.scoring.tiny_mamba import HIDDEN, VOCAB, cut, oracle, oracle_nats, served, tokens

KINDS = ["mamba", "mamba2"]
CLOSE_NATS = 1e-4


@cache
def known(kind: str) -> Any:
    """An oracle, ours with its weights, some tokens and what the oracle says of them."""
    model = oracle(kind)
    ids = tokens(600)
    return model, served(model), ids, oracle_nats(model, ids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "sizes", [[600], [1], [2], [3], [7], [50], [63], [64], [65], [127], [128], [129], [256], [300, 1, 2, 90]]
)
def test_any_cut_gives_what_one_whole_pass_gives(kind: str, sizes: list[int]) -> None:
    """However a stream is cut into calls, each token's surprisal is that of one pass over all of it."""
    _, network, ids, expected = known(kind)
    np.testing.assert_allclose(cut(network, network.new_stream(), ids, sizes).nats, expected, atol=CLOSE_NATS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_most_probable_token_is_the_oracles(kind: str) -> None:
    """`best` is the oracle's most probable token in each place."""
    model, network, ids, _ = known(kind)
    with torch.no_grad():
        logits = model(torch.from_numpy(ids)[None], use_cache=False).logits[0]
    best = cut(network, network.new_stream(), ids, [50]).best
    np.testing.assert_array_equal(best[1:], logits[:-1].argmax(dim=1).numpy())


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(
    calls=st.lists(
        st.tuples(
            st.permutations(range(3)),
            st.lists(st.integers(0, 140) | st.integers(0, 4), min_size=3, max_size=3),
            st.sets(st.integers(0, 2), max_size=1),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_streams_that_share_calls_do_not_touch_each_other(
    kind: str, calls: list[tuple[list[int], list[int], set[int]]]
) -> None:
    """Streams in any company, order and share of a call, with resets between, score as each would alone."""
    _, network, ids, expected = known(kind)
    streams = [network.new_stream() for _ in range(3)]
    for order, counts, resets in calls:
        for i in resets:
            streams[i].reset()
        taken = [streams[i].since_reset for i in order]
        spans = [slice(first, first + count) for first, count in zip(taken, counts, strict=True)]
        scored = network.score(
            np.concatenate([ids[span] for span in spans]),
            [(streams[i], count) for i, count in zip(order, counts, strict=True)],
        )
        wanted = np.concatenate([expected[span] for span in spans])
        np.testing.assert_allclose(scored.nats, wanted, atol=CLOSE_NATS)
        assert [streams[i].since_reset for i in order] == [span.stop for span in spans]


@pytest.mark.parametrize("kind", KINDS)
def test_many_streams_share_a_call(kind: str) -> None:
    """A hundred streams of 1 to 150 tokens each in one call, twice: each scores as alone."""
    _, network, ids, expected = known(kind)
    streams = [network.new_stream() for _ in range(100)]
    for turn in range(2):
        spans = [
            slice(s.since_reset, s.since_reset + 1 + (i * 37 + turn) % 150) for i, s in enumerate(streams)
        ]
        parts = [(s, span.stop - span.start) for s, span in zip(streams, spans, strict=True)]
        scored = network.score(np.concatenate([ids[span] for span in spans]), parts)
        wanted = np.concatenate([expected[span] for span in spans])
        np.testing.assert_allclose(scored.nats, wanted, atol=CLOSE_NATS)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("mamba", {"use_bias": True}),
        ("mamba", {"use_conv_bias": False}),
        ("mamba", {"conv_kernel": 2}),
        ("mamba", {"conv_kernel": 1}),
        ("mamba", {"tie_word_embeddings": False}),
        ("mamba", {"expand": 3}),
        ("mamba", {"intermediate_size": 24}),
        ("mamba", {"time_step_rank": 5}),
        ("mamba", {"residual_in_fp32": False}),
        ("mamba2", {"use_bias": True}),
        ("mamba2", {"use_conv_bias": False}),
        ("mamba2", {"conv_kernel": 2}),
        ("mamba2", {"conv_kernel": 1}),
        ("mamba2", {"tie_word_embeddings": True}),
        ("mamba2", {"expand": 3, "num_heads": 6}),
        ("mamba2", {"n_groups": 1}),
        ("mamba2", {"n_groups": 4}),
        ("mamba2", {"num_heads": 8, "head_dim": 4}),
        ("mamba2", {"time_step_limit": (0.05, 0.2)}),
        ("mamba2", {"residual_in_fp32": False}),
    ],
)
def test_settings_are_those_of_the_oracle(kind: str, changes: dict[str, Any]) -> None:
    """A setting that is accepted means what it means to Hugging Face."""
    model = oracle(kind, **changes)
    network = served(model)
    ids = tokens(150)
    scored = cut(network, network.new_stream(), ids, [40])
    np.testing.assert_allclose(scored.nats, oracle_nats(model, ids), atol=CLOSE_NATS)


@pytest.mark.parametrize("kind", KINDS)
def test_states_that_fade_at_once_or_hardly_ever_are_exact(kind: str) -> None:
    """Decays from almost none to all within one token, in one block, lose no digit of what remains."""
    # In blocks of more tokens the oracle itself subtracts large sums in fp32 and is off by 0.015 nats.
    model = oracle(kind, **({"chunk_size": 1} if kind == "mamba2" else {}))
    with torch.no_grad():
        for block in model.backbone.layers:
            block.mixer.A_log.copy_(
                torch.linspace(-6, 9, block.mixer.A_log.numel()).view_as(block.mixer.A_log)
            )
            if kind == "mamba":
                block.mixer.dt_proj.weight.mul_(8)
            else:
                block.mixer.in_proj.weight[-model.config.num_heads :].mul_(8)
    network = served(model)
    ids = tokens(300)
    expected = oracle_nats(model, ids)
    for sizes in ([300], [64], [7]):
        np.testing.assert_allclose(
            cut(network, network.new_stream(), ids, sizes).nats, expected, atol=CLOSE_NATS
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_as_it_lies_on_disk_is_served(kind: str, tmp_path: Path) -> None:
    """The files that Hugging Face writes, with its way to write infinity in JSON, are understood."""
    model, network, ids, expected = known(kind)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    network = served(model, config, load_file(tmp_path / "model.safetensors"))
    scored = network.score(ids, [(network.new_stream(), len(ids))])
    np.testing.assert_allclose(scored.nats, expected, atol=CLOSE_NATS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_in_bf16_is_computed_in_fp32(kind: str) -> None:
    """Weights stored in fewer bits are widened, and nothing else is rounded."""
    weights = {name: tensor.bfloat16() for name, tensor in oracle(kind).state_dict().items()}
    wide = oracle(kind)
    wide.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    network = served(wide, weights=weights)
    ids = tokens(100)
    scored = cut(network, network.new_stream(), ids, [30])
    np.testing.assert_allclose(scored.nats, oracle_nats(wide, ids), atol=CLOSE_NATS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_is_reset_is_a_new_one(kind: str) -> None:
    """After a reset nothing of the past is left, be it in the scan, the convolution or the last logits."""
    _, network, ids, expected = known(kind)
    stream = network.new_stream()
    cut(network, stream, tokens(70, seed=1), [70])
    stream.reset()
    assert stream.since_reset == 0
    np.testing.assert_allclose(cut(network, stream, ids, [200]).nats, expected, atol=CLOSE_NATS)


def held(stream: MambaStream) -> list[tuple[int, int]]:
    """Address and size of all memory that a stream's tensors keep alive."""
    tensors = (v for v in vars(stream).values() if isinstance(v, torch.Tensor))
    return [(t.data_ptr(), t.untyped_storage().nbytes()) for t in tensors]


@pytest.mark.parametrize("kind", KINDS)
def test_a_million_tokens_later_all_is_as_before(kind: str) -> None:
    """After 1e6 tokens a stream holds the same memory, and its scores are still those of the oracle."""
    model = oracle(kind, num_hidden_layers=1)
    network = served(model, max_chunk=2**14)
    stream, before = network.new_stream(), tokens(2**14)
    memory = held(stream)
    for _ in range(62):
        assert np.isfinite(network.score(before, [(stream, len(before))]).nats).all()
    assert stream.since_reset == 62 * 2**14
    assert held(stream) == memory
    # This model forgets within the last round (after 3000 tokens, 0.03 nats are left of what was before).
    after = tokens(200, seed=2)
    expected = oracle_nats(model, np.concatenate([before, after]))[-200:]
    np.testing.assert_allclose(cut(network, stream, after, [33]).nats, expected, atol=CLOSE_NATS)


@pytest.mark.parametrize("kind", KINDS)
def test_calls_that_do_not_add_up_are_refused_and_change_nothing(kind: str) -> None:
    """Counts that are not those of the tokens, negative or above `max_chunk` raise, and no stream moves."""
    model, _, ids, expected = known(kind)
    network = served(model, max_chunk=64)
    one, two = network.new_stream(), network.new_stream()
    network.score(ids[:20], [(one, 20)])
    for count, parts in ((11, [(one, 10)]), (65, [(one, 65)]), (2, [(one, 3), (two, -1)])):
        with pytest.raises(ValueError, match=r"counts"):
            network.score(ids[:count], parts)
    assert (one.since_reset, two.since_reset) == (20, 0)
    scored = network.score(ids[20:84], [(one, 64)])
    np.testing.assert_allclose(scored.nats, expected[20:84], atol=CLOSE_NATS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_without_tokens_is_empty(kind: str) -> None:
    """No tokens, no scores, of the right types."""
    _, network, ids, _ = known(kind)
    nats, best = network.score(ids[:0], [(network.new_stream(), 0)])
    assert (nats.shape, nats.dtype, best.shape, best.dtype) == ((0,), np.float32, (0,), np.int64)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_network_says_of_itself(kind: str) -> None:
    """Vocabulary, way of serving, warming and chunk are stated; operations follow from the weights."""
    model, network, _, _ = known(kind)
    assert (network.vocab, network.serving) == (VOCAB, "recurrent")
    assert (network.warming_tokens, network.max_chunk) == (100, 4096)
    products = {
        name: weight
        for name, weight in model.state_dict().items()
        if name.endswith(("proj.weight", "conv1d.weight", "lm_head.weight"))
    }
    skips = 2 * model.config.num_hidden_layers * HIDDEN
    states = network.new_stream().scan.numel()
    multiply_adds = sum(weight.numel() for weight in products.values()) + 3 * states + skips
    assert network.flops_per_token == 2 * multiply_adds
