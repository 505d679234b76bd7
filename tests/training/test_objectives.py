"""Objectives against values worked out by hand, and what a few steps of them do to a real model."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ecustream.errors import ConfigError
from tests.training.tiny_models import VOCABULARY, Table, batch_of, random_batch, tiny_qwen2
from training.objectives import OBJECTIVES, Counts, add, count, make_objective

torch.set_num_threads(1)

# One window over three tokens. Surprisal of its targets: ln 2, -ln .8 (labelled), ln 4; the last is ignored.
P = torch.tensor([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1], [0.25, 0.25, 0.5], [0.1, 0.8, 0.1]])
LABELLED_AT = 1


def window() -> tuple[Table, dict[str, Tensor]]:
    inputs = {
        "input_ids": torch.tensor([[2, 2, 2, 2]]),
        "targets": torch.tensor([[0, 0, 1, -100]]),
        "labelled": torch.tensor([[False, True, False, True]]),
        "fields": torch.tensor([[0, 1, 0, 1]]),
    }
    return Table(P.log()[None].clone()), inputs


def loss_of(name: str, **options: Any) -> float:
    model, inputs = window()
    return make_objective(name, **options)(model, inputs, count(inputs)).item()


def gradient_of(name: str, logits: Tensor | None = None, **options: Any) -> Tensor:
    """Gradient on the logits of the window's targets, (4, 3)."""
    model, inputs = window()
    if logits is not None:
        model = Table(logits[None].clone())
    make_objective(name, **options)(model, inputs, count(inputs)).backward()  # type: ignore[no-untyped-call]
    assert model.logits.grad is not None
    return model.logits.grad[0]


def surprisal(model: Any, inputs: dict[str, Tensor], of: Tensor) -> float:
    """Mean nats of the targets that `of` marks, target by target."""
    with torch.no_grad():
        logits = model(input_ids=inputs["input_ids"]).logits
    nats = [
        -float(torch.log_softmax(logits[row, at], dim=0)[inputs["targets"][row, at]])
        for row, at in of.nonzero().tolist()
    ]
    return float(np.mean(nats))


def test_counts_leave_out_ignored_targets() -> None:
    """An ignored target is neither a target nor labelled, nor does it make its window a labelled one."""
    _, inputs = window()
    assert count(inputs) == Counts(targets=3, labelled=1, windows=1)
    inputs["targets"][0, LABELLED_AT] = -100
    assert count(inputs) == Counts(targets=2, labelled=0, windows=0)
    assert add(Counts(3, 1, 1), Counts(20, 5, 2)) == Counts(23, 6, 3)


@pytest.mark.parametrize(
    ("name", "options", "nats"),
    [
        ("ce", {}, (0.693147 + 0.223144 + 1.386294) / 3),
        ("mask", {}, (0.693147 + 1.386294) / 2),
        ("paper", {"alpha": 0.5}, (0.693147 + 0.5 * 0.223144 + 1.386294) / 3),
        ("paper", {"alpha": 1.0}, (0.693147 + 1.386294) / 3),
        # Entropy of (.8, .1, .1) is .639032 nats.
        ("entropy", {"alpha": 0.5}, 0.767528 - 0.5 * 0.639032),
        # Mean of -ln .8, -ln .1, -ln .1.
        ("outlier_exposure", {"alpha": 0.5}, 1.039721 + 0.5 * 1.609438),
        # The labelled target's field 1 has tokens 0 and 1: mean of -ln .8, -ln .1.
        ("outlier_exposure", {"fields_of_tokens": np.array([1, 1, 0])}, 1.039721 + 0.5 * 1.262864),
        # No token is of field 1 alone: the whole vocabulary.
        ("outlier_exposure", {"fields_of_tokens": np.array([0, -1, 0])}, 1.039721 + 0.5 * 1.609438),
        ("margin", {"alpha": 0.5, "margin_nats": 1.0}, 1.039721 + 0.5 * (1 - 0.223144)),
        ("margin", {"alpha": 2.0, "margin_nats": 3.0}, 1.039721 + 2 * (3 - 0.223144)),
        ("margin", {"margin_nats": 0.2}, 1.039721),
    ],
)
def test_loss_is_what_a_pencil_says(name: str, options: dict[str, Any], nats: float) -> None:
    """Three targets, one of them labelled, worked out by hand."""
    assert loss_of(name, **options) == pytest.approx(nats, abs=1e-5)


def test_defaults_are_the_documented_ones() -> None:
    """The paper's alpha, .5, and a margin of 5 nats."""
    assert loss_of("paper") == loss_of("paper", alpha=0.5)
    assert loss_of("margin") == loss_of("margin", alpha=0.5, margin_nats=5.0)


