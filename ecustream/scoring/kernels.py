"""Attention of many streams at once to their windows in one cache tensor, by whichever kernel works here.

Every kernel gives the same: a token attends to itself and the `window - 1` tokens before it, as far as the
stream goes back. Lengths are tensors, so that a pass depends on nothing that the host knows.

- flash: `torch.nn.attention.varlen` (FlashAttention), which reads the cache where it lies; bf16 or fp16.
- flex: `torch.nn.attention.flex_attention`, compiled on CUDA, over gathered windows.
- sdpa: `scaled_dot_product_attention` with a mask, over gathered windows.
- eager: plain products, over gathered windows; the reference for the others.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F  # noqa: N812

from ecustream.errors import ConfigError

__all__ = ["KERNELS", "AttentionKind", "Chosen", "Form", "Kernel", "Reach", "choose_kernel"]

AttentionKind = Literal["auto", "flash", "flex", "sdpa", "eager"]

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Queries (streams, tokens, heads, d), scaled, with keys and values of a layer (rows, kv_heads, d),
to what is attended, (streams, tokens, heads * d)."""


class Form(NamedTuple):
    """What does not change from pass to pass: sizes of heads and window, where and in what precision."""

    window: int
    heads: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device

    @property
    def group(self) -> int:
        """Query heads that share a head of keys and values."""
        return self.heads // self.kv_heads


class Reach(NamedTuple):
    """Where the tokens of a pass stand in the cache; all tensors have shape (streams,) and dtype int64.

    Attributes:
        starts: row of the cache at which a stream's slot starts, never less than the one before.
        filled: rows of the slot that were filled before the pass; the pass writes its tokens after them.
        counts: how many of the pass's tokens are a stream's own, 0 where the row is no stream.
        tokens: tokens of the pass for each stream, those that pad it included.
    """

    starts: torch.Tensor
    filled: torch.Tensor
    counts: torch.Tensor
    tokens: int


class Kernel(Protocol):
    """A way to attend."""

    def over(self, reach: Reach) -> Attend:
        """What attends in each layer of a pass; keys and values of its tokens must be in the cache then."""


class FlashKernel:
    """FlashAttention over the cache as it lies, each stream's keys beginning where its first window does."""

    def __init__(self, form: Form) -> None:
        # Older versions of torch have no such module, or not all of these arguments: the trial tells.
        from torch.nn.attention.varlen import varlen_attn

        self._attend: Callable[..., Any] = varlen_attn
        self._form = form

    def over(self, reach: Reach) -> Attend:
        """See `Kernel`."""
        form, streams, tokens = self._form, len(reach.starts), reach.tokens
        before = reach.filled.clamp(max=form.window - 1)
        first = reach.starts + reach.filled - before
        # The sequences of keys follow one another with gaps between them, which `used` leaves out; what
        # the last one is closed by is never looked at.
        bounds = F.pad(first, (0, 1)).to(torch.int32)
        bounds[-1:] = first[-1:] + before[-1:] + tokens
        used = torch.where(reach.counts > 0, before + tokens, 0).to(torch.int32)
        queried = torch.arange(
            0, (streams + 1) * tokens, tokens, dtype=torch.int32, device=reach.starts.device
        )

        def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            attended: torch.Tensor = self._attend(
                queries.reshape(streams * tokens, form.heads, form.head_dim),
                keys,
                values,
                queried,
                bounds,
                tokens,
                form.window - 1 + tokens,
                scale=1.0,
                window_size=(form.window - 1, 0),
                enable_gqa=form.group > 1,
                seqused_k=used,
            )
            return attended.view(streams, tokens, -1)

        return attend


