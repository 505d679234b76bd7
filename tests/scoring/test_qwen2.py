"""The rolling Qwen2 against whole forward passes of Hugging Face's Qwen2ForCausalLM."""

import gc
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from ecustream.scoring.qwen2 import Qwen2, Window, receptive_field
from tests.scoring.operations import Operations
from tests.scoring.tiny import oracle, oracle_logits, served

CHUNKS = [pytest.param(chunk, id=str(chunk)) for chunk in ("1", "7", "50", "W-1", "W", "W+1", "4W")]
TOLERANCE = 1e-4


def chunk_tokens(chunk: str, window: int) -> int:
    """The size that a name such as W+1 means."""
    return int(chunk) if chunk.isdigit() else {"W-1": -1, "W": 0, "W+1": 1, "4W": 3 * window}[chunk] + window


def random_ids(count: int, vocabulary: int = 40, seed: int = 0) -> torch.Tensor:
    """Token ids without any pattern."""
    return torch.randint(0, vocabulary, (count,), generator=torch.Generator().manual_seed(seed))


def rolled(model: Qwen2, ids: torch.Tensor, sizes: Sequence[int] | int, window: Window | None = None) -> Any:
    """Logits of `ids` in chunks of these sizes."""
    parts = torch.split(ids, sizes if isinstance(sizes, int) else list(sizes))
    if window is None:
        window = model.new_stream()
    return torch.cat([model.logits(part, window) for part in parts])


