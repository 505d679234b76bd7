"""Pretraining on tiny synthetic token traffic."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.errors import ConfigError, InputError
from ecustream.scoring.qwen2 import Qwen2
from training import pretrain as module
from training.pretrain import PretrainConfig, TokenTrace, pretrain

VOCABULARY = 24
TINY = PretrainConfig(
    hidden=16,
    layers=1,
    heads=2,
    inner=16,
    window=8,
    batch=4,
    learning_rate=2e-2,
    max_steps=60,
    max_seconds=float("inf"),
    evaluate_every=10,
)
LENGTH = TINY.window * TINY.crop_windows


def cycle(tokens: int, period: int = 5) -> TokenTrace:
    """Traffic in which every PDU follows the one before: names 10 and on, each with its delta token."""
    lines = np.arange(tokens) // 2
    ids = np.where(np.arange(tokens) % 2 == 0, 10 + lines % period, 3 + lines % period)
    return TokenTrace(ids.astype(np.int32), lines.astype(np.int32))


def noise(tokens: int, seed: int = 0) -> TokenTrace:
    """Traffic without any order."""
    ids = np.random.default_rng(seed).integers(3, VOCABULARY, tokens)
    return TokenTrace(ids.astype(np.int32), (np.arange(tokens) // 2).astype(np.int32))


def trained(
    train: Sequence[TokenTrace], validation: Sequence[TokenTrace], **changes: Any
) -> module.PretrainResult:
    """Train the tiny body with some settings changed."""
    return pretrain(train, validation, VOCABULARY, msgspec.structs.replace(TINY, **changes))


def nats_per_token(model: Any, trace: TokenTrace) -> float:
    """Mean surprisal over the second half of every whole crop, token by token."""
    nats: list[float] = []
    for start in range(0, len(trace.ids) - LENGTH + 1, LENGTH):
        ids = torch.from_numpy(trace.ids[start : start + LENGTH].astype(np.int64))
        with torch.no_grad():
            logits = model(ids[None], use_cache=False).logits[0]
        second_half = range(LENGTH // 2, LENGTH)
        nats += [-torch.log_softmax(logits[at - 1], dim=0)[ids[at]].item() for at in second_half]
    return float(np.mean(nats))


def weights_of(result: module.PretrainResult) -> torch.Tensor:
    """All weights in one row."""
    return torch.cat([parameter.detach().flatten() for parameter in result.model.parameters()])


def test_a_few_steps_learn_a_simple_cycle() -> None:
    """What always follows becomes far less surprising than a guess, and the numbers say so truly."""
    told = []
    result = pretrain([cycle(600)], [cycle(200)], VOCABULARY, TINY, lambda *progress: told.append(progress))
    assert result.validation_nats < 0.3 * np.log(VOCABULARY)
    assert result.validation_nats == pytest.approx(nats_per_token(result.model, cycle(200)), abs=1e-3)
    assert result.train_nats < np.log(VOCABULARY)
    assert result.tokens == result.steps * TINY.batch * LENGTH
    assert not result.model.training
    done = [progress[0] for progress in told]
    assert done == sorted(done)
    assert done[-1] == 1000
    assert all(total == 1000 and "nats a token" in text for _, total, text in told)


def test_the_trained_model_is_one_that_can_be_streamed() -> None:
    """Every layer slides, and the rolling network gives the logits of the trained one."""
    result = trained([cycle(600)], [cycle(200)], max_steps=10, layers=2)
    ours = Qwen2(result.model.config.to_dict(), result.model.state_dict())
    ids = torch.from_numpy(cycle(60).ids.astype(np.int64))
    window = ours.new_stream()
    rolled = torch.cat([ours.logits(part, window) for part in torch.split(ids, 7)])
    with torch.no_grad():
        expected = result.model(ids[None], use_cache=False).logits[0]
    torch.testing.assert_close(rolled, expected, atol=1e-4, rtol=0)
    assert ours.window == TINY.window


def test_the_same_seed_gives_the_same_weights() -> None:
    """With a limit of steps only, training can be repeated, whatever was computed before."""
    first = trained([cycle(600)], [cycle(200)], max_steps=12, seed=3)
    torch.rand(5)
    again = trained([cycle(600)], [cycle(200)], max_steps=12, seed=3)
    other = trained([cycle(600)], [cycle(200)], max_steps=12, seed=4)
    assert torch.equal(weights_of(first), weights_of(again))
    assert first.validation_nats == again.validation_nats
    assert not torch.equal(weights_of(first), weights_of(other))


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ([], [cycle(200)]),
        ([cycle(200)], []),
        ([cycle(LENGTH)], [cycle(200)]),
        ([cycle(200)], [cycle(LENGTH - 1)]),
        ([cycle(LENGTH // 2)] * 20, [cycle(200)]),
    ],
    ids=["none to train", "none to validate", "short to train", "short to validate", "many short pieces"],
)
def test_too_little_traffic_is_a_sentence(train: list[TokenTrace], validation: list[TokenTrace]) -> None:
    """One piece must be longer than a crop; the sentence says how long."""
    with pytest.raises(
        InputError, match=rf"too little traffic to train on: needs pieces of more than {LENGTH}"
    ):
        trained(train, validation)


def test_short_pieces_beside_a_long_one_are_left_out() -> None:
    """Pieces shorter than a crop, even empty ones, do not stop the training with the others."""
    empty = TokenTrace(np.zeros(0, np.int32), np.zeros(0, np.int32))
    result = trained([empty, cycle(10), cycle(300)], [cycle(5), cycle(200), empty], max_steps=2)
    assert result.steps == 2


def test_early_stopping_returns_the_best_weights_not_the_last() -> None:
    """Where validation only gets worse, the first evaluated weights come back, after `patience` more."""
    result = trained([cycle(600)], [noise(200)], max_steps=600, evaluate_every=2, patience=3)
    assert result.stopped == "validation"
    best = nats_per_token(result.model, noise(200))
    assert result.validation_nats == pytest.approx(best, abs=1e-3)
    assert result.steps < 600
    # The weights that came back stopped learning long before the last step.
    assert nats_per_token(result.model, cycle(200)) > result.train_nats - 0.5
    longer = trained([cycle(600)], [noise(200)], max_steps=600, evaluate_every=2, patience=12)
    assert longer.steps > result.steps
    assert longer.validation_nats <= result.validation_nats + 1e-6


def test_time_ends_the_training_with_what_it_has() -> None:
    """After `max_seconds` the weights are evaluated once more and returned."""
    result = trained([cycle(600)], [cycle(200)], max_seconds=1e-9)
    assert (result.stopped, result.steps) == ("time", 1)
    assert result.validation_nats == pytest.approx(nats_per_token(result.model, cycle(200)), abs=1e-3)


def test_no_time_at_all_is_refused() -> None:
    """`--minutes 0` is refused in a sentence."""
    with pytest.raises(ConfigError, match="no time"):
        trained([cycle(600)], [cycle(200)], max_seconds=0.0)


def test_a_loss_that_is_not_a_number_is_a_sentence() -> None:
    """A learning rate far too high is told, not returned as a model."""
    with pytest.raises(InputError, match="training diverged"):
        trained([cycle(600)], [cycle(200)], learning_rate=1e38)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([2, 2, 2, 3]), min_size=22, max_size=60), st.integers(0, 1000))
def test_a_crop_is_whole_lines_in_their_order_some_left_out(widths: list[int], seed: int) -> None:
    """A crop has the asked length, begins with a line, and skips only whole lines."""
    config = msgspec.structs.replace(TINY, drop_lines=0.4)
    line_of = np.repeat(np.arange(len(widths)), widths)
    trace = TokenTrace(np.arange(len(line_of)), line_of)  # every token is its own place
    crop = module._crop(trace, 40, config, np.random.default_rng(seed))
    assert len(crop) == 40
    assert (np.diff(crop) > 0).all()
    if int(crop[-1]) == len(line_of) - 1 and (np.diff(crop) == 1).all():
        return  # the last whole crop of the traffic, which begins where it has to
    lines = line_of[crop]
    for line in lines[:-1]:
        if line != lines[-1]:
            assert (lines == line).sum() == widths[line]
