"""Replay: which items are old depends on their number alone."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from ecustream.errors import ConfigError
from training.replay import Replay


class Numbers(Dataset[Any]):
    def __init__(self, name: str) -> None:
        self.name = name

    def __getitem__(self, index: int) -> Any:
        return self.name, index


@given(st.integers(1, 300), st.floats(0.001, 0.999))
def test_both_are_gone_through_in_order(count: int, share: float) -> None:
    """Of the first n items floor(n x share) are old, for every n, and none is left out."""
    items: Any = Replay(Numbers("new"), Numbers("old"), count, share)
    assert len(items) == count
    seen = {"new": 0, "old": 0}
    for n in range(count):
        name, index = items[n]
        assert index == seen[name]
        seen[name] += 1
        assert seen["old"] == int((n + 1) * share)


def test_quarter() -> None:
    """Every fourth item is old."""
    items: Any = Replay(Numbers("new"), Numbers("old"), 8, 0.25)
    assert [items[i][0] for i in range(8)] == ["new"] * 3 + ["old"] + ["new"] * 3 + ["old"]
    with pytest.raises(IndexError):
        items[8]


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_impossible_shares_are_refused(share: float) -> None:
    """All or nothing is no mixture."""
    with pytest.raises(ConfigError, match="replay_share is"):
        Replay(Numbers("new"), Numbers("old"), 8, share)
