"""Traffic of a made-up vehicle and of its next software release, and a small model that knows the first."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from training.bodies import Body, new_model
from training.crops import Crops
from training.recipe import Recipe
from training.shards import Piece, Shards
from training.splits import split

__all__ = ["LENGTH", "QUICK", "VOCABULARY", "model_of_first_release", "traffic"]

VOCABULARY = 20
LENGTH = 32
QUICK = Recipe(
    batch=8,
    crop_windows=2,
    length=LENGTH,
    warmup_steps=2,
    weight_decay=0.0,
    mask_tokens=0.0,
    drop_lines=0.0,
    max_steps=20,
    max_seconds=None,
    evaluate_every=10,
    patience=None,
    save_every=10,
)
"""A recipe for tests, whose sequences are of `LENGTH` tokens."""

_PDUS, _FIRST_DELTA, _LATE = 8, 10, 18


def traffic(lines: int = 3000, seed: int = 0, stride: int = 1, *, labels: bool = True) -> Shards:
    """One drive of eight PDUs that come in turn, two tokens a line: its name and its delta.

    A release is a stride: the PDU that comes next is so many further. PDU 0 is late three times in ten; these
    lines are labelled, and the next one, out of turn one time in thirty, may be anything.
    """
    random = np.random.default_rng(seed)
    places = (np.cumsum(np.where(random.random(lines) < 1 / 30, 3, stride))) % _PDUS
    late = (places == 0) & (random.random(lines) < 0.3)
    ids = np.stack([2 + places, np.where(late, _LATE, _FIRST_DELTA + places)], axis=1).ravel()
    return Shards(
        folder=Path(f"release-{stride}"),
        tokenizer="numbers",
        vocabulary=VOCABULARY,
        pieces=[Piece(f"drive-{stride}", f"{seed:064x}", lines, 0)],
        ids=ids.astype(np.uint16),
        fields=np.tile(np.array([0, 1], np.int8), lines),
        first_token=np.arange(0, 2 * lines + 1, 2, dtype=np.int64),
        labelled=late if labels else None,
        tokenizer_json="{}",
    )


def model_of_first_release(kind: str = "qwen2", steps: int = 120) -> Any:
    """A model with one layer that has learned the first release, labelled lines and all."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"qwen2": {"heads": 2, "inner": 32, "window": LENGTH // 2}}.get(
        kind, {"state_size": 8, "head_dim": 16}
    )
    body = Body(kind=kind, hidden=32, layers=1, **sizes)  # type: ignore[arg-type]
    model = new_model(body, VOCABULARY)
    shards = traffic()
    data = Crops(shards, split(shards).train, LENGTH, 8 * steps, seed=1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(steps):
        items = [data[8 * step + i] for i in range(8)]
        logits = model(input_ids=torch.stack([item["input_ids"] for item in items])).logits
        targets = torch.stack([item["targets"] for item in items])
        torch.autograd.backward(F.cross_entropy(logits.flatten(0, 1), targets.flatten()))
        optimiser.step()
        optimiser.zero_grad()
    return model.eval()