def nll(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Surprisal in nats of every token but the first."""
    return -torch.log_softmax(logits[:-1], dim=1).gather(1, ids[1:, None])[:, 0]


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize(("window", "layers", "kv_heads"), [(24, 2, 2), (66, 1, 1), (5, 4, 4)])
def test_any_chunk_size_gives_the_logits_of_one_whole_pass(
    chunk: str, window: int, layers: int, kv_heads: int
) -> None:
    """Every chunk size gives Hugging Face's logits and surprisal, across slides of the cache."""
    model = oracle(window, layers=layers, kv_heads=kv_heads)
    ids = random_ids(6 * window + 5)
    expected = oracle_logits(model, ids)
    size = chunk_tokens(chunk, window)
    logits = rolled(served(model, max_chunk=size), ids, size)
    torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(nll(logits, ids), nll(expected, ids), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_wide_windows_give_the_same(kv_heads: int) -> None:
    """Also where queries are taken in the larger blocks, whole ones and rests."""
    model = oracle(520, layers=1, kv_heads=kv_heads)
    ids = random_ids(1400)
    logits = rolled(served(model, max_chunk=400), ids, [400, 300, 1, 256, 128, 115, 200])
    torch.testing.assert_close(logits, oracle_logits(model, ids), atol=TOLERANCE, rtol=0)


def test_many_slides_of_the_cache_change_nothing() -> None:
    """A buffer that slides every few tokens still equals one whole pass at the end."""
    model = oracle(3, layers=1)
    ids = random_ids(550)
    logits = rolled(served(model, max_chunk=5), ids, [1, 2, 3, 5] * 50)
    torch.testing.assert_close(logits[-99:], oracle_logits(model, ids)[-99:], atol=TOLERANCE, rtol=0)


def test_a_window_of_one_token_sees_itself_alone() -> None:
    """The window counts the token itself, so with a window of one the past does not matter."""
    model = served(oracle(1), max_chunk=4)
    ids = random_ids(9)
    alone = torch.cat([model.logits(ids[i : i + 1], model.new_stream()) for i in range(9)])
    torch.testing.assert_close(rolled(model, ids, 4), alone, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("offset", [10**6, 2**24, 10**12, 2**63 - 40, 2**64 - 40, 10**30])
def test_scores_do_not_depend_on_how_old_the_stream_is(offset: int) -> None:
    """From any position on, also across the ends of 63 and 64 bits, a stream scores as from zero."""
    model = served(oracle(24), max_chunk=25)
    ids = random_ids(120)
    young, old = model.new_stream(), model.new_stream()
    old.position = offset
    expected, logits = rolled(model, ids, 25, young), rolled(model, ids, 25, old)
    torch.testing.assert_close(nll(logits, ids), nll(expected, ids), atol=TOLERANCE, rtol=0)
    assert old.position == offset + 120


@pytest.mark.parametrize(("window", "layers"), [(4, 2), (3, 4), (9, 1)])
def test_replaying_the_receptive_field_reproduces_a_running_stream(window: int, layers: int) -> None:
    """The receptive field's tokens, replayed from nothing, give the running scores; one fewer does not."""
    model = served(oracle(window, layers=layers), max_chunk=40)
    ids = random_ids(200)
    running = rolled(model, ids, 7)
    enough = receptive_field(layers, window)
    worst = Counter[int]()
    for end in range(150, 165):
        for tokens in (enough, enough - 1):
            replayed = rolled(model, ids[end - tokens : end], tokens)[-1]
            worst[tokens] = max(worst[tokens], (replayed - running[end - 1]).abs().max().item())
    assert worst[enough] < TOLERANCE
    assert worst[enough - 1] > 20 * TOLERANCE


def test_reset_forgets_every_token() -> None:
    """After a reset a stream scores as a new one."""
    model = served(oracle(24), max_chunk=30)
    window = model.new_stream()
    rolled(model, random_ids(100, seed=1), 30, window)
    window.reset()
    ids = random_ids(60)
    torch.testing.assert_close(rolled(model, ids, 30, window), rolled(model, ids, 30), atol=TOLERANCE, rtol=0)
    assert window.since_reset == 60


def test_streams_over_one_model_do_not_see_each_other() -> None:
    """Two streams fed in turns give what each of them gives alone."""
    model = served(oracle(24), max_chunk=9)
    ids = random_ids(200, seed=1), random_ids(200, seed=2)
    windows = model.new_stream(), model.new_stream()
    turns: list[list[torch.Tensor]] = [[], []]
    for i in range(0, 200, 9):
        for turn, stream, window in zip(turns, ids, windows, strict=True):
            turn.append(model.logits(stream[i : i + 9], window))
    for turn, stream in zip(turns, ids, strict=True):
        torch.testing.assert_close(torch.cat(turn), rolled(model, stream, 9), atol=TOLERANCE, rtol=0)


def living_tensors() -> tuple[int, int]:
    """How many tensors are alive, and their bytes."""
    gc.collect()
    # Not isinstance: it asks lazy modules among the objects for their class, and they warn.
    tensors = [t for t in gc.get_objects() if type(t) is torch.Tensor]
    return len(tensors), sum(t.untyped_storage().nbytes() for t in tensors)


def test_memory_stays_flat_over_many_tokens() -> None:
    """Once the window is full no further tensor stays alive, and the cache is never reallocated."""
    model = served(oracle(20, layers=1), max_chunk=40)
    window = model.new_stream()
    place, shape = window.cache.data_ptr(), window.cache.shape
    ids = random_ids(4000)
    sizes = [1, 40, 3, 36, 20] * 20
    rolled(model, ids[:2000], sizes, window)
    before = living_tensors()
    rolled(model, ids[2000:], sizes, window)
    assert living_tensors() == before
    assert (window.cache.data_ptr(), window.cache.shape) == (place, shape)
    assert window.filled <= shape[3] == 2 * 20 + 40


@pytest.mark.parametrize("window", [20, 270])
@pytest.mark.parametrize("size", [1, 2, 30])
def test_no_mask_is_made_once_the_window_is_full(window: int, size: int) -> None:
    """No chunk in a full window runs an operation that makes a mask anew."""
    model = served(oracle(window, layers=1), max_chunk=30)
    state = model.new_stream()
    rolled(model, random_ids(window + 5), 1, state)
    seen: set[str] = set()
    for _ in range(3):
        with Operations() as operations:
            model.logits(random_ids(size), state)
        seen |= operations.seen.keys()
    assert seen & {"aten.linear", "aten.addmm", "aten.mm"}
    assert not seen & {"aten.masked_fill", "aten.where", "aten.arange", "aten.tril", "aten.full"}


def test_a_chunk_larger_than_the_window_was_made_for_is_refused() -> None:
    """The buffer has room for `max_chunk` tokens, and says so instead of overwriting."""
    model = served(oracle(24), max_chunk=5)
    with pytest.raises(ValueError, match=r"counts of .6. tokens, the states were made for 0 to 5"):
        model.logits(random_ids(6), model.new_stream())
