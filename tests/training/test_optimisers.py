"""Optimisers: which weights they change, and in how many dimensions their averages are kept."""

import torch

from tests.training.tiny_runs import new, recipe
from training.optimisers import new_optimiser

RANK = 4


def stepped(optimiser_name: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Size]]:
    """Weights by name, and the shape of the average gradient of each after one step."""
    model = new()
    optimiser = new_optimiser(model, recipe(optimiser=optimiser_name, galore_rank=RANK))
    logits = model(input_ids=torch.arange(4, 30)[None]).logits
    torch.autograd.backward(logits.logsumexp(dim=2).mean())
    optimiser.step()
    weights = dict(model.named_parameters())
    return weights, {name: optimiser.state[weight]["exp_avg"].shape for name, weight in weights.items()}


def test_galore_keeps_averages_of_layers_in_few_dimensions() -> None:
    """Matrices of layers have averages of `galore_rank` rows or columns; embeddings and norms whole ones."""
    weights, averages = stepped("galore")
    low = {name for name, weight in weights.items() if averages[name] != weight.shape}
    assert low == {name for name, weight in weights.items() if weight.ndim == 2 and ".layers." in name}
    for name in low:
        assert min(averages[name]) == RANK
        assert max(averages[name]) == max(weights[name].shape)


def test_adamw_keeps_whole_averages() -> None:
    """Of every weight."""
    weights, averages = stepped("adamw")
    assert averages == {name: weight.shape for name, weight in weights.items()}
