"""Chunks of lanes whose past is carried over: logits, gradients and resumed runs as if never cut."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import Tensor

from ecustream.errors import ConfigError, InputError, OutputError
from tests.scoring import tiny, tiny_mamba
from tests.training.plain_mixers import forgetting_gradients
from training.carried import Carried

KINDS = ["mamba", "mamba2", "qwen2"]
WINDOW = 16
LENGTH = 150
CLOSE = 3e-5
"""Of logits in fp32, which are up to 6 in these models."""


def oracle(kind: str) -> Any:
    return tiny.oracle(WINDOW) if kind == "qwen2" else tiny_mamba.oracle(kind)


def some_ids(rows: int = 3, length: int = LENGTH, seed: int = 1) -> Tensor:
    return torch.randint(0, 40, (rows, length), generator=torch.Generator().manual_seed(seed))


@cache
def known(kind: str) -> tuple[Any, Tensor, Tensor]:
    """A model, tokens of three lanes, and their logits by one whole pass of Hugging Face."""
    model, ids = oracle(kind), some_ids()
    with torch.no_grad():
        return model, ids, copy.deepcopy(model)(ids, use_cache=False).logits


def fresh(*flags: bool) -> Tensor:
    return torch.tensor(flags)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [1, 2, 7, 15, 16, 50, 64, 65, LENGTH])
def test_chunks_give_the_logits_of_one_whole_pass(kind: str, training: bool, size: int) -> None:
    """Of any size, in training as in evaluation, with and without a graph."""
    model, ids, whole = known(kind)
    carried = Carried(model).train(training)
    lanes, logits = torch.tensor([2, 0, 5]), []
    with torch.set_grad_enabled(training):
        for first in range(0, LENGTH, size):
            begins = torch.full((3,), first == 0)
            logits.append(carried(ids[:, first : first + size], lanes, begins).logits.detach())
    torch.testing.assert_close(torch.cat(logits, dim=1), whole, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(
    calls=st.lists(
        st.tuples(
            st.permutations(range(3)), st.integers(1, 3), st.integers(1, 25), st.sets(st.integers(0, 2))
        ),
        min_size=1,
        max_size=5,
    )
)
def test_lanes_do_not_touch_each_other(kind: str, calls: list[tuple[list[int], int, int, set[int]]]) -> None:
    """In any company, order and length, some begun anew, each gives the logits of its own whole pass."""
    model, ids, whole = known(kind)
    carried, taken = Carried(model).eval(), dict.fromkeys(range(3), 0)
    for order, count, size, anew in calls:
        lanes = order[:count]
        begins = [lane in anew or taken[lane] == 0 for lane in lanes]
        taken |= {lane: 0 for lane, begin in zip(lanes, begins, strict=True) if begin}
        rows = [ids[lane, taken[lane] : taken[lane] + size] for lane in lanes]
        with torch.no_grad():
            logits = carried(torch.stack(rows), torch.tensor(lanes), torch.tensor(begins)).logits
        for lane, row in zip(lanes, logits, strict=True):
            expected = whole[lane, taken[lane] : taken[lane] + size]
            torch.testing.assert_close(row, expected, rtol=0, atol=CLOSE)
            taken[lane] += size


def gradients(model: Any, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Of the mean surprisal of the targets, by name."""
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()  # type: ignore[no-untyped-call]
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("first", "size"), [(10, 1), (10, 30), (40, 8), (3, 40)])
def test_gradients_flow_through_the_chunk_and_into_nothing_before_it(
    kind: str, checkpointing: bool, first: int, size: int
) -> None:
    """They are those of a whole pass, token by token, that detaches all that came before the chunk."""
    model, plain = oracle(kind).train(), oracle(kind).train()
    ids, targets = some_ids(length=first + size), some_ids(length=size, seed=2)
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    carried, lanes = Carried(model), torch.arange(3)
    carried(ids[:, :first], lanes, fresh(True, True, True))
    found = gradients(model, carried(ids[:, first:], lanes).logits, targets)
    forgetting_gradients(plain, first)
    expected = gradients(plain, plain(ids, use_cache=False).logits[:, first:], targets)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_two_chunks_may_wait_for_one_gradient(kind: str) -> None:
    """A loss over two chunks, taken after both: the second has not overwritten what the first needs."""
    model, ids, lanes = oracle(kind).train(), some_ids(length=40), torch.arange(3)
    carried, losses = Carried(model), []
    for first in (0, 20):
        logits = carried(ids[:, first : first + 20], lanes, torch.full((3,), first == 0)).logits
        losses.append(logits.logsumexp(dim=2).mean())
    together = torch.autograd.grad(sum(losses), list(model.parameters()))
    apart = [torch.zeros_like(part) for part in together]
    for first in (0, 20):
        logits = carried(ids[:, first : first + 20], lanes, torch.full((3,), first == 0)).logits
        for total, part in zip(
            apart, torch.autograd.grad(logits.logsumexp(dim=2).mean(), list(model.parameters())), strict=True
        ):
            total += part
    torch.testing.assert_close(together, tuple(apart))


