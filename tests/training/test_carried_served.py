"""What training sees is what serving scores: the same traffic, token by token, streamed without a cut."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.utils.data import default_collate

from ecustream.scoring.networks import open_network
from tests.training.tiny_shards import VOCABULARY, tiny_shards, tiny_split
from training.bodies import Body, new_model
from training.carried import Carried
from training.crops import Lanes

LANES, LENGTH = 3, 40
BODIES = {
    "mamba": Body(kind="mamba", hidden=16, layers=2, state_size=8),
    "mamba2": Body(kind="mamba2", hidden=16, layers=2, state_size=8, head_dim=8, n_groups=2),
    "qwen2": Body(hidden=16, layers=2, inner=32, window=24),
}


def batches(steps: int) -> list[dict[str, Tensor]]:
    """Consecutive chunks of lanes through two short drives, so that lanes also begin anew."""
    shards = tiny_shards()
    train = tiny_split(shards).train[0]
    parts = [
        train._replace(stop_line=train.first_line + 130),
        train._replace(first_line=train.first_line + 200, stop_line=train.first_line + 320),
    ]
    lanes = Lanes(shards, parts, LENGTH, LANES * steps, 5, LANES)
    return [default_collate([lanes[i] for i in range(LANES * s, LANES * (s + 1))]) for s in range(steps)]


def served_nats(model: Any, streams: list[Any], batch: dict[str, Tensor]) -> np.ndarray[Any, Any]:
    """Surprisal of the targets, (lanes, length), by the network that a bundle with this model would open."""
    network = open_network(
        model.config.to_dict(), model.state_dict(), window_tokens=24, warming_tokens=0, max_chunk=64
    )
    rows = []
    for row, lane in enumerate(batch["lane"].tolist()):
        if streams[lane] is None:
            streams[lane] = network.new_stream()
        if batch["fresh"][row]:
            streams[lane].reset()
        ids = batch["input_ids"][row].numpy()
        nats = network.score(ids, [(streams[lane], len(ids))]).nats[1:]
        last = -torch.log_softmax(streams[lane].last_logits, dim=0)[batch["targets"][row, -1]]
        rows.append(np.append(nats, last))
    return np.stack(rows)


@pytest.mark.parametrize("kind", BODIES)
def test_the_nats_of_every_training_step_are_those_of_the_served_stream(kind: str) -> None:
    """Before each update the stream goes on under the weights of that step; last of all the tenth step."""
    torch.manual_seed(0)
    model = new_model(BODIES[kind], VOCABULARY)
    carried, optimiser = Carried(model).train(), torch.optim.AdamW(model.parameters(), lr=1e-2)
    streams: list[Any] = [None] * LANES
    steps, means = batches(10), []
    assert sum(int(batch["fresh"].sum()) for batch in steps) > 2 * LANES
    for batch in steps:
        logits = carried(batch["input_ids"], batch["lane"], batch["fresh"]).logits
        nats = F.cross_entropy(logits.transpose(1, 2), batch["targets"], reduction="none")
        np.testing.assert_allclose(nats.detach().numpy(), served_nats(model, streams, batch), atol=1e-4)
        means.append(float(nats.detach().mean()))
        nats.mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()
    assert means[-1] < means[0] - 0.3
