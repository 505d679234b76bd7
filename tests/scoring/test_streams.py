"""Many streams over one network, and one stream for very long."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.scoring.fields import FieldsTokenizer
from ecustream.scoring.scorer import Scorer
from tests.scoring.operations import Operations
from tests.scoring.tiny import CYCLES_NS, make_line, oracle, oracle_logits, served
from tests.scoring.traffic import STREAMS

TOLERANCE = 1e-4
Ids = npt.NDArray[np.int64]


def random_ids(count: int, seed: int = 0) -> Ids:
    """Token ids without any pattern."""
    return np.random.default_rng(seed).integers(0, 40, count)


def one_pass(model: Any, ids: Ids) -> npt.NDArray[np.float64]:
    """Nats of each token by one whole forward pass; of the first, those of a uniform guess."""
    if not len(ids):
        return np.empty(0)
    predicted = torch.log_softmax(oracle_logits(model, torch.from_numpy(ids)), dim=1)
    told = -predicted[:-1].gather(1, torch.from_numpy(ids)[1:, None])[:, 0]
    return np.concatenate([[np.log(40.0)], told.numpy()])


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 4).flatmap(
        lambda streams: st.lists(
            st.lists(st.integers(0, 150), min_size=streams, max_size=streams), min_size=1, max_size=8
        )
    ),
    st.sampled_from([(5, 4), (66, 1)]),
)
def test_streams_that_share_calls_score_as_each_of_them_alone(
    calls: list[list[int]], shape: tuple[int, int]
) -> None:
    """Any number of streams in any proportion, some of them idle: each is as one whole pass of it alone."""
    window, kv_heads = shape
    model = oracle(window, kv_heads=kv_heads)
    network = served(model, max_chunk=150)
    streams = [network.new_stream() for _ in calls[0]]
    ids = [random_ids(sum(call[k] for call in calls), seed=k) for k in range(len(streams))]
    nats: list[list[Any]] = [[] for _ in streams]
    at = [0] * len(streams)
    for call in calls:
        parts = [mine[first : first + count] for mine, first, count in zip(ids, at, call, strict=True)]
        said = network.score(np.concatenate(parts), list(zip(streams, call, strict=True)))
        assert len(said.nats) == len(said.best) == sum(call)
        for mine, part in zip(nats, np.split(said.nats, np.cumsum(call)[:-1]), strict=True):
            mine.append(part)
        at = [first + count for first, count in zip(at, call, strict=True)]
    for mine, theirs in zip(nats, ids, strict=True):
        np.testing.assert_allclose(np.concatenate(mine), one_pass(model, theirs), atol=TOLERANCE, rtol=0)
    assert [stream.since_reset for stream in streams] == at


def test_counts_that_do_not_fit_are_refused() -> None:
    """Counts that do not add up to the tokens, or exceed what the caches have room for, change nothing."""
    network = served(oracle(5), max_chunk=10)
    stream = network.new_stream()
    with pytest.raises(ValueError, match="4 tokens, but the streams' counts add up to 3"):
        network.score(random_ids(4), [(stream, 3)])
    with pytest.raises(ValueError, match=r"counts of .11. tokens, the states were made for 0 to 10"):
        network.score(random_ids(11), [(stream, 11)])
    assert stream.since_reset == stream.filled == 0


def test_the_cost_of_a_call_does_not_grow_with_the_number_of_calls_before_it() -> None:
    """A chunk in a full window runs the same operations however old the stream is, and compiles nothing."""
    network = served(oracle(20), max_chunk=64)
    stream = network.new_stream()
    counts = []
    compiled = dict(torch._dynamo.utils.counters["stats"])
    for _ in range(200):
        with Operations() as operations:
            network.score(random_ids(64), [(stream, 64)])
        counts.append(sum(operations.seen.values()))
    # The window slides in some calls, and rotations are made ahead in some.
    assert max(counts[150:]) <= max(counts[5:50])
    assert torch._dynamo.utils.counters["stats"] == compiled


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_memory_is_flat_over_a_million_lines() -> None:
    """A million lines through tokenizer, network and scores leave nothing behind."""
    network = served(oracle(8, layers=1, vocabulary=FieldsTokenizer(CYCLES_NS).vocabulary_size, hidden=8))
    scorer = Scorer(network, lambda: FieldsTokenizer(CYCLES_NS))
    stream = scorer.open_stream()
    lines = [make_line(i, STREAMS[i % 3], 10_000_000, 1) for i in range(5_000)]

    def score(repetitions: int) -> int:
        for _ in range(repetitions):
            scorer.score([(stream, lines)])
        gc.collect()
        return resident_bytes()

    early = score(20)
    late = score(180)
    assert stream.state.since_reset == 1 + 2 * 200 * len(lines)
    assert late - early < 4_000_000
