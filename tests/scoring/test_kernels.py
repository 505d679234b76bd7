"""Every attention kernel against a window that is written out token by token."""

import itertools
from typing import Any, cast

import pytest
import torch

from ecustream.errors import ConfigError
from ecustream.scoring.kernels import KERNELS, AttentionKind, EagerKernel, Form, Reach, choose_kernel
from tests.scoring.on_devices import flash_as_documented, needs_cuda, needs_flash

FP32, BF16 = torch.float32, torch.bfloat16
ON_DEVICES = [
    *(pytest.param("cpu", name, dtype) for name in ("eager", "sdpa", "flex") for dtype in (FP32, BF16)),
    *(
        pytest.param("cuda", name, dtype, marks=needs_cuda)
        for name in ("eager", "sdpa", "flex")
        for dtype in (FP32, BF16)
    ),
    pytest.param("cuda", "flash", BF16, marks=needs_flash),
]


class Pass:
    """Streams with so many tokens in their slots, and a few more that attend."""

    def __init__(self, form: Form, filled: list[int], tokens: int) -> None:
        generator = torch.Generator().manual_seed(form.window)
        self.form = form
        self.filled = filled
        self.capacity = 2 * form.window + tokens
        # Slots are apart from one another, so that order and distance are not given away by their number.
        self.starts = [(2 * i + 1) * self.capacity for i in range(len(filled))]
        self.queries, keys, values = (
            torch.randn(*shape, form.head_dim, generator=generator).to(form.device, form.dtype)
            for shape in (
                (len(filled), tokens, form.heads),
                (2 * len(filled) * self.capacity, form.kv_heads),
                (2 * len(filled) * self.capacity, form.kv_heads),
            )
        )
        # As in a model, where the scale of attention is part of the queries.
        self.queries /= form.head_dim**0.5
        # What was never written, or belongs to nobody here, would not go unnoticed.
        written = torch.zeros(len(keys), dtype=torch.bool)
        for start, count in zip(self.starts, filled, strict=True):
            written[start : start + count + tokens] = True
        values[~written.to(form.device)] = 1e4
        self.keys, self.values = keys, values
        device = form.device
        self.reach = Reach(
            torch.tensor(self.starts, device=device),
            torch.tensor(filled, device=device),
            torch.full((len(filled),), tokens, device=device),
            tokens,
        )

    def expected(self) -> torch.Tensor:
        """What each token attends to, in fp64, from its own definition."""
        form, (streams, tokens) = self.form, self.queries.shape[:2]
        out = torch.empty(streams, tokens, form.heads, form.head_dim, dtype=torch.float64)
        queries, keys, values = (t.double().cpu() for t in (self.queries, self.keys, self.values))
        for stream, i, head in itertools.product(range(streams), range(tokens), range(form.heads)):
            place = self.filled[stream] + i
            seen = [self.starts[stream] + j for j in range(max(0, place - form.window + 1), place + 1)]
            shared = head // (form.heads // form.kv_heads)
            weights = torch.softmax(keys[seen, shared] @ queries[stream, i, head], dim=0)
            out[stream, i, head] = weights @ values[seen, shared]
        return out.flatten(2)


def form_of(
    device: str, dtype: torch.dtype, window: int, *, heads: int = 4, kv_heads: int = 2, head_dim: int = 16
) -> Form:
    """Sizes of a small layer."""
    return Form(window, heads, kv_heads, head_dim, dtype, torch.device(device))


def check(kernel: Any, form: Form, filled: list[int], tokens: int) -> None:
    """The kernel gives what the definition gives."""
    given = Pass(form, filled, tokens)
    with torch.inference_mode():
        attended = kernel.over(given.reach)(given.queries, given.keys, given.values)
    assert attended.dtype == form.dtype
    tolerance = 1e-5 if form.dtype == FP32 else 3e-2
    torch.testing.assert_close(attended.double().cpu(), given.expected(), atol=tolerance, rtol=tolerance)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("window", "tokens"), [(9, 8), (1, 8), (40, 16), (5, 32)])
@pytest.mark.parametrize(("device", "name", "dtype"), ON_DEVICES)
def test_a_token_attends_to_its_window_and_nothing_else(
    device: str, name: str, dtype: torch.dtype, window: int, tokens: int
) -> None:
    """At the window's edge too: slots that hold none, one, W-2 to W+1 and many tokens."""
    form = form_of(device, dtype, window)
    filled = sorted({0, 1, max(0, window - 2), window - 1, window, window + 1, 2 * window})
    check(KERNELS[name](form), form, filled, tokens)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 1), (14, 2), (3, 1)])
