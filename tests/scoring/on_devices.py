"""The batched Qwen2 on every device there is: parameters and helpers of its tests."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ecustream.scoring.batched import BatchedQwen2
from ecustream.scoring.kernels import AttentionKind
from ecustream.scoring.slots import Slot
from tests.scoring.tiny import config_of, oracle_logits

__all__ = [
    "CHUNKS",
    "DEVICES",
    "ENGINES",
    "TOLERANCE_NATS",
    "batched",
    "chunk_tokens",
    "expected_nats",
    "flash_as_documented",
    "needs_cuda",
    "needs_flash",
    "random_ids",
    "scored",
]

TOLERANCE_NATS = 1e-4
CHUNKS = [pytest.param(chunk, id=str(chunk)) for chunk in ("1", "7", "50", "W-1", "W", "W+1", "4W")]


def _flash_knows_windows() -> bool:
    """Whether this torch has FlashAttention with a window over part of the keys."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return {"window_size", "seqused_k", "enable_gqa"} <= set(inspect.signature(varlen_attn).parameters)


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT TESTED: there is no CUDA device")
needs_flash = pytest.mark.skipif(
    not torch.cuda.is_available() or not _flash_knows_windows(),
    reason="NOT TESTED: there is no CUDA device, or no FlashAttention with a window in this torch",
)
DEVICES = [
    pytest.param(torch.device("cpu"), id="cpu"),
    pytest.param(torch.device("cuda"), id="cuda", marks=needs_cuda),
]
ENGINES = [
    pytest.param(torch.device(device), kernel, id=f"{device}-{kernel}", marks=marks)
    for device, kernels, marks in (
        ("cpu", ("eager", "sdpa"), ()),
        ("cuda", ("eager", "sdpa", "flex"), needs_cuda),
    )
    for kernel in kernels
]
"""Devices and kernels that compute in fp32, which FlashAttention does not."""


def batched(
    model: Any,
    device: torch.device,
    *,
    attention: AttentionKind = "sdpa",
    dtype: torch.dtype = torch.float32,
    max_streams: int = 1,
    max_chunk: int = 40,
    graphs: bool = True,
) -> BatchedQwen2:
    """The oracle's weights in the batched Qwen2."""
    return BatchedQwen2(
        config_of(model),
        model.state_dict(),
        device=device,
        dtype=dtype,
        max_streams=max_streams,
        max_chunk=max_chunk,
        attention=attention,
        graphs=graphs,
    )


def chunk_tokens(chunk: str, window: int) -> int:
    """The size that a name such as W+1 means."""
    return int(chunk) if chunk.isdigit() else {"W-1": -1, "W": 0, "W+1": 1, "4W": 3 * window}[chunk] + window


def random_ids(count: int, vocabulary: int = 40, seed: int = 0) -> npt.NDArray[np.int64]:
    """Token ids without any pattern."""
    return np.random.default_rng(seed).integers(0, vocabulary, count)


def scored(
    network: BatchedQwen2, ids: npt.NDArray[np.int64], sizes: Sequence[int] | int, stream: Slot | None = None
) -> npt.NDArray[np.float32]:
    """Surprisal of a stream's tokens, in chunks of these sizes."""
    stream = network.new_stream() if stream is None else stream
    ends = np.arange(sizes, len(ids), sizes) if isinstance(sizes, int) else np.cumsum(sizes)[:-1]
    parts = np.split(ids, ends)
    return np.concatenate([network.score(part, [(stream, len(part))]).nats for part in parts])


def expected_nats(model: Any, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Surprisal by one whole pass of Hugging Face's model; the first token against a uniform guess."""
    tokens = torch.from_numpy(ids)
    logits = torch.cat([torch.zeros(1, model.config.vocab_size), oracle_logits(model, tokens)[:-1]])
    nats: npt.NDArray[np.float32] = -torch.log_softmax(logits, 1).gather(1, tokens[:, None])[:, 0].numpy()
    return nats


def flash_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of torch's FlashAttention, which needs CUDA, what its documentation says that it does.

    So what is asked of it can be tested anywhere; whether it keeps its word, only on CUDA.
    """
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    monkeypatch.setattr(varlen, "varlen_attn", _varlen_as_documented)


def _varlen_as_documented(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
    seqused_k: torch.Tensor,
) -> torch.Tensor:
    """What torch's documentation says that `varlen_attn` gives, and wants."""
    group = query.shape[1] // key.shape[1]
    assert enable_gqa or group == 1
    assert {t.dtype for t in (cu_seq_q, cu_seq_k, seqused_k)} == {torch.int32}
    assert len(cu_seq_q) == len(cu_seq_k) == len(seqused_k) + 1
    assert int(cu_seq_q[-1]) == len(query)
    out = torch.zeros_like(query)
    for b, used in enumerate(seqused_k.tolist()):
        q_first, q_last = cu_seq_q[b : b + 2].tolist()
        k_first, k_last = cu_seq_k[b : b + 2].tolist()
        queries = q_last - q_first
        assert 0 <= k_first <= k_last <= len(key)
        assert 0 <= used <= k_last - k_first
        assert queries <= max_q
        assert used <= max_k
        if not used:
            continue
        # Queries are aligned to the end of the keys.
        place = torch.arange(queries)[:, None] + used - queries
        other = torch.arange(used)
        seen = (other >= place - window_size[0]) & (other <= place + window_size[1])
        keys, values = (
            t[k_first : k_first + used].repeat_interleave(group, dim=1).transpose(0, 1) for t in (key, value)
        )
        weights = query[q_first:q_last].transpose(0, 1) @ keys.transpose(1, 2) * scale
        weights = torch.softmax(weights.masked_fill(~seen, -float("inf")), dim=2)
        out[q_first:q_last] = (weights @ values).transpose(0, 1)
    return out
