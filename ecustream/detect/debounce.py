"""Hysteresis and debounce for one PDU: evidence accumulates, opens a finding, drains, closes it.

A one-sided CUSUM over the rarity of each line in nats (Page 1954, doi 10.2307/2333009). Under clean
traffic the rarity of a line is about exponential with mean 1, so a drift of 4 nats a line costs a single
strong line almost nothing while several weak ones in a row still add up. The finding opens at the
threshold and closes at half of it, or after two lines without any evidence, whichever comes first.

One displaced line breaks up to three intervals in a row. With `overlap` the evidence of a line and of
so many lines after it counts as one piece, its strongest.

Surprisal is not independent from line to line: two PDUs that drift past each other puzzle a model for
seconds. With `adapt` the drift rises to what the PDU's last lines showed, so that only what is new adds.
"""

from typing import Literal

__all__ = ["Debounce"]

_ADAPT_LINES = 8
_GOOD_LINES = 2
_FORGOTTEN_NATS = 1e-3


class Debounce:
    """The accumulated evidence of one PDU."""

    __slots__ = (
        "_adapt",
        "_drift",
        "_good",
        "_held",
        "_overlap",
        "_recent",
        "_threshold",
        "_window",
        "open",
        "peak_nats",
        "sum_nats",
    )

    def __init__(
        self, threshold_nats: float, drift_nats: float, *, adapt: bool = False, overlap: int = 0
    ) -> None:
        self._threshold = threshold_nats
        self._drift = drift_nats
        self._adapt = adapt
        self._overlap = overlap
        self._recent = self._held = 0.0
        self._window = self._good = 0
        self.sum_nats = 0.0
        self.peak_nats = 0.0
        self.open = False

    def step(self, rarity_nats: float) -> Literal["opened", "closed"] | None:
        """Add the evidence of one line; what it changed."""
        total = self.sum_nats + self._gain(rarity_nats)
        if total <= 0.0 and not self.open:
            self.sum_nats = self.peak_nats = 0.0
            return None
        self.peak_nats = max(self.peak_nats, total)
        self.sum_nats = min(max(total, 0.0), self._threshold + self._drift)
        self._good = 0 if rarity_nats > 0.0 else self._good + 1
        # Threshold plus drift less drift must open, and may have been rounded down by an ulp.
        if not self.open and total >= self._threshold - 1e-9:
            self.open = True
            return "opened"
        if self.open and (self.sum_nats < self._threshold / 2 or self._good >= _GOOD_LINES):
            self.open = False
            self.sum_nats = self.peak_nats = 0.0
            return "closed"
        return None

    def _gain(self, rarity_nats: float) -> float:
        if self._window:
            self._window -= 1
            gain = max(0.0, rarity_nats - max(self._held, self._drift))
            self._held = max(self._held, rarity_nats)
            return gain
        if rarity_nats > 0.0:
            self._window, self._held = self._overlap, rarity_nats
        gain = rarity_nats - self._drift - self._recent
        if self._adapt:
            self._recent += (rarity_nats - self._recent) / _ADAPT_LINES
        return gain

    def rest(self) -> None:
        """Take a line without any evidence where nothing is held against the PDU: `step(0.0)`, cheaply."""
        if self._window:
            self.step(0.0)
        elif self._recent >= _FORGOTTEN_NATS:
            self._recent -= self._recent / _ADAPT_LINES

    @property
    def idle(self) -> bool:
        """Whether a line without any evidence would change nothing."""
        return self.sum_nats == 0.0 and not self.open and self._recent < _FORGOTTEN_NATS and not self._window

    def reset(self) -> None:
        """Forget everything, as after a gap in the capture."""
        self._recent = self._held = 0.0
        self._window = 0
        self.sum_nats = self.peak_nats = 0.0
        self.open = False