class FlexKernel:
    """FlexAttention: the window is a mask of blocks made once, a stream's beginning is looked up."""

    def __init__(self, form: Form) -> None:
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        self._form = form
        self._create_mask = create_block_mask
        self._attend: Callable[..., Any] = flex_attention
        if form.device.type == "cuda":
            self._attend = torch.compile(flex_attention, dynamic=False, fullgraph=True)
        self._masks: dict[int, Any] = {}
        self._compiled: set[tuple[int, int]] = set()

    def over(self, reach: Reach) -> Attend:
        """See `Kernel`."""
        form, tokens = self._form, reach.tokens
        rows, mask = _gathered_rows(reach, form.window), self._mask(tokens)
        missing = form.window - 1 - reach.filled

        def within_stream(score: Any, stream: Any, _head: Any, _query: Any, key: Any) -> Any:
            return torch.where(key >= missing[stream], score, -float("inf"))

        def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            attended: torch.Tensor = self._call(
                queries.transpose(1, 2),
                keys[rows].transpose(1, 2),
                values[rows].transpose(1, 2),
                score_mod=within_stream,
                block_mask=mask,
                scale=1.0,
                enable_gqa=form.group > 1,
                # The kernel for few queries takes groups of 2^n heads only.
                kernel_options={"FORCE_USE_FLEX_ATTENTION": True},
            )
            return attended.transpose(1, 2).flatten(2)

        return attend

    def _call(self, queries: torch.Tensor, *others: torch.Tensor, **options: Any) -> Any:
        shape = (queries.shape[0], queries.shape[2])
        if shape in self._compiled:
            return self._attend(queries, *others, **options)
        # Every shape is compiled once; by default torch gives up after eight of them.
        with torch._dynamo.config.patch(recompile_limit=1024, accumulated_recompile_limit=1024):
            attended = self._attend(queries, *others, **options)
        self._compiled.add(shape)
        return attended

    def _mask(self, tokens: int) -> Any:
        """The blocks within the window, for any streams; made in the trial run of a pass, then kept."""
        window = self._form.window
        if tokens not in self._masks:

            def within_window(_stream: Any, _head: Any, query: Any, key: Any) -> Any:
                return (key >= query) & (key < query + window)

            self._masks[tokens] = self._create_mask(
                within_window, None, None, tokens, window - 1 + tokens, device=self._form.device
            )
        return self._masks[tokens]


class SdpaKernel:
    """torch's fused attention with a mask; query heads that share keys stand as further queries."""

    def __init__(self, form: Form) -> None:
        self._form = form

    def over(self, reach: Reach) -> Attend:
        """See `Kernel`."""
        form, tokens = self._form, reach.tokens
        rows, visible = _gathered_rows(reach, form.window), _visible(reach, form.window)
        visible = visible.repeat(1, form.group, 1)[:, None]

        def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            streams = len(queries)
            # (streams, kv_heads, group * tokens, d)
            grouped = queries.view(streams, tokens, form.kv_heads, form.group, form.head_dim)
            grouped = grouped.permute(0, 2, 3, 1, 4).flatten(2, 3)
            attended = F.scaled_dot_product_attention(
                grouped,
                keys[rows].transpose(1, 2),
                values[rows].transpose(1, 2),
                attn_mask=visible,
                scale=1.0,
            )
            attended = attended.view(streams, form.kv_heads, form.group, tokens, form.head_dim)
            return attended.permute(0, 3, 1, 2, 4).reshape(streams, tokens, -1)

        return attend


class EagerKernel:
    """Plain products and a softmax, all of it in fp32."""

    def __init__(self, form: Form) -> None:
        self._form = form

    def over(self, reach: Reach) -> Attend:
        """See `Kernel`."""
        form, tokens = self._form, reach.tokens
        rows = _gathered_rows(reach, form.window)
        hidden = ~_visible(reach, form.window)[:, None, None]

        def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            streams = len(queries)
            grouped = queries.view(streams, tokens, form.kv_heads, form.group, form.head_dim)
            weights = torch.einsum("sqhgd,skhd->shgqk", grouped.float(), keys[rows].float())
            weights = torch.softmax(weights.masked_fill(hidden, -float("inf")), dim=-1)
            attended = torch.einsum("shgqk,skhd->sqhgd", weights, values[rows].float()).to(form.dtype)
            return attended.reshape(streams, tokens, -1)

        return attend


def _gathered_rows(reach: Reach, window: int) -> torch.Tensor:
    """Rows of the cache that the streams' tokens attend to, shape (streams, window - 1 + tokens).

    Where a stream does not go back so far, its first row stands in: a row that surely holds numbers.
    """
    place = torch.arange(1 - window, reach.tokens, device=reach.starts.device)
    return reach.starts[:, None] + (reach.filled[:, None] + place).clamp(min=0)