def test_gradient_of_the_paper_only_weighs_labelled_tokens_less() -> None:
    """Equation 3 pulls a labelled token's probability up like cross-entropy does, 1 - alpha as hard."""
    plain, paper = gradient_of("ce"), gradient_of("paper", alpha=0.75)
    torch.testing.assert_close(paper[LABELLED_AT], 0.25 * plain[LABELLED_AT])
    torch.testing.assert_close(paper[0], plain[0])
    assert paper[LABELLED_AT, 0] < 0


def test_gradient_of_outlier_exposure_is_bounded_and_stays() -> None:
    """It is alpha (p - 1/V), also where the model is sure of itself."""
    got = gradient_of("outlier_exposure", alpha=0.5)[LABELLED_AT]
    torch.testing.assert_close(got, 0.5 * (P[LABELLED_AT] - 1 / 3))
    sure = gradient_of("outlier_exposure", torch.tensor([[200.0, 0.0, -200.0]] * 4), alpha=0.5)[LABELLED_AT]
    torch.testing.assert_close(sure, 0.5 * torch.tensor([2 / 3, -1 / 3, -1 / 3]))


def test_gradient_of_outlier_exposure_within_a_field() -> None:
    """It is alpha (p - u), u uniform over the field's tokens and nothing elsewhere."""
    got = gradient_of("outlier_exposure", alpha=0.5, fields_of_tokens=np.array([1, 1, 0]))[LABELLED_AT]
    torch.testing.assert_close(got, 0.5 * (P[LABELLED_AT] - torch.tensor([0.5, 0.5, 0.0])))


def test_gradient_of_entropy_vanishes_where_the_model_is_sure() -> None:
    """It is alpha p (log p + H) beside cross-entropy's (p - y) / N; at a sharp peak nothing is left of it."""
    p, entropy = P[LABELLED_AT], 0.639032
    cross_entropy = (p - torch.tensor([1.0, 0.0, 0.0])) / 3
    expected = cross_entropy + 0.5 * p * (p.log() + entropy)
    torch.testing.assert_close(gradient_of("entropy")[LABELLED_AT], expected, atol=1e-5, rtol=0)
    sure = gradient_of("entropy", torch.tensor([[200.0, 0.0, -200.0]] * 4))[LABELLED_AT]
    torch.testing.assert_close(sure, torch.zeros(3))


