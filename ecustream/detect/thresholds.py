"""From a false alarm budget to the evidence that opens a finding."""

from typing import NamedTuple

from ecustream.detect.calibration import Calibration

__all__ = ["Thresholds"]

_MODEL_SHARE = 0.2
"""Of the false alarm budget: the tail of the model's evidence is the less certain one."""


class Thresholds(NamedTuple):
    """The accumulated evidence that opens a finding, for each channel of evidence."""

    interval_nats: float
    model_nats: float

    @classmethod
    def for_budget(cls, calibration: Calibration, false_alarms_per_hour: float) -> "Thresholds":
        """Share the budget out between the channels; the rarity of a single line opens at the first."""
        model = _MODEL_SHARE * false_alarms_per_hour
        single = calibration.interval_threshold_nats(false_alarms_per_hour - model)
        return cls(max(single - calibration.drift_nats, 1.0), calibration.model_peaks.threshold_nats(model))
