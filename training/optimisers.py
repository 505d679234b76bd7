"""Optimisers of a recipe: AdamW, and GaLore, which keeps its averages in few dimensions."""

from typing import Any

import torch

from ecustream.errors import ConfigError
from training.recipe import Recipe

__all__ = ["new_optimiser"]


def new_optimiser(model: Any, recipe: Recipe) -> Any:
    """The optimiser of a recipe for the weights of a model that require a gradient.

    Raises:
        ConfigError: GaLore is asked for, but not installed.
    """
    weights = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    common: dict[str, Any] = {
        "lr": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "betas": recipe.betas,
    }
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW([p for _, p in weights], **common)
    try:
        from galore_torch import GaLoreAdamW
    except ImportError:
        raise ConfigError("recipe.optimiser galore needs pip install 'ecustream[galore]'") from None

    class ResumableGaLore(GaLoreAdamW):  # type: ignore[misc]
        """GaLore whose projections go where the weights are when its state is loaded."""

        def load_state_dict(self, state_dict: Any) -> None:
            super().load_state_dict(state_dict)
            for weight, state in self.state.items():
                matrix = getattr(state.get("projector"), "ortho_matrix", None)
                if matrix is not None:
                    state["projector"].ortho_matrix = matrix.to(weight.device)

    low_rank = {
        "rank": recipe.galore_rank,
        "update_proj_gap": recipe.galore_gap,
        "scale": recipe.galore_scale,
        "proj_type": "std",
    }
    projected = [p for name, p in weights if _is_projected(name, p, recipe.galore_rank)]
    others = [p for name, p in weights if not _is_projected(name, p, recipe.galore_rank)]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": projected, **low_rank}]
    return ResumableGaLore([g for g in groups if g["params"]], **common, no_deprecation_warning=True)


def _is_projected(name: str, weight: torch.Tensor, rank: int) -> bool:
    """Whether a weight is a layer's matrix of more dimensions than are kept; embeddings are not."""
    return weight.ndim == 2 and "embed" not in name and "lm_head" not in name and min(weight.shape) > rank
