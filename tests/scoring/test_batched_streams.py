"""Many streams in one pass of the batched Qwen2: nobody sees anybody, nothing grows."""

import gc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.errors import ConfigError
from ecustream.scoring.batched import BatchedQwen2
from ecustream.scoring.kernels import AttentionKind
from tests.scoring.on_devices import (
    DEVICES,
    ENGINES,
    TOLERANCE_NATS,
    batched,
    expected_nats,
    flash_as_documented,
    random_ids,
    scored,
)
from tests.scoring.tiny import oracle

STREAMS, MAX_CHUNK = 5, 20

CALLS = st.lists(
    st.tuples(
        st.permutations(range(STREAMS)),
        st.lists(st.integers(0, MAX_CHUNK), min_size=STREAMS, max_size=STREAMS),
        st.none() | st.integers(0, STREAMS - 1),
    ),
    min_size=1,
    max_size=12,
)
"""Calls: an order of the streams, how many tokens each adds, and which one is reset before."""


@pytest.mark.parametrize(("device", "attention"), [*ENGINES, pytest.param(torch.device("cpu"), "flash")])
def test_streams_of_one_call_score_as_alone(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, attention: AttentionKind
) -> None:
    """In whatever company, order and portions a stream comes, each run since a reset is one whole pass."""
    if attention == "flash":
        flash_as_documented(monkeypatch)
    model = oracle(7)
    network = batched(model, device, attention=attention, max_streams=STREAMS, max_chunk=MAX_CHUNK)

    @settings(max_examples=40, deadline=None)
    @given(CALLS)
    def check(calls: list[tuple[list[int], list[int], int | None]]) -> None:
        streams = [network.new_stream() for _ in range(STREAMS)]
        runs: list[list[tuple[list[int], list[float]]]] = [[([], [])] for _ in streams]
        for number, (order, counts, reset) in enumerate(calls):
            if reset is not None:
                streams[reset].reset()
                runs[reset].append(([], []))
            parts = [(streams[i], counts[i]) for i in order]
            ids = random_ids(sum(counts), seed=number)
            nats, end = network.score(ids, parts).nats, 0
            for i in order:
                first, end = end, end + counts[i]
                runs[i][-1][0].extend(ids[first:end].tolist())
                runs[i][-1][1].extend(nats[first:end].tolist())
        for stream, mine in zip(streams, runs, strict=True):
            assert stream.since_reset == len(mine[-1][0])
            for tokens, said in mine:
                if tokens:
                    expected = expected_nats(model, np.array(tokens))
                    np.testing.assert_allclose(said, expected, atol=TOLERANCE_NATS, rtol=0)

    check()


