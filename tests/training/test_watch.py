"""Looks during fine-tuning: the plain mean over the same sequences, however many are computed at once."""

from typing import Any

import pytest
import torch

from ecustream.errors import InputError
from tests.training.releases import LENGTH, model_of_first_release, traffic
from training.crops import Crops
from training.objectives import make_objective
from training.splits import split
from training.watch import Look


@pytest.mark.parametrize("lines", [300, 20_000])
def test_loss_is_the_mean_over_unlabelled_targets(lines: int) -> None:
    """Of "mask": sequence by sequence by Hugging Face's own model; of long traffic 24 k tokens."""
    model: Any = model_of_first_release(steps=20)
    shards = traffic(lines, seed=2)
    look = Look(shards, split(shards).train, LENGTH)
    items = Crops(shards, split(shards).train, LENGTH, min(int(lines * 0.7) * 2, 24 * 1024) // LENGTH, seed=0)
    nats, tokens, whole_lines = 0.0, 0, 0
    for item in (items[i] for i in range(len(items))):
        with torch.no_grad():
            log_p = torch.log_softmax(model(input_ids=item["input_ids"][None]).logits[0].double(), dim=-1)
        unlabelled = ~item["labelled"]
        nats -= float(log_p.gather(1, item["targets"][:, None])[:, 0][unlabelled].sum())
        tokens += int(unlabelled.sum())
        whole_lines += int(item["lines"])
    model.train()
    assert look.loss(model, make_objective("mask")) == pytest.approx(nats / tokens, rel=1e-4)
    assert model.training
    assert look.tokens_per_line == pytest.approx(len(items) * LENGTH / whole_lines)


def test_too_little_traffic_is_refused() -> None:
    """No part is as long as one sequence."""
    shards = traffic(20)
    with pytest.raises(InputError, match="too little traffic"):
        Look(shards, split(shards).validation, LENGTH)
