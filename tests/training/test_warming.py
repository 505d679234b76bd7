"""The warm-up of a model, measured: later scores do not depend on when a stream began, earlier ones do."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ecustream.scoring.networks import open_network
from tests.scoring import tiny, tiny_mamba
from tests.training.tiny_shards import VOCABULARY, tiny_shards, tiny_split
from training.carried import Carried
from training.crops import Lanes
from training.warming import warming_tokens

TOLERANCE_NATS = 1e-3


def network_of(model: Any, max_chunk: int = 256) -> Any:
    return open_network(
        model.config.to_dict(), model.state_dict(), window_tokens=16, warming_tokens=0, max_chunk=max_chunk
    )


def new_mamba2() -> Any:
    """A Mamba2 as it is when training begins, with no weight made up."""
    from transformers import Mamba2Config, Mamba2ForCausalLM

    torch.manual_seed(3)
    return Mamba2ForCausalLM(
        Mamba2Config(
            vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, state_size=8, num_heads=4, head_dim=8,
            n_groups=1, chunk_size=32,
        )
    )  # fmt: skip


def trained_mamba2(steps: int = 40) -> Any:
    """The same after some steps over the lanes of made-up traffic."""
    model, shards = new_mamba2(), tiny_shards()
    lanes = Lanes(shards, tiny_split(shards).train, 64, 4 * steps, 0, 4)
    carried, optimiser = Carried(model.train()), torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(steps):
        batch = torch.utils.data.default_collate([lanes[i] for i in range(4 * step, 4 * step + 4)])
        logits = carried(batch["input_ids"], batch["lane"], batch["fresh"]).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten()).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad()
    return model.eval()


def traffic() -> npt.NDArray[np.integer]:
    """Tokens of traffic that no model here was trained on."""
    shards = tiny_shards()
    part = tiny_split(shards).test[0]
    return np.concatenate([shards.ids[shards.first_token[part.first_line] :], tiny_shards(1500, seed=9).ids])


def differences(model: Any, ids: npt.NDArray[np.integer], first: int, count: int) -> npt.NDArray[np.floating]:
    """By Hugging Face, of `count` tokens from `first` on: a stream that begins there against the whole."""
    nats = []
    for start in (0, first):
        tokens = torch.from_numpy(ids[start : first + count].astype(np.int64))
        with torch.no_grad():
            logits = model(tokens[None], use_cache=False).logits[0, :-1]
        after = -torch.log_softmax(logits, dim=1).gather(1, tokens[1:, None])[:, 0].numpy()
        nats.append(np.concatenate([[np.float32(np.log(len(logits[0])))], after])[-count:])
    differs: npt.NDArray[np.floating] = np.abs(nats[0] - nats[1])
    return differs


@pytest.mark.parametrize("model", [new_mamba2, trained_mamba2])
def test_later_scores_agree_and_those_just_before_do_not(model: Any) -> None:
    """From the answer on no stream differs, by another way to compute it; rounded, it is not too long."""
    model, ids = model(), traffic()
    found = warming_tokens(network_of(model), ids, TOLERANCE_NATS)
    assert 2 <= found <= 800
    reach = len(ids) // 3
    starts = np.linspace(reach, len(ids) - reach, 8).astype(int)
    each = np.stack([differences(model, ids, first, reach) for first in starts.tolist()])
    assert each[:, found:].max() < TOLERANCE_NATS * 1.2
    assert each[:, int(found / 1.1) - 2 : found].max() > TOLERANCE_NATS * 0.8


def test_what_a_model_has_learned_lengthens_its_memory() -> None:
    """These numbers are measured, not a property of the sizes: training changes them."""
    ids = traffic()
    untrained, trained = (warming_tokens(network_of(m), ids) for m in (new_mamba2(), trained_mamba2()))
    assert trained > untrained


def test_a_rolling_window_warms_within_its_receptive_field() -> None:
    """And not much sooner."""
    model = tiny.oracle(16)
    network = network_of(model)
    found = warming_tokens(network, tiny_mamba.tokens(900))
    assert network.warming_tokens // 2 < found <= network.warming_tokens


def test_how_calls_are_cut_does_not_matter() -> None:
    """Long and short calls measure the same."""
    model, ids = tiny_mamba.oracle("mamba2"), tiny_mamba.tokens(900)
    found = [warming_tokens(network_of(model, max_chunk), ids) for max_chunk in (1024, 37)]
    assert found[0] == found[1]


def test_a_state_that_does_not_fade_has_no_warm_up_below_the_most() -> None:
    """A model that never forgets, a wider tolerance, too little traffic, and a low limit."""
    model, ids = tiny_mamba.oracle("mamba2"), tiny_mamba.tokens(900)
    network = network_of(model)
    assert warming_tokens(network, ids, most=8) == 8
    assert warming_tokens(network, ids[:190], most=500) == 500
    assert warming_tokens(network, ids, tolerance_nats=1e3, most=300) == 0
    with torch.no_grad():
        for layer in model.backbone.layers:
            layer.mixer.A_log.fill_(-12)
    assert warming_tokens(network_of(model), ids, most=290) == 290


@pytest.mark.parametrize(
    ("unlike", "expected"),
    [
        *((0, 0), (1, 1), (57, 57), (99, 99), (100, 100), (101, 110), (129, 130), (151, 160)),
        *((225, 230), (226, 300)),  # what agrees in less than the last quarter may not have settled
    ],
)
def test_the_answer_is_rounded_up_to_two_digits(unlike: int, expected: int) -> None:
    """A network whose every stream differs for exactly so many tokens."""
    network: Any = _Warming(unlike)
    found = warming_tokens(network, np.zeros(900, np.int64), most=300)
    assert found == expected


class _Warming:
    """Scores 1 nat for the first tokens of a stream, then 0; the very first stream is that long before."""

    max_chunk = 50

    def __init__(self, unlike: int) -> None:
        self.unlike = unlike

    def new_stream(self) -> list[int]:
        return [0]

    def score(self, ids: npt.NDArray[np.int64], parts: Any) -> Any:
        from ecustream.scoring.network import Surprisal

        stream, count = parts[0]
        places = np.arange(stream[0], stream[0] + count)
        stream[0] += count
        return Surprisal((places < self.unlike).astype(np.float32), ids)