def held(network: BatchedQwen2, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A copy of all that a slot holds."""
    slots = network._slots
    return slots.cache[:, :, index].clone(), slots.last_logits[index].clone()


@pytest.mark.parametrize("device", DEVICES)
def test_a_pass_writes_to_the_slots_of_its_streams_alone(device: torch.device) -> None:
    """A slot that has nothing in a call keeps every bit; one that has keeps what was filled."""
    network = batched(oracle(24), device, max_streams=4)
    streams = [network.new_stream() for _ in range(4)]
    network.score(random_ids(40), [(stream, 10) for stream in streams])
    before = [held(network, stream.index) for stream in streams]
    network.score(random_ids(16), [(streams[3], 3), (streams[0], 0), (streams[1], 13)])
    for i in (0, 2):
        for kept, now in zip(before[i], held(network, streams[i].index), strict=True):
            assert torch.equal(kept, now)
    for i in (1, 3):
        now_cache, now_logits = held(network, streams[i].index)
        assert torch.equal(before[i][0][:, :, :10], now_cache[:, :, :10])
        assert not torch.equal(before[i][0], now_cache)
        assert not torch.equal(before[i][1], now_logits)


@pytest.mark.parametrize("device", DEVICES)
def test_what_stands_in_a_slot_from_before_is_never_seen(device: torch.device) -> None:
    """Keys and values of an earlier stream, even no numbers at all, do not touch a stream in its slot."""
    model = oracle(24)
    network = batched(model, device, max_streams=2)
    network._slots.cache.fill_(float("nan"))
    network._slots.last_logits.fill_(float("nan"))
    ids = random_ids(90)
    np.testing.assert_allclose(
        scored(network, ids, 7), expected_nats(model, ids), atol=TOLERANCE_NATS, rtol=0
    )


def test_a_state_that_nobody_holds_makes_room_for_a_new_stream() -> None:
    """So many streams as were said can be open; one more is refused until one is let go."""
    model = oracle(24)
    network = batched(model, torch.device("cpu"), max_streams=3)
    streams = [network.new_stream() for _ in range(3)]
    for stream in streams:
        scored(network, random_ids(50, seed=1), 20, stream)
    with pytest.raises(ConfigError, match="3 streams are open, and the device has room"):
        network.new_stream()
    left = streams.pop(1).index
    del stream
    gc.collect()
    again = network.new_stream()
    assert again.index == left
    ids = random_ids(60)
    np.testing.assert_allclose(
        scored(network, ids, 20, again), expected_nats(model, ids), atol=TOLERANCE_NATS, rtol=0
    )
    with pytest.raises(ConfigError):
        network.new_stream()


def memory(device: torch.device) -> Any:
    """What tensors hold: bytes on a CUDA device, else their number and bytes."""
    gc.collect()
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    # Not isinstance: it asks lazy modules among the objects for their class, and they warn.
    tensors = [t for t in gc.get_objects() if type(t) is torch.Tensor]
    return len(tensors), sum(t.untyped_storage().nbytes() for t in tensors)


@pytest.mark.parametrize("device", DEVICES)
def test_memory_stays_flat_over_many_tokens(device: torch.device) -> None:
    """Once its passes are prepared, streams take no further memory, and the cache never moves."""
    network = batched(oracle(20, layers=1), device, max_streams=3)
    streams = [network.new_stream() for _ in range(3)]
    network.warm_up()
    slots = network._slots
    place, shape = slots.cache.data_ptr(), slots.cache.shape
    before = memory(device)
    for size in [1, 40, 3, 36, 20] * 40:
        network.score(random_ids(3 * size), [(stream, size) for stream in streams])
        assert max(stream.filled for stream in streams) <= shape[3] == 2 * 20 + 40
    assert memory(device) == before
    assert (slots.cache.data_ptr(), slots.cache.shape) == (place, shape)


@pytest.mark.parametrize("device", DEVICES)
def test_after_warm_up_no_call_prepares_anything(device: torch.device) -> None:
    """Every shape of a pass is ready after warming up, which leaves running streams as they were."""
    model = oracle(7)
    network = batched(model, device, max_streams=6, max_chunk=50)
    ids = random_ids(60)
    running = network.new_stream()
    first = scored(network, ids[:30], 30, running)
    assert network.prepared_passes == 1
    network.warm_up()
    # 1, 2, 4 or 6 streams with 8, 16, 32 or 50 tokens
    assert network.prepared_passes == 16
    nats = np.concatenate([first, scored(network, ids[30:], 7, running)])
    np.testing.assert_allclose(nats, expected_nats(model, ids), atol=TOLERANCE_NATS, rtol=0)
    streams = [running, *(network.new_stream() for _ in range(5))]
    for count in range(1, 7):
        for size in range(1, 51):
            parts = [(stream, max(1, size - i)) for i, stream in enumerate(streams[:count])]
            network.score(random_ids(sum(n for _, n in parts)), parts)
    assert network.prepared_passes == 16


@pytest.mark.parametrize("device", DEVICES)
def test_a_call_without_tokens_says_nothing(device: torch.device) -> None:
    """Streams that have nothing in a call, all of them even, are left alone."""
    network = batched(oracle(24), device)
    stream = network.new_stream()
    for parts in ([], [(stream, 0)]):
        said = network.score(np.empty(0, np.int64), parts)
        assert (len(said.nats), len(said.best), stream.since_reset) == (0, 0, 0)


@pytest.mark.parametrize("device", DEVICES)
def test_what_was_said_stays_as_it_is(device: torch.device) -> None:
    """A result is the caller's: later calls do not write into it."""
    network = batched(oracle(24), device)
    stream = network.new_stream()
    said = network.score(random_ids(8), [(stream, 8)])
    nats, best = said.nats.copy(), said.best.copy()
    network.score(random_ids(8, seed=1), [(stream, 8)])
    np.testing.assert_array_equal(said.nats, nats)
    np.testing.assert_array_equal(said.best, best)
