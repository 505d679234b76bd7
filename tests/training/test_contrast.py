"""Windows without their labelled lines, and the contrastive objective made of them."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import Tensor

from tests.training.tiny_models import Bigram, random_batch, tiny_qwen2
from training.contrast import labelled_inputs, similarity, without
from training.objectives import count, make_objective

torch.set_num_threads(1)


def window(ids: list[int], labelled: list[bool]) -> dict[str, Tensor]:
    """One window of a batch from its tokens and their labels, the last of which is only a target."""
    tokens, marks = torch.tensor([ids]), torch.tensor([labelled])
    return {
        "input_ids": tokens[:, :-1],
        "targets": tokens[:, 1:].clone(),
        "labelled": marks[:, 1:],
        "fields": torch.zeros_like(tokens[:, 1:]),
    }


def two_directions() -> Bigram:
    """Four tokens, all equally likely after all; hidden states (1, 0) of token 2 and (0, 1) of token 3."""
    return Bigram(torch.zeros(4, 4), torch.tensor([[9.0, 9.0], [9.0, -9.0], [1.0, 0.0], [0.0, 1.0]]))


def loss_of(model: Any, inputs: dict[str, Tensor], alpha: float) -> Tensor:
    return make_objective("contrastive", alpha=alpha)(model, inputs, count(inputs))


@settings(deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=5))
def test_without_closes_ranks(dropped: list[list[bool]]) -> None:
    """What a plain loop leaves of each row, then padding."""
    ids = torch.arange(1, 1 + 4 * len(dropped)).view(-1, 4)
    expected = []
    for row, marks in zip(ids.tolist(), dropped, strict=True):
        kept = [token for token, mark in zip(row, marks, strict=True) if not mark]
        expected.append(kept + [0] * (4 - len(kept)))
    assert without(ids, torch.tensor(dropped)).tolist() == expected


def test_labels_of_targets_are_those_of_the_inputs_one_later() -> None:
    """Input t + 1 is target t; the first input belongs to the first target's line."""
    labelled = torch.tensor(
        [[True, False, False, True, True, False], [False, True, True, False, False, True]]
    )
    assert labelled_inputs(labelled).tolist() == [
        [True, True, False, False, True, True],
        [False, False, True, True, False, False],
    ]


def test_similarity_leaves_padding_out() -> None:
    """Means (1, 0) and (.5, .5): 45 degrees, whatever the padding's hidden states are."""
    hidden = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [-7.0, 5.0]]])
    other = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [8.0, 8.5]]])
    got = similarity(hidden, torch.tensor([[2, 2, 0]]), other, torch.tensor([[2, 3, 0]]))
    assert got.tolist() == pytest.approx([0.707107])


def test_contrastive_is_what_a_pencil_says() -> None:
    """Tokens 2 2 3 3, the last two labelled: mean (.5, .5) against (1, 0) is .707, .207 above the hinge."""
    inputs = window([2, 2, 3, 3, 2], [False, False, True, True, False])
    assert loss_of(two_directions(), inputs, alpha=0.5).item() == pytest.approx(1.386294 + 0.5 * 0.207107)


def test_windows_far_enough_apart_are_let_be() -> None:
    """Tokens 2 3 3 3 3 3 with all of 3 labelled: an angle above 60 degrees costs nothing."""
    inputs = window([2, 2] + [3] * 8 + [2], [False, False] + [True] * 8 + [False])
    model = two_directions()
    loss = loss_of(model, inputs, alpha=0.5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(1.386294)
    assert model.hidden.grad is not None
    assert not model.hidden.grad.any()


def test_mean_is_over_windows_with_labels() -> None:
    """A window without labels beside it changes cross-entropy's mean only."""
    one = window([2, 2, 3, 3, 2], [False, False, True, True, False])
    clean = window([2, 2, 3, 3, 2], [False] * 5)
    both = {key: torch.cat([clean[key], one[key], one[key], clean[key]]) for key in one}
    assert loss_of(two_directions(), both, 0.5).item() == pytest.approx(1.386294 + 0.5 * 0.207107)


@pytest.mark.parametrize(
    "labelled",
    [[True] * 5, [False, False, False, False, True]],
    ids=["all of it", "only the last target"],
)
def test_nothing_to_compare_adds_nothing(labelled: list[bool]) -> None:
    """A window all of whose inputs are labelled, or none: cross-entropy, and no nan in the gradient."""
    model = two_directions()
    loss = loss_of(model, window([2, 2, 3, 3, 2], labelled), alpha=0.5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(1.386294)
    assert model.hidden.grad is None or not model.hidden.grad.any()


def test_a_label_of_an_ignored_target_makes_no_window_a_labelled_one() -> None:
    """As in the counts: such a window adds nothing."""
    inputs = window([2, 2, 3, 3, 2], [False, False, True, True, False])
    inputs["targets"][0, 1:3] = -100
    assert count(inputs).windows == 0
    assert loss_of(two_directions(), inputs, alpha=0.5).item() == pytest.approx(1.386294)


def test_a_repaired_window_is_the_shorter_window() -> None:
    """The penalty of a real model is what comes of running each repaired window alone, cut out by hand."""
    model, inputs = tiny_qwen2(), random_batch(4, seed=3, share=0.3)
    inputs["targets"] = inputs["targets"].clamp(min=2)
    hinges = []
    for ids, labelled in zip(inputs["input_ids"], inputs["labelled"].tolist(), strict=True):
        marks = [labelled[0], *labelled[:-1]]
        kept = torch.tensor([token for token, mark in zip(ids.tolist(), marks, strict=True) if not mark])
        if any(labelled):
            with torch.no_grad():
                a = model.model(input_ids=ids[None]).last_hidden_state[0].mean(dim=0)
                b = model.model(input_ids=kept[None]).last_hidden_state[0].mean(dim=0)
            cosine = float(a @ b / (a.norm() * b.norm()))
            hinges.append(max(0.0, cosine - 0.5))
    assert len(hinges) >= 2
    penalty = (loss_of(model, inputs, alpha=1.0) - loss_of(model, inputs, alpha=0.0)).item()
    assert penalty == pytest.approx(sum(hinges) / len(hinges), abs=1e-4)
    assert penalty > 0.1


def test_a_step_draws_windows_apart_through_an_adapter() -> None:
    """LoRA over a real model: the objective reaches the adapter, and the cosine falls."""
    model = get_peft_model(
        tiny_qwen2(), LoraConfig(r=4, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"])
    )
    inputs = random_batch(4, seed=3, share=0.3)
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)

    def penalty() -> float:
        return (loss_of(model, inputs, alpha=1.0) - loss_of(model, inputs, alpha=0.0)).item()

    before = penalty()
    for _ in range(3):
        optimiser.zero_grad()
        loss_of(model, inputs, alpha=10.0).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert penalty() < before - 0.02
