"""Qwen2 with a sliding window in every layer, for many streams at once on a device such as a GPU.

The tokens of a call stand in a grid of streams and tokens whose sides are rounded up to a few sizes, so
that a pass of each shape is prepared once. What pads a stream's row is written to the cache behind its
tokens, where causality hides it and the next pass overwrites it; a row that is no stream writes to a slot
that is none's. Everything from ids to surprisal happens on the device, with one copy there and one back.
It computes what `Qwen2` computes on a CPU; Hugging Face's `Qwen2ForCausalLM` is the oracle of both.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812

from ecustream.scoring.graphs import Passes, sizes_up_to
from ecustream.scoring.kernels import AttentionKind, Form, Reach, choose_kernel
from ecustream.scoring.network import Serving, Surprisal, check_parts
from ecustream.scoring.qwen2 import receptive_field
from ecustream.scoring.qwen2_weights import Layer, Qwen2Weights
from ecustream.scoring.rope import wrapped
from ecustream.scoring.slots import Slot, Slots

__all__ = ["BatchedQwen2"]

_FEWEST_TOKENS = 8
# What a row of the input says of its stream, before the row's tokens.
_SLOT, _FILLED, _POSITION, _COUNT, _FRESH, _HEADER = range(6)


class BatchedQwen2:
    """A frozen Qwen2 for scoring on a device; a `Network` served from a rolling cache.

    Not more than one thread may use it at a time.

    Args:
        config: the Hugging Face `config.json` as a mapping.
        weights: tensors by Hugging Face name.
        device: where the model and the streams' caches live.
        dtype: of products, keys and values; norms, softmax and what is summed over layers stay in fp32.
        max_streams: streams that may be open at once; memory for them is taken now.
        max_chunk: tokens that one stream may add in a call.
        attention: the kernel, see `ecustream.scoring.kernels`; "auto" takes the fastest that works.
        graphs: whether passes are recorded as CUDA graphs, where the device has them.

    Attributes:
        attention_used: name of the kernel that is used.
        attention_rejected: why each faster kernel is not used, a sentence each.

    Raises:
        BundleError: not every layer slides, or a weight is missing or has the wrong shape.
        ConfigError: the kernel asked for does not work on the device.
    """

    serving: Serving = "rolling"

    def __init__(
        self,
        config: Mapping[str, Any],
        weights: Mapping[str, torch.Tensor],
        *,
        device: torch.device,
        dtype: torch.dtype,
        max_streams: int,
        max_chunk: int,
        attention: AttentionKind = "auto",
        graphs: bool = True,
    ) -> None:
        self.weights = Qwen2Weights(config, weights, dtype=dtype, device=device)
        self.window = self.weights.rolling_window()
        self.max_chunk = max_chunk
        self.layers = self.weights.layers
        self.vocab = self.weights.vocab
        self.warming_tokens = receptive_field(self.layers, self.window)
        self.flops_per_token = self.weights.flops_per_token(self.window)
        self._rope = self.weights.rope.to(device)
        w = self.weights
        chosen = choose_kernel(
            attention, Form(self.window, w.heads, w.kv_heads, w.head_dim, w.dtype, w.device)
        )
        self.attention_used = chosen.name
        self.attention_rejected = chosen.rejected
        self._kernel = chosen.kernel
        self._stream_sizes = sizes_up_to(max_streams)
        self._token_sizes = sizes_up_to(max_chunk, smallest=_FEWEST_TOKENS)
        self._slots = Slots(w, max_streams, self.window, max_chunk)
        self._passes = Passes(self._pass, self._idle, device, graphs=graphs)

    @property
    def notes(self) -> Sequence[str]:
        """Which attention is used, and why none that is faster."""
        return [f"attention {self.attention_used}", *self.attention_rejected]

    @property
    def prepared_passes(self) -> int:
        """How many shapes of a pass were prepared so far; none is added after `warm_up`."""
        return self._passes.prepared

    def new_stream(self) -> Slot:
        """State of a new stream, whose room is free again when nothing refers to the state.

        Raises:
            ConfigError: `max_streams` are open.
        """
        return self._slots.open()

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Prepare every shape of a pass, so that no later call has to wait for that."""
        shapes = [(s, _HEADER + t) for s in self._stream_sizes for t in self._token_sizes]
        self._passes.prepare(shapes)

    @torch.inference_mode()
    def score(self, ids: npt.NDArray[np.int64], parts: Sequence[tuple[Slot, int]]) -> Surprisal:
        """See `Network.score`.

        Raises:
            ValueError: also for an id outside the vocabulary, which would cost the process its device.
        """
        check_parts(len(ids), [count for _, count in parts], self.max_chunk)
        if not len(ids):
            return Surprisal(np.empty(0, np.float32), np.empty(0, np.int64))
        if ids.min() < 0 or ids.max() >= self.vocab:
            raise ValueError(f"ids from {ids.min()} to {ids.max()}, the vocabulary has {self.vocab}")
        ends = np.cumsum([count for _, count in parts]).tolist()
        taking = [
            (slot, slice(end - count, end)) for (slot, count), end in zip(parts, ends, strict=True) if count
        ]
        # Kernels want the slots in the order in which they lie in the cache.
        taking.sort(key=lambda part: part[0].index)
        tokens = _fitting(self._token_sizes, max(count for _, count in parts))
        inputs = self._idle(_fitting(self._stream_sizes, len(taking)), _HEADER + tokens)
        for row, (slot, own) in zip(inputs, taking, strict=False):
            self._slots.make_room(slot, tokens)
            count = own.stop - own.start
            row[:_HEADER] = slot.index, slot.filled, wrapped(slot.position), count, slot.since_reset == 0
            row[_HEADER : _HEADER + count] = ids[own]
        nats, best = self._passes(inputs)
        said = Surprisal(np.empty(len(ids), np.float32), np.empty(len(ids), np.int64))
        for row, (slot, own) in enumerate(taking):
            count = own.stop - own.start
            slot.advance(count)
            said.nats[own] = nats[row, :count].view(np.float32)
            said.best[own] = best[row, :count]
        return said

    def _idle(self, streams: int, width: int) -> npt.NDArray[np.int64]:
        """Input of a pass none of whose rows is a stream."""
        rows = np.zeros((streams, width), np.int64)
        rows[:, _SLOT] = self._slots.spare
        rows[:, _FRESH] = 1
        return rows

    def _pass(self, inputs: torch.Tensor) -> torch.Tensor:
        """Surprisal (as bits of fp32) and best token, shape (2, streams, tokens) in int32.

        Args:
            inputs: for each stream its header and its padded tokens, shape (streams, header + tokens).
        """
        slots, ids = inputs[:, _SLOT], inputs[:, _HEADER:]
        logits = self._logits(inputs)
        predicting = torch.empty_like(logits)
        fresh = inputs[:, _FRESH, None] != 0
        predicting[:, 0] = torch.where(fresh, 0.0, self._slots.last_logits[slots])
        predicting[:, 1:] = logits[:, :-1]
        last = (inputs[:, _COUNT] - 1).clamp(min=0)
        rows = torch.arange(len(inputs), device=inputs.device)
        self._slots.last_logits.index_copy_(0, slots, logits[rows, last])
        nats = -torch.log_softmax(predicting, dim=2).gather(2, ids[:, :, None])[:, :, 0]
        return torch.stack([nats.view(torch.int32), predicting.argmax(dim=2).to(torch.int32)])

    def _logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits after each token, shape (streams, tokens, vocab); appends keys and values to the slots."""
        w = self.weights
        ids, filled = inputs[:, _HEADER:], inputs[:, _FILLED]
        streams, tokens = ids.shape
        place = torch.arange(tokens, device=inputs.device)
        starts = inputs[:, _SLOT] * self._slots.capacity
        written = (starts[:, None] + filled[:, None] + place).flatten()
        angles = self._rope.angles(inputs[:, _POSITION, None] + place).flatten(0, 1)
        rotation = torch.polar(torch.ones_like(angles), angles).to(torch.complex64)[:, None]
        attend = self._kernel.over(Reach(starts, filled, inputs[:, _COUNT], tokens))
        rotating = w.heads + w.kv_heads
        x = F.embedding(ids.flatten(), w.embedding)
        for layer, cache in zip(w.blocks, self._slots.cache, strict=True):
            keys, values = cache.flatten(1, 2)
            qkv = F.linear(self._norm(x), layer.qkv, layer.qkv_bias).view(len(x), -1, w.head_dim)
            pairs = torch.view_as_complex(qkv[:, :rotating].float().view(len(x), rotating, -1, 2))
            rotated = torch.view_as_real(pairs * rotation).flatten(2).to(w.dtype)
            keys.index_copy_(0, written, rotated[:, w.heads :])
            values.index_copy_(0, written, qkv[:, rotating:])
            queries = rotated[:, : w.heads].reshape(streams, tokens, w.heads, w.head_dim)
            x = self._add(x, attend(queries, keys, values).flatten(0, 1), layer.out)
            x = self._feed_forward(x, layer)
        return F.linear(F.rms_norm(x, (w.hidden,), eps=w.eps), w.head).view(streams, tokens, -1)

    def _feed_forward(self, x: torch.Tensor, layer: Layer) -> torch.Tensor:
        gate, up = F.linear(self._norm(x), layer.gate_up).chunk(2, dim=1)
        return self._add(x, F.silu(gate).mul_(up), layer.down)

    def _norm(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, (self.weights.hidden,), eps=self.weights.eps).to(self.weights.dtype)

    def _add(self, x: torch.Tensor, change: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """`x` and a product with `weight`, in fp32."""
        if weight.dtype == x.dtype:
            return torch.addmm(x, change, weight.t())
        return x + F.linear(change, weight)


def _fitting(sizes: Sequence[int], wanted: int) -> int:
    """The smallest of some ascending sizes that is large enough."""
    return next(size for size in sizes if size >= wanted)