def _visible(reach: Reach, window: int) -> torch.Tensor:
    """Which gathered rows each token attends to, shape (streams, tokens, window - 1 + tokens)."""
    device = reach.starts.device
    query = torch.arange(reach.tokens, device=device)[:, None]
    key = torch.arange(window - 1 + reach.tokens, device=device)
    within_window = (key >= query) & (key < query + window)
    return within_window & (key >= window - 1 - reach.filled[:, None, None])


KERNELS: dict[str, Callable[[Form], Kernel]] = {
    "flash": FlashKernel,
    "flex": FlexKernel,
    "sdpa": SdpaKernel,
    "eager": EagerKernel,
}
"""By name, the fastest first."""

_ON_CUDA: Sequence[str] = ("flash", "flex", "sdpa", "eager")
_ON_CPU: Sequence[str] = ("sdpa", "eager")


class Chosen(NamedTuple):
    """A kernel that works.

    Attributes:
        name: its name in `KERNELS`.
        kernel: the kernel.
        rejected: why each faster one is not used, a sentence each.
    """

    name: str
    kernel: Kernel
    rejected: tuple[str, ...]


def choose_kernel(attention: AttentionKind, form: Form) -> Chosen:
    """The kernel of this name, or for "auto" the fastest that passes a trial on the device.

    Raises:
        ConfigError: the kernel asked for does not work here, or there is none of this name.
    """
    if attention != "auto" and attention not in KERNELS:
        known = ", ".join(["auto", *KERNELS])
        raise ConfigError(f"attention {attention!r} is not known, only {known}")
    names = [attention] if attention != "auto" else _ON_CUDA if form.device.type == "cuda" else _ON_CPU
    rejected = []
    for name in names:
        try:
            kernel = KERNELS[name](form)
            _try_out(kernel, form)
        # Anything can come out of a kernel that this machine was not made for; it is kept, and told.
        except Exception as error:
            rejected.append(f"attention {name} does not work on {form.device}: {_in_short(error)}")
        else:
            return Chosen(name, kernel, tuple(rejected))
    raise ConfigError("; ".join(rejected))


def _in_short(error: Exception) -> str:
    """The first sentence of an error, without the pages that compilers and dispatchers add."""
    first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return first_line.partition(". ")[0].rstrip(".")


@torch.inference_mode()
def _try_out(kernel: Kernel, form: Form) -> None:
    """Attend from a young and an old stream, and hold the result against plain products.

    Raises:
        ArithmeticError: the results differ.
    """
    tokens, old = 8, form.window + 3
    capacity = old + tokens + form.window
    generator = torch.Generator().manual_seed(0)
    # Scores of attention as large as a model's, not as large as the head's size makes them.
    queries = torch.randn(2, tokens, form.heads, form.head_dim, generator=generator) / form.head_dim**0.5
    keys = torch.randn(2 * capacity, form.kv_heads, form.head_dim, generator=generator)
    values = torch.randn(2 * capacity, form.kv_heads, form.head_dim, generator=generator)
    # Young is filled by the pass alone, old up to `old` before it. What no query may see, and what only
    # the first or the last may see, is so large that a window off by one token shows in any precision.
    young_values, old_values = values[:capacity], values[capacity:]
    for unseen in (young_values[tokens:], old_values[: old - form.window + 1], old_values[old + tokens :]):
        unseen.fill_(1e4)
    for seen_once in (
        young_values[tokens - 1],
        old_values[old - form.window + 1],
        old_values[old + tokens - 1],
    ):
        seen_once.fill_(1e3)
    placed = [tensor.to(form.device, form.dtype) for tensor in (queries, keys, values)]
    filled = torch.tensor([0, old], device=form.device)
    starts, counts = torch.tensor([0, capacity], device=form.device), torch.full_like(filled, tokens)
    reach = Reach(starts, filled, counts, tokens)
    expected = EagerKernel(form).over(reach)(*placed).float()
    off = (kernel.over(reach)(*placed).float() - expected).abs() / (1 + expected.abs())
    allowed = 1e-3 if form.dtype == torch.float32 else 5e-2
    if not float(off.max()) <= allowed:
        raise ArithmeticError(f"its result is {float(off.max()):.2g} away from that of plain products")
