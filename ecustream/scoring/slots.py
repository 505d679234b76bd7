"""The caches of all streams of a device in one tensor that never moves.

Each stream owns a slot, in which its keys and values lie in order. When a pass does not fit, the last
`window - 1` positions move to the slot's front. One slot more than there can be streams takes what
a pass writes for rows that are no stream.
"""

import weakref
from collections import deque

import torch

from ecustream.errors import ConfigError
from ecustream.scoring.qwen2_weights import Qwen2Weights

__all__ = ["Slot", "Slots"]


class Slot:
    """The state of one stream: which slot of the tensors is its own, and how much of it holds."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.filled = 0
        self.position = 0
        self.since_reset = 0

    def reset(self) -> None:
        """Forget everything, as after a gap in the capture."""
        self.filled = 0
        self.since_reset = 0

    def advance(self, count: int) -> None:
        """The stream has taken so many tokens more."""
        self.filled += count
        self.position += count
        self.since_reset += count


class Slots:
    """Room for the keys, values and last logits of so many streams.

    Args:
        weights: the model's sizes, and where its tensors live.
        streams: how many streams may be open at once.
        window: tokens that a token attends to, itself included.
        longest: tokens that a pass writes to a slot, at most.

    Attributes:
        cache: shape (layers, 2, streams + 1, capacity, kv_heads, head_dim), the 2 being keys and values.
        last_logits: what follows each stream's last token, shape (streams + 1, vocab).
        spare: index of the slot that is no stream's.
    """

    def __init__(self, weights: Qwen2Weights, streams: int, window: int, longest: int) -> None:
        self.spare = streams
        self.capacity = 2 * window + longest
        shape = (weights.layers, 2, streams + 1, self.capacity, weights.kv_heads, weights.head_dim)
        self.cache = torch.zeros(shape, dtype=weights.dtype, device=weights.device)
        self.last_logits = torch.zeros(streams + 1, weights.vocab, device=weights.device)
        self._keep = window - 1
        self._free = deque(range(streams))

    def open(self) -> Slot:
        """A slot for a new stream; it is free again when the state is no longer referred to.

        Raises:
            ConfigError: every slot is taken.
        """
        try:
            slot = Slot(self._free.popleft())
        except IndexError:
            raise ConfigError(
                f"{self.spare} streams are open, and the device has room set aside for no more"
            ) from None
        weakref.finalize(slot, self._free.append, slot.index)
        return slot

    def make_room(self, slot: Slot, tokens: int) -> None:
        """Move what a slot still needs to its front if `tokens` more do not fit."""
        if slot.filled + tokens <= self.capacity:
            return
        # The slot is so full that what is kept and where it goes cannot overlap.
        kept = self.cache[:, :, slot.index, slot.filled - self._keep : slot.filled]
        self.cache[:, :, slot.index, : self._keep].copy_(kept)
        slot.filled = self._keep
