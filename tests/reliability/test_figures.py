"""What the rows make of what they counted: a promise that is not kept does not hold."""

from typing import Any

import pytest

from tests.reliability import rate
from tests.reliability.rate import Trial
from tests.reliability.reader import Read
from tests.reliability.sender import Sent


def trial(frames: int = 40_000, seconds: float = 2.0, dropped: int = 0, **other: Any) -> Trial:
    """A trial at 20,000 frames/s."""
    books = {"frames": {"entered": frames, "kernel_dropped": dropped, "decoded": frames - dropped}}
    seen = {"books": books, "names": {"A": 3 * (frames - dropped)}, "cpu_s": 0.1, "kernel_frames": frames}
    return Trial(20_000, Sent(frames, seconds), Read(**{**seen, "balanced": True, **other}))


@pytest.mark.parametrize(
    ("tried", "holds"),
    [
        (trial(), True),
        (trial(dropped=1), False),
        (trial(frames=20_000), False),
        (trial(names={"A": 119_999}), False),
        (trial(kernel_frames=39_999), False),
        (trial(balanced=False), False),
    ],
    ids=["all", "one lost", "half the rate", "a line missing", "kernel counts other", "not balanced"],
)
def test_rate(tried: Trial, holds: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """All frames at the promised rate, each with its lines, or it does not hold."""
    monkeypatch.setattr(rate, "try_rate", lambda *_: tried)
    assert rate.measure("short", tmp_path).holds is holds