@pytest.mark.parametrize(("device", "name", "dtype"), ON_DEVICES)
def test_query_heads_share_keys_in_groups_of_any_size(
    device: str, name: str, dtype: torch.dtype, heads: int, kv_heads: int
) -> None:
    """Groups of one, of all, and of odd sizes, as in Qwen2-0.5B, attend to the keys that are theirs."""
    form = form_of(device, dtype, 12, heads=heads, kv_heads=kv_heads)
    check(KERNELS[name](form), form, [0, 11, 12, 20], 8)


@pytest.mark.parametrize(("window", "tokens"), [(9, 8), (1, 8), (40, 16), (5, 32)])
def test_flash_asks_for_the_window_in_the_words_of_its_documentation(
    monkeypatch: pytest.MonkeyPatch, window: int, tokens: int
) -> None:
    """Bounds, lengths and window that FlashAttention is given mean what the other kernels compute."""
    flash_as_documented(monkeypatch)
    form = form_of("cpu", FP32, window)
    filled = sorted({0, 1, max(0, window - 2), window - 1, window, window + 1, 2 * window})
    check(KERNELS["flash"](form), form, filled, tokens)


def test_flash_lets_rows_that_are_no_stream_attend_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that share the spare slot have no keys, so the bounds of the streams before them hold."""
    flash_as_documented(monkeypatch)
    form = form_of("cpu", FP32, 9)
    given = Pass(form, [3, 15, 0, 0], 8)
    spare = given.reach.starts[2:3].expand(2)
    reach = given.reach._replace(
        starts=torch.cat([given.reach.starts[:2], spare]), counts=torch.tensor([8, 2, 0, 0])
    )
    attended = KERNELS["flash"](form).over(reach)(given.queries, given.keys, given.values)
    torch.testing.assert_close(attended[:2].double(), given.expected()[:2], atol=1e-5, rtol=1e-5)
    assert not attended[2:].any()


def test_auto_takes_the_fastest_kernel_that_works_here() -> None:
    """On a CPU that is the fused one with a mask; nothing faster was there to be rejected."""
    chosen = choose_kernel("auto", form_of("cpu", FP32, 24))
    assert (chosen.name, chosen.rejected) == ("sdpa", ())


@needs_flash
def test_auto_on_cuda_takes_flash_where_it_can() -> None:
    """FlashAttention computes in bf16, so there it is used; in fp32 it is passed over with a reason."""
    half, full = (
        choose_kernel("auto", form_of("cuda", dtype, 256, heads=14, kv_heads=2, head_dim=64))
        for dtype in (BF16, FP32)
    )
    assert (half.name, half.rejected) == ("flash", ())
    assert full.name == "flex", full.rejected
    assert len(full.rejected) == 1


@pytest.mark.parametrize("off_by", [-1, 1])
@pytest.mark.parametrize("window", [2, 5, 256, 1024])
@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_a_kernel_whose_window_is_off_by_one_falls_to_the_next(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, window: int, off_by: int
) -> None:
    """The trial holds a kernel against plain products, at the edge of windows of any size."""
    monkeypatch.setitem(
        cast(dict[str, Any], KERNELS),
        "sdpa",
        lambda form: EagerKernel(form._replace(window=form.window + off_by)),
    )
    chosen = choose_kernel("auto", form_of("cpu", dtype, window))
    assert chosen.name == "eager"
    (reason,) = chosen.rejected
    assert reason.startswith("attention sdpa does not work on cpu: its result is ")


@pytest.mark.parametrize("error", [RuntimeError("no such kernel. Ask elsewhere.\nPages"), ImportError()])
def test_a_kernel_that_fails_falls_to_the_next_with_a_short_reason(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever a kernel raises is kept as one sentence."""

    def failing(form: Form) -> Any:
        raise error

    monkeypatch.setitem(cast(dict[str, Any], KERNELS), "sdpa", failing)
    chosen = choose_kernel("auto", form_of("cpu", FP32, 24))
    said = "no such kernel" if str(error) else "ImportError"
    assert chosen.rejected == (f"attention sdpa does not work on cpu: {said}",)
    with pytest.raises(ConfigError, match=f"attention sdpa does not work on cpu: {said}"):
        choose_kernel("sdpa", form_of("cpu", FP32, 24))


def test_an_unknown_kernel_is_refused_with_those_that_are_known() -> None:
    """The sentence names what may be asked for."""
    with pytest.raises(ConfigError, match="attention 'paged' is not known, only auto, flash, flex, sdpa"):
        choose_kernel(cast(AttentionKind, "paged"), form_of("cpu", FP32, 24))
