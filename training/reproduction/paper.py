"""What the paper reports: tables I to IV of arXiv 2507.01077, on private traffic and 4 A100."""

from typing import NamedTuple

__all__ = ["MODELS", "OBJECTIVES", "PROMPTS", "TOKENIZERS", "Detecting", "Predicting"]


class Predicting(NamedTuple):
    """Next-token prediction: accuracy as a share, perplexity a token."""

    accuracy: float
    perplexity: float


class Detecting(NamedTuple):
    """Recall and precision against labels by rule."""

    recall: float
    precision: float


MODELS = {
    "Mamba-130M": Predicting(0.9563, 1.42),
    "Qwen-0.4B": Predicting(0.9703, 1.53),
    "Qwen-1.3B": Predicting(0.9862, 1.03),
}
"""Table I."""

TOKENIZERS = {
    "row": Predicting(0.9474, 1.32),
    "group": Predicting(0.9703, 1.53),
    "bpe": Predicting(0.9831, 1.04),
}
"""Table II: 1, 2 and about 50 tokens a line."""

PROMPTS = {
    256: Predicting(0.9213, 1.55),
    512: Predicting(0.9576, 1.56),
    1024: Predicting(0.9703, 1.53),
    4096: Predicting(0.9831, 1.04),
}
"""Table III: tokens of context."""

OBJECTIVES = {
    "contrastive": Detecting(0.35, 0.63),
    "entropy, lines": Detecting(0.60, 0.90),
    "entropy, regions": Detecting(0.81, 0.81),
}
"""Table IV."""
