"""A run's FLOPs: what a step costs by hand, and where a budget ends."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from ecustream.errors import ConfigError
from training.budget import Budget, flops_text, measure_step, parse_flops, plan_sentence

_BATCH, _LENGTH, _HIDDEN, _LAYERS, _VOCABULARY = 2, 128, 32, 2, 50
_COMMON = {
    "vocab_size": _VOCABULARY,
    "hidden_size": _HIDDEN,
    "num_hidden_layers": _LAYERS,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}


def _qwen2(tied: bool = True, attention: str = "sdpa", **more: Any) -> Any:
    torch.manual_seed(0)
    config = Qwen2Config(
        **_COMMON,
        intermediate_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        **more,
    )
    return Qwen2ForCausalLM._from_config(config, attn_implementation=attention)


def _step(model: Any, length: int = _LENGTH) -> Callable[[], Tensor]:
    ids = torch.randint(_VOCABULARY, (_BATCH, length), generator=torch.Generator().manual_seed(0))
    return lambda: F.cross_entropy(model(input_ids=ids).logits.flatten(0, 1), ids.flatten())


def _products(model: Any) -> int:
    """Weights that a token is multiplied with: of every linear layer, the head's among them."""
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))


def _attention(length: int = _LENGTH) -> int:
    """Forward and backward of QK and AV, each 2 * length**2 * hidden, in every layer."""
    return 3 * 2 * 2 * length**2 * _HIDDEN * _LAYERS * _BATCH


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_transformers_step_is_six_flops_a_weight_and_token_plus_attention(
    tied: bool, attention: str
) -> None:
    """The fused attention of processors counts as its products, though torch's counter does not know it."""
    model = _qwen2(tied, attention)

    flops = measure_step(model, _step(model))

    assert flops == pytest.approx(6 * _products(model) * _BATCH * _LENGTH + _attention(), rel=0.01)


def test_a_sliding_window_counts_as_what_is_computed() -> None:
    """On a processor a mask saves nothing: the count is that of attention over the whole length."""
    model = _qwen2(
        use_sliding_window=True, sliding_window=16, max_window_layers=0, layer_types=["sliding_attention"] * 2
    )
    full = _qwen2()

    assert measure_step(model, _step(model)) == measure_step(full, _step(full))