def test_gradient_of_the_margin_ends_there() -> None:
    """Below the margin a labelled token is pushed down as hard as it was pulled up; above it, let be."""
    expected = -0.5 * (P[LABELLED_AT] - torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(gradient_of("margin", margin_nats=1.0)[LABELLED_AT], expected)
    assert not gradient_of("margin", margin_nats=0.2)[LABELLED_AT].any()


def test_masked_and_ignored_tokens_pull_at_nothing() -> None:
    """No gradient from a labelled token under "mask", nor from an ignored one under anything."""
    assert not gradient_of("mask")[LABELLED_AT].any()
    for name in set(OBJECTIVES) - {"contrastive"}:
        assert not gradient_of(name)[3].any()


def shared(name: str, inputs: dict[str, Tensor], parts: list[int]) -> tuple[float, Tensor]:
    """Loss and gradients of a tiny Qwen2, the batch cut into micro-batches of so many windows."""
    model = tiny_qwen2()
    objective = make_objective(name, alpha=0.7, fields_of_tokens=np.arange(VOCABULARY) % 2)
    ends = np.cumsum(parts)
    micro = [
        {key: value[end - part : end] for key, value in inputs.items()}
        for end, part in zip(ends, parts, strict=True)
    ]
    counts = Counts(0, 0, 0)
    for each in micro:
        counts = add(counts, count(each))
    total = 0.0
    for each in micro:
        share = objective(model, each, counts)
        share.backward()  # type: ignore[no-untyped-call]
        total += share.item()
    return total, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@settings(max_examples=12, deadline=None)
@given(
    parts=st.lists(st.integers(1, 3), min_size=2, max_size=4),
    seed=st.integers(0, 1000),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_shares_of_micro_batches_add_up(name: str, parts: list[int], seed: int, share: float) -> None:
    """However a batch is cut, with or without labels, neither its loss nor its gradients change."""
    inputs = random_batch(sum(parts), seed=seed, share=share)
    whole, whole_gradients = shared(name, inputs, [sum(parts)])
    cut, cut_gradients = shared(name, inputs, parts)
    assert math.isfinite(whole)
    assert cut == pytest.approx(whole, rel=1e-5, abs=1e-6)
    torch.testing.assert_close(cut_gradients, whole_gradients, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_without_labels_all_are_cross_entropy(name: str) -> None:
    """A step without a label is a step of plain training."""
    inputs = random_batch(3, share=0.0)
    nats, gradients = shared(name, inputs, [3])
    assert nats == pytest.approx(surprisal(tiny_qwen2(), inputs, inputs["targets"] >= 0), rel=1e-5)
    torch.testing.assert_close(gradients, shared("ce", inputs, [3])[1])


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("ignored", [False, True])
def test_nothing_but_labels_or_nothing_at_all(name: str, ignored: bool) -> None:
    """A step of labelled targets only, or of none at all, has a finite loss and finite gradients."""
    inputs = random_batch(2, share=1.0)
    if ignored:
        inputs["targets"][:] = -100
    nats, gradients = shared(name, inputs, [2])
    assert math.isfinite(nats)
    assert torch.isfinite(gradients).all()
    assert nats == 0 or not ignored


@pytest.mark.parametrize("name", OBJECTIVES)
def test_low_precision_logits_are_summed_in_full_precision(name: str) -> None:
    """The loss of a bf16 model is fp32, and next to that of the same weights in fp32."""
    inputs = random_batch(4)
    rounded = tiny_qwen2().to(torch.bfloat16)
    low = make_objective(name)(rounded, inputs, count(inputs))
    assert low.dtype == torch.float32
    same = tiny_qwen2()
    same.load_state_dict({key: value.float() for key, value in rounded.state_dict().items()})
    assert low.item() == pytest.approx(make_objective(name)(same, inputs, count(inputs)).item(), rel=5e-3)


@pytest.mark.parametrize(
    ("name", "rises"),
    [("ce", False), ("paper", False), ("entropy", True), ("outlier_exposure", True), ("margin", True)],
)
def test_a_few_steps_move_labelled_tokens_the_right_way(name: str, rises: bool) -> None:
    """A model that half knows them learns them under "ce" and "paper", unlearns them under the others."""
    model = tiny_qwen2()
    lines = torch.tensor([2, 7, 3, 8, 4, 9]).repeat(4)
    labelled = torch.zeros(24, dtype=torch.bool)
    labelled[[10, 11]] = True
    inputs = batch_of(lines[None], labelled[None])
    optimiser: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), lr=0.02)

    def step(objective: str, **options: Any) -> None:
        optimiser.zero_grad()
        make_objective(objective, **options)(model, inputs, count(inputs)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    for _ in range(8):
        step("ce")
    before = surprisal(model, inputs, inputs["labelled"])
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02)
    for _ in range(2):
        step(name, alpha=1.0 if name != "paper" else 0.5)
    after = surprisal(model, inputs, inputs["labelled"])
    assert (after > before + 1e-3) if rises else (after < before - 1e-3)


def test_lanes_reach_the_model() -> None:
    """`lane` and `fresh` go on to a model that carries state, other inputs do not."""
    told: list[dict[str, Tensor]] = []

    class Carrying(Table):
        def forward(self, input_ids: Tensor, **rest: Tensor) -> Any:
            told.append(rest)
            return super().forward(input_ids)

    _, inputs = window()
    inputs |= {"lane": torch.tensor([4]), "fresh": torch.tensor([True]), "lines": torch.tensor([2])}
    for name in set(OBJECTIVES) - {"contrastive"}:
        make_objective(name)(Carrying(P.log()[None]), inputs, count(inputs))
    assert len(told) == 6
    assert all(rest == {"lane": inputs["lane"], "fresh": inputs["fresh"]} for rest in told)
    with pytest.raises(ConfigError, match="'contrastive' compares whole windows"):
        make_objective("contrastive")(Carrying(P.log()[None]), inputs, count(inputs))


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("eq2", {}, "'eq2' is not one of ce, mask, paper"),
        ("entropy", {"alpha": -0.1}, "alpha of objective 'entropy' must be a number from 0 up, not -0.1"),
        ("entropy", {"alpha": math.nan}, "alpha"),
        ("entropy", {"alpha": math.inf}, "alpha"),
        ("paper", {"alpha": 1.01}, "unbounded: the loss of labelled tokens falls without end"),
        ("margin", {"margin_nats": 0.0}, "margin_nats must be a number above 0"),
        ("margin", {"margin_nats": math.inf}, "margin_nats"),
    ],
)
def test_what_has_no_bound_or_no_meaning_is_refused(
    name: str, options: dict[str, Any], sentence: str
) -> None:
    """In a sentence that names the key."""
    with pytest.raises(ConfigError, match=sentence):
        make_objective(name, **options)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_knows_its_name(name: str) -> None:
    """What `make_objective` was asked for."""
    assert make_objective(name).name == name