@pytest.mark.parametrize("kind", KINDS)
def test_without_lanes_all_begin_anew_and_nothing_is_kept(kind: str) -> None:
    """A look at other traffic in between leaves the lanes as they are."""
    model, ids, whole = known(kind)
    carried, lanes = Carried(model).eval(), torch.arange(3)
    with torch.no_grad():
        carried(ids[:, :30], lanes, fresh(True, True, True))
        torch.testing.assert_close(carried(input_ids=ids).logits, whole, rtol=0, atol=CLOSE)
        after = carried(ids[:, 30:60], lanes).logits
    torch.testing.assert_close(after, whole[:, 30:60], rtol=0, atol=CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_two_around_one_model_have_lanes_of_their_own(kind: str) -> None:
    """One trains and one measures, and neither disturbs the other."""
    model, ids, whole = known(kind)
    one, two = Carried(model).eval(), Carried(model).eval()
    with torch.no_grad():
        one(ids[:, :30], torch.arange(3), fresh(True, True, True))
        two(ids[:, :50], torch.arange(3), fresh(True, True, True))
        logits = one(ids[:, 30:60], torch.arange(3)).logits
    torch.testing.assert_close(logits, whole[:, 30:60], rtol=0, atol=CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_past_takes_the_same_room_after_many_chunks(kind: str) -> None:
    """There are rows for the lanes that were seen, and no graph hangs on them."""
    model, ids, _ = known(kind)
    carried = Carried(model).train()
    shapes = []
    for turn in range(6):
        carried(ids[:2, turn * 20 : turn * 20 + 20], torch.tensor([7, 3]), torch.full((2,), turn == 0))
        tables = [table for layer in carried._lanes.tables for table in layer]
        shapes.append([table.shape for table in tables])
        assert not any(table.requires_grad for table in tables)
    assert all(shape[0] == 2 for shape in shapes[0])
    assert all(later == shapes[0] for later in shapes)


@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
def test_a_model_that_was_carried_still_generates(kind: str) -> None:
    """Hugging Face's own cache goes on to work, as far as it did."""
    model, ids, whole = known(kind)
    carried = Carried(copy.deepcopy(model)).eval()
    with torch.no_grad():
        begun = carried.model(ids[:, :40], use_cache=True)
        one_more = carried.model(ids[:, 40:41], cache_params=begun.cache_params, use_cache=True).logits
    torch.testing.assert_close(one_more, whole[:, 40:41], rtol=0, atol=CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_carry_too(kind: str) -> None:
    """A model with LoRA goes on where it was, and only its adapter learns."""
    torch.manual_seed(0)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=2, target_modules=["q_proj" if kind == "qwen2" else "in_proj"]
    )
    model, ids = get_peft_model(oracle(kind), config).train(), some_ids()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(0.2 if "lora_B" in name else 0.0)
        whole = copy.deepcopy(model)(input_ids=ids, use_cache=False).logits
    carried = Carried(model)
    carried(ids[:, :70], torch.arange(3), fresh(True, True, True))
    logits = carried(ids[:, 70:], torch.arange(3)).logits
    torch.testing.assert_close(logits.detach(), whole[:, 70:], rtol=0, atol=CLOSE)
    assert not torch.allclose(whole, known(kind)[2], atol=0.1)
    logits.sum().backward()
    learning = {name for name, weight in carried.named_parameters() if weight.grad is not None}
    assert learning
    assert all("lora_" in name for name in learning)


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_asked_of_it_is_asked_of_the_model(kind: str) -> None:
    """Keys and values of the weights, configuration and methods are the model's; a copy is a model apart."""
    model = oracle(kind)
    carried = Carried(model)
    assert carried.state_dict().keys() == model.state_dict().keys()
    assert carried.config is model.config
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = carried.no_such_thing
    other = copy.deepcopy(carried)
    zeros = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    other.load_state_dict(zeros)
    assert not any(bool(tensor.any()) for tensor in other.model.state_dict().values())
    ids = some_ids()
    with torch.no_grad():
        assert not other(ids).logits.any()
        assert carried(ids).logits.any()


def trained(carried: Carried, optimiser: Any, steps: range) -> list[float]:
    """Losses of some steps over the same lanes."""
    losses, ids = [], some_ids(length=20 * 6 + 1, seed=3)
    for step in steps:
        piece = ids[:, step * 20 : step * 20 + 21]
        logits = carried(piece[:, :-1], torch.arange(3), fresh(step == 0, step == 0, step in (0, 4))).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), piece[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_equals_an_uninterrupted_one(kind: str, tmp_path: Path) -> None:
    """Weights, optimiser and carried state taken up after three steps: the next three are the same bits."""
    carried = Carried(oracle(kind).train())
    optimiser = torch.optim.AdamW(carried.parameters(), lr=1e-2)
    trained(carried, optimiser, range(3))
    carried.save_state(tmp_path / "carried.pt")
    torch.save([carried.state_dict(), optimiser.state_dict()], tmp_path / "run.pt")
    expected = trained(carried, optimiser, range(3, 6))
    weights, averages = torch.load(tmp_path / "run.pt", weights_only=True)
    resumed = Carried(oracle(kind).train())
    optimiser = torch.optim.AdamW(resumed.parameters(), lr=1e-2)
    resumed.load_state_dict(weights)
    optimiser.load_state_dict(averages)
    resumed.load_state(tmp_path / "carried.pt")
    assert trained(resumed, optimiser, range(3, 6)) == expected
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("carried")] == ["carried.pt"]


def test_state_that_cannot_be_read_or_written_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """A missing or damaged file keeps the lanes as they are; a folder that is not there is named."""
    carried = Carried(oracle("mamba2"))
    ids = some_ids()
    before = carried(ids[:, :9], torch.arange(3), fresh(True, True, True))
    (tmp_path / "damaged.pt").write_bytes(b"no state")
    torch.save({"lanes": [0]}, tmp_path / "half.pt")
    for name in ("missing.pt", "damaged.pt", "half.pt"):
        with pytest.raises(InputError, match=f"{name}: cannot read the carried state: "):
            carried.load_state(tmp_path / name)
    with pytest.raises(
        OutputError, match=r"nowhere.carried\.pt: cannot write the carried state: No such file"
    ):
        carried.save_state(tmp_path / "nowhere" / "carried.pt")
    assert before.logits.shape == carried(ids[:, 9:18], torch.arange(3)).logits.shape


def test_lanes_that_cannot_be_told_apart_or_have_no_past_are_refused() -> None:
    """A lane twice in a batch, or one that never began here, as after a wrong division of work."""
    carried = Carried(oracle("mamba"))
    with pytest.raises(ValueError, match="twice"):
        carried(some_ids(2), torch.tensor([1, 1]), fresh(True, True))
    carried(some_ids(1), torch.tensor([1]), fresh(True))
    with pytest.raises(ValueError, match="lane 0 goes on, but its past is not here"):
        carried(some_ids(2), torch.tensor([1, 0]), fresh(False, False))
    with pytest.raises(ValueError, match="lane 4"):
        carried(some_ids(1), torch.tensor([4]))


def test_models_that_cannot_carry_are_refused() -> None:
    """Full attention has no bounded past; kernels without masks cannot hide what a young lane has not."""
    with pytest.raises(ConfigError, match="cannot carry its past"):
        Carried(tiny.full_attention_oracle())
    model = oracle("qwen2")
    carried = Carried(model)
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ConfigError, match="not by flash_attention_2"):
        carried(some_ids(1), torch.tensor([0]), fresh(True))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_both_ways_to_attend_carry(implementation: str) -> None:
    """Masks are taken by either."""
    model, ids, whole = known("qwen2")
    model = copy.deepcopy(model)
    model.set_attn_implementation(implementation)
    carried = Carried(model).eval()
    with torch.no_grad():
        begun = carried(ids[:, :40], torch.arange(3), fresh(True, True, True)).logits
        after = carried(ids[:, 40:], torch.arange(3)).logits
    torch.testing.assert_close(torch.cat([begun, after], dim=1), whole, rtol=0, atol=CLOSE)