def test_the_loss_of_half_a_batch_costs_half() -> None:
    """What is measured grows with the tokens of the step: attention by their square, the rest in a line."""
    model = _qwen2()

    whole, half = measure_step(model, _step(model)), measure_step(model, _step(model, _LENGTH // 2))

    assert whole - half == pytest.approx(
        6 * _products(model) * _BATCH * _LENGTH // 2 + _attention() - _attention(_LENGTH // 2), rel=0.01
    )


def test_a_mamba_step_is_six_flops_a_weight_and_token_plus_little() -> None:
    """Products and the depthwise convolution count at 6 FLOPs a weight; of the scan only C times state."""
    torch.manual_seed(0)
    model: Any = MambaForCausalLM(MambaConfig(**_COMMON, state_size=8, expand=2, conv_kernel=4))
    inner, state = 2 * _HIDDEN, 8
    convolution = 4 * inner * _LAYERS
    readout = inner * state * _LAYERS

    flops = measure_step(model, _step(model))

    expected = 6 * (_products(model) + convolution + readout) * _BATCH * _LENGTH
    assert flops == pytest.approx(expected, rel=0.03)


def test_a_mamba2_step_counts_the_products_of_its_chunks() -> None:
    """Above the 6 FLOPs a weight and token lie the chunks' own products, at most as much again."""
    torch.manual_seed(0)
    model: Any = Mamba2ForCausalLM(
        Mamba2Config(**_COMMON, state_size=16, expand=2, num_heads=4, head_dim=16, n_groups=1, chunk_size=32)
    )
    weights = _products(model) + 4 * (2 * _HIDDEN + 2 * 16) * _LAYERS

    flops = measure_step(model, _step(model))

    least = 6 * weights * _BATCH * _LENGTH
    assert least < flops < 2 * least


def test_a_grouped_convolution_costs_three_times_its_forward_pass() -> None:
    """Torch's own formula multiplies the gradient of the weights by the number of groups."""
    torch.manual_seed(0)
    model = torch.nn.Conv1d(64, 64, 4, groups=64)
    inputs = torch.randn(2, 64, 35, requires_grad=True)

    assert measure_step(model, lambda: model(inputs).sum()) == 3 * 2 * (2 * 64 * 32 * 4)


def test_measuring_leaves_the_run_as_it_was() -> None:
    """Weights, mode and random state are the same after it, and there are no gradients."""
    model = _qwen2(attention_dropout=0.5)
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()

    measure_step(model, _step(model))

    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


def test_frozen_weights_cost_no_gradient() -> None:
    """A step that trains a single layer's weights costs less than one that trains them all."""
    model = _qwen2(tied=False)
    everything = measure_step(model, _step(model))
    model.requires_grad_(False)
    model.lm_head.requires_grad_(True)

    head = model.lm_head.weight.numel() * _BATCH * _LENGTH
    forward = everything / 3

    assert measure_step(model, _step(model)) == pytest.approx(forward + 2 * head, rel=0.01)


@given(limit=st.integers(1, 10_000), step=st.integers(1, 300), spent=st.integers(0, 5000))
def test_a_budget_is_never_passed_and_never_left_with_room_for_a_step(
    limit: int, step: int, spent: int
) -> None:
    """Steps are taken as long as the limit covers another one, from wherever an earlier run left it."""
    budget = Budget(limit, spent)
    budget.flops_per_step = step
    steps = 0
    while not budget.exhausted:
        budget.spend(step)
        steps += 1

    assert steps == max(0, (limit - spent) // step)
    assert budget.spent == spent + steps * step
    assert budget.share == min(1.0, budget.spent / limit)


def test_a_budget_expects_the_next_step_to_cost_what_the_last_one_did() -> None:
    """A dearer step than the one that was announced counts from then on."""
    budget = Budget(100)
    budget.flops_per_step = 10
    budget.spend(40)
    assert not budget.exhausted
    budget.spend(40)
    assert budget.exhausted


def test_without_a_limit_everything_is_covered() -> None:
    """Spending is still counted; there is no share of nothing."""
    budget = Budget()
    budget.spend(10**20)

    assert (budget.exhausted, budget.share, budget.spent) == (False, 0.0, 10**20)


@pytest.mark.parametrize(
    ("limit", "end"),
    [
        (None, "37.1 TFLOP in all"),
        (30 * 10**12, "; the budget of 30 TFLOP ends it after 728"),
        (900 * 41_200_000_000, "37.1 TFLOP in all; the budget of 37.1 TFLOP covers it"),
        (41_199_999_999, "; the budget of 41.2 GFLOP does not cover one step"),
    ],
)
def test_a_plan_says_where_the_budget_ends_it(limit: int | None, end: str) -> None:
    """The sentence has the steps, what one costs, all of them, and where the budget ends the run."""
    sentence = plan_sentence(41_200_000_000, 900, limit, 8192)

    assert sentence.startswith("plan: 900 steps of 41.2 GFLOP and 8,192 tokens, 37.1 TFLOP in all")
    assert sentence.endswith(end)


@pytest.mark.parametrize(
    ("flops", "text"),
    [
        (0, "0 FLOP"),
        (999, "999 FLOP"),
        (999_499, "999 kFLOP"),
        (999_500, "1 MFLOP"),
        (41_200_000_000, "41.2 GFLOP"),
        (10**15, "1 PFLOP"),
        (5 * 10**24, "5,000 ZFLOP"),
    ],
)
def test_flops_have_three_digits_and_a_unit(flops: int, text: str) -> None:
    """Rounding goes on to the next unit."""
    assert flops_text(flops) == text


@pytest.mark.parametrize(("text", "flops"), [("1e15", 10**15), ("2.5e3", 2500), ("1", 1), (" 7 ", 7)])
def test_a_budget_is_read_as_a_number(text: str, flops: int) -> None:
    """Powers of ten are how FLOPs are written."""
    assert parse_flops(text) == flops


@given(st.one_of(st.sampled_from(["", "nan", "inf", "1e400", "0", "-1e15", "1 PFLOP", "0.5"]), st.text()))
def test_what_is_no_budget_is_refused_in_a_sentence(text: str) -> None:
    """The sentence names the option and repeats what was given."""
    try:
        usable = 1 <= float(text) < float("inf")
    except ValueError:
        usable = False
    if usable:
        assert parse_flops(text) == int(float(text))
        return
    with pytest.raises(ConfigError, match=r"^--budget-flops: ") as raised:
        parse_flops(text)
    assert repr(text) in str(raised.value)


class _Fused(torch.nn.Module):
    """One linear layer and one of the accelerators' attention kernels, without data."""

    def __init__(self, kernel: Callable[..., tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(64, 64, bias=False, device="meta")
        self.kernel = kernel

    def forward(self) -> Tensor:
        heads = self.linear(torch.empty(2, 128, 64, device="meta")).unflatten(-1, (4, 16)).transpose(1, 2)
        return self.kernel(heads, heads, heads)[0].sum()


@pytest.mark.parametrize(
    "kernel",
    [
        torch.ops.aten._scaled_dot_product_flash_attention,
        lambda q, k, v: torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True),
        lambda q, k, v: torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True),
    ],
    ids=["flash", "efficient", "cudnn"],
)
def test_fused_attention_of_accelerators_counts_its_products_once(
    kernel: Callable[..., tuple[Tensor, ...]],
) -> None:
    """What these kernels compute again in their backward pass is not counted."""
    model = _Fused(kernel)
    linear = 2 * (2 * 2 * 128 * 64 * 64)
    attention = 3 * 2 * 2 * 128**2 * 64 * 2

    assert measure_step(model, model) == linear + attention
