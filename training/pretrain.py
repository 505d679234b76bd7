"""Trains a small sliding-window Qwen2 from scratch on token ids, with early stopping by time.

A minute of one vehicle's traffic is memorised within minutes of training. What keeps the model honest
is masking some of its input tokens, dropping some lines, weight decay, and stopping when traffic from
a later time than it trained on gets no easier to predict.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from transformers import Qwen2Config, Qwen2ForCausalLM

from ecustream.errors import ConfigError, InputError
from ecustream.scoring.fields import UNKNOWN_TOKEN

__all__ = ["PretrainConfig", "PretrainResult", "TokenTrace", "pretrain"]

Ids = npt.NDArray[np.integer]


class TokenTrace(msgspec.Struct):
    """Tokens of one uninterrupted piece of traffic; `line_of` is the line number of each token."""

    ids: Ids
    line_of: Ids


class PretrainConfig(msgspec.Struct, kw_only=True):
    """Body and schedule. Defaults fit one vehicle in ten minutes on two CPU cores."""

    hidden: int = 96
    layers: int = 3
    heads: int = 2
    inner: int = 256
    window: int = 256
    crop_windows: int = 4
    batch: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 0.2
    mask_tokens: float = 0.05
    drop_lines: float = 0.03
    max_steps: int = 900
    max_seconds: float = 420.0
    evaluate_every: int = 50
    patience: int = 4
    seed: int = 0


class PretrainResult(msgspec.Struct):
    """The best model by validation, and the numbers of the run."""

    model: Any
    steps: int
    tokens: int
    seconds: float
    train_nats: float
    validation_nats: float
    stopped: str


def new_model(vocabulary: int, config: PretrainConfig) -> Any:
    """A randomly initialised Qwen2ForCausalLM whose every layer has a sliding window."""
    body = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=config.hidden,
        intermediate_size=config.inner,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=config.window * config.crop_windows,
        use_sliding_window=True,
        sliding_window=config.window,
        max_window_layers=0,
        layer_types=["sliding_attention"] * config.layers,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    return Qwen2ForCausalLM._from_config(body, attn_implementation="sdpa")


def pretrain(
    train: Sequence[TokenTrace],
    validation: Sequence[TokenTrace],
    vocabulary: int,
    config: PretrainConfig,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> PretrainResult:
    """Train until validation stops improving, `max_steps` or `max_seconds`.

    Args:
        train: pieces of traffic; crops start at random lines.
        validation: later traffic of the same kind.
        vocabulary: number of token ids.
        config: body and schedule.
        progress: called as (done, total, text) with a share of steps or time.

    Raises:
        InputError: there is too little traffic for one crop, or training diverges.
        ConfigError: there is no time and no step to train.
    """
    torch.manual_seed(config.seed)
    random = np.random.Generator(np.random.PCG64(config.seed))
    length = config.window * config.crop_windows
    if config.max_seconds <= 0 or config.max_steps <= 0:
        raise ConfigError("training needs at least one step and more than no time")
    crops = [t for t in train if len(t.ids) > length + 3]
    checks = _validation_crops(validation, length)
    if not crops or not len(checks):
        raise InputError(
            f"too little traffic to train on: needs pieces of more than {length} tokens "
            f"(about {length // 2} lines) for training and for validation"
        )
    model = new_model(vocabulary, config)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98)
    )
    weights = np.array([len(t.ids) for t in crops], dtype=np.float64)
    weights /= weights.sum()
    best_nats, best_state, since_best = float("inf"), None, 0
    started, running, step, stopped = time.monotonic(), float("nan"), 0, "steps"
    for step in range(1, config.max_steps + 1):
        elapsed = time.monotonic() - started
        share = max(step / config.max_steps, elapsed / config.max_seconds)
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * min(step / 50, 1.0) * (1 - 0.9 * min(share, 1.0))
        picks = random.choice(len(crops), size=config.batch, p=weights)
        batch = np.stack([_crop(crops[i], length, config, random) for i in picks]).astype(np.int64)
        loss = _train_step(model, optimiser, torch.from_numpy(batch), config, random)
        running = loss if math.isnan(running) else 0.95 * running + 0.05 * loss
        if step % config.evaluate_every == 0 or step == config.max_steps or share >= 1:
            nats = _evaluate(model, checks)
            since_best += 1
            if nats < best_nats - 1e-3:
                best_nats, since_best = nats, 0
                best_state = {k: v.detach().clone() for k, v in model.state_dict().items()}
            if since_best >= config.patience:
                stopped = "validation"
                break
        text = f"{running:.2f} nats a token in training"
        if best_state is not None:
            text += f", {best_nats:.2f} in validation"
        progress(int(1000 * min(share, 1)), 1000, text)
        if share >= 1:
            stopped = "time" if step < config.max_steps else "steps"
            break
    if best_state is None:
        raise InputError("training diverged: the loss on validation traffic is not a number")
    model.load_state_dict(best_state)
    tokens = step * config.batch * length
    return PretrainResult(model.eval(), step, tokens, time.monotonic() - started, running, best_nats, stopped)


def _crop(trace: TokenTrace, length: int, config: PretrainConfig, random: np.random.Generator) -> Ids:
    """`length` tokens from a random line on, a random share of its lines left out."""
    margin = int(length * (1 + 2 * config.drop_lines)) + 8
    start = int(random.integers(0, max(1, len(trace.ids) - margin)))
    start = int(np.searchsorted(trace.line_of, trace.line_of[start]))
    piece = slice(start, start + margin)
    ids, line_of = trace.ids[piece], trace.line_of[piece]
    share = random.random() * config.drop_lines
    kept = random.random(int(line_of[-1] - line_of[0]) + 1) >= share
    ids = ids[kept[line_of - line_of[0]]]
    if len(ids) < length:  # too near the end of the traffic: take the last whole crop
        ids = trace.ids[-length:]
    return ids[:length]


def _train_step(
    model: Any,
    optimiser: torch.optim.Optimizer,
    ids: torch.Tensor,
    config: PretrainConfig,
    random: np.random.Generator,
) -> float:
    model.train()
    masked = torch.from_numpy(random.random(tuple(ids.shape)) < config.mask_tokens)
    logits = model(ids.masked_fill(masked, UNKNOWN_TOKEN), use_cache=False).logits
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad()
    return float(loss.detach())


def _validation_crops(traces: Sequence[TokenTrace], length: int) -> torch.Tensor:
    crops = [t.ids[i : i + length] for t in traces for i in range(0, len(t.ids) - length + 1, length)]
    step = max(1, len(crops) // 24)
    return (
        torch.from_numpy(np.stack(crops[::step]).astype(np.int64))
        if crops
        else torch.empty(0, length, dtype=torch.int64)
    )


@torch.no_grad()
def _evaluate(model: Any, crops: torch.Tensor) -> float:
    """Mean nats a token over the second half of every crop, where attention sees whole windows."""
    model.eval()
    half = crops.shape[1] // 2
    total = 0.0
    for part in torch.split(crops, 8):
        logits = model(part, use_cache=False).logits[:, half - 1 : -1]
        total += float(F.cross_entropy(logits.flatten(0, 1), part[:, half:].flatten(), reduction="sum"))
    return total / (crops.shape[0] * (crops.shape[1] - half))
