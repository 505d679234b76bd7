"""What clean traffic looks like: intervals and surprisal of every PDU, and how rare a score is."""

import math
from typing import Annotated

import msgspec
from msgspec import Meta

from ecustream.errors import BundleError

__all__ = [
    "CALIBRATION_FORMAT",
    "BusCalibration",
    "Calibration",
    "PduCalibration",
    "Tail",
    "decode_calibration",
]

CALIBRATION_FORMAT = 1

Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[int, Meta(ge=0)]
_LEAST_HOURS = 1e-4
"""Traffic too short to count hours in is taken for a third of a second, so that rates stay finite."""


class Tail(msgspec.Struct, frozen=True):
    """An exponential tail: an excess x > 0 is exceeded in clean traffic with exp(-rarity(x)).

    `at_zero_nats` is -ln of the share of observations that exceed zero at all, `scale` the mean excess.
    """

    at_zero_nats: float
    scale: Positive

    def rarity(self, excess: float) -> float:
        """Nats of `excess`; 0 where it does not exceed zero."""
        if excess <= 0:
            return 0.0
        return self.at_zero_nats + excess / self.scale

    def excess(self, rarity: float) -> float:
        """The excess whose rarity is `rarity`; at least 0."""
        return max(0.0, (rarity - self.at_zero_nats) * self.scale)


class PduCalibration(msgspec.Struct, frozen=True, kw_only=True):
    """One PDU in clean traffic.

    Attributes:
        key: the PDU, see `ecustream.decode.lines`.
        name: its name, for people.
        source: the bus it belongs to.
        lines: how many were seen.
        cycle_ns: median interval; 0 if it is not cyclic, and then no interval of it is judged.
        shortest_ns: shortest time over one and over two intervals.
        longest_ns: longest time over one and over two intervals.
        delta_onset_nats: surprisal of its delta time that clean traffic exceeds in 2 % of the lines.
        delta_scale_nats: mean excess over that.
        name_onset_nats: the same for its name.
        name_scale_nats: the same for its name.
    """

    key: str
    name: str
    source: str
    lines: int
    cycle_ns: NotNegative
    shortest_ns: tuple[int, int]
    longest_ns: tuple[int, int]
    delta_onset_nats: float
    delta_scale_nats: Positive
    name_onset_nats: float
    name_scale_nats: Positive

    def using(self, evidence: frozenset[str]) -> "PduCalibration":
        """The same, where surprisal of a kind ("delta", "name") that is not used never exceeds its onset."""
        return msgspec.structs.replace(
            self,
            delta_onset_nats=self.delta_onset_nats if "delta" in evidence else math.inf,
            name_onset_nats=self.name_onset_nats if "name" in evidence else math.inf,
        )


class BusCalibration(msgspec.Struct, frozen=True, kw_only=True):
    """A whole bus in clean traffic: the longest time in which it carried nothing at all."""

    source: str
    longest_pause_ns: NotNegative


class Peaks(msgspec.Struct, frozen=True):
    """The highest accumulated evidence of every excursion in `hours` of clean traffic.

    The traffic had no part in training. From its peaks the threshold for a false alarm budget is
    extrapolated: the upper quarter of them (at least 8) gives the mean excess of an exponential tail, to
    which one standard error is added, since the answer lies far beyond what was observed.
    """

    hours: Annotated[float, Meta(ge=0)]
    nats: list[float]

    def threshold_nats(self, false_alarms_per_hour: float) -> float:
        """The evidence that clean traffic reaches `false_alarms_per_hour` times an hour."""
        onset, scale, count = self._tail()
        return onset + scale * max(
            0.0, math.log(count / (max(self.hours, _LEAST_HOURS) * false_alarms_per_hour))
        )

    def false_alarms_per_hour(self, evidence_nats: float) -> float:
        """How often clean traffic reaches `evidence_nats`, by the same tail."""
        onset, scale, count = self._tail()
        return count / max(self.hours, _LEAST_HOURS) * math.exp(min(0.0, -(evidence_nats - onset) / scale))

    def _tail(self) -> tuple[float, float, int]:
        """Onset, mean excess plus one standard error, and count of the tail."""
        ordered = sorted(self.nats)
        count = min(len(ordered) - 1, max(8, len(ordered) // 4))
        if count < 1:
            return ordered[0] if ordered else 0.0, 1.0, 1
        onset = ordered[-count - 1]
        mean = max(sum(p - onset for p in ordered[-count:]) / count, 0.25)
        return onset, mean * (1 + 1 / math.sqrt(count)), count


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """`calibration.json`.

    `interval` counts in cycles beyond the learned shortest or longest interval, `delta` and `name` in
    multiples of the PDU's own mean excess of surprisal. `drift_nats` is what a line must exceed to add
    to the evidence. The two channels of evidence, intervals and the model, have thresholds of their own:
    overruns of intervals are independent enough to be counted line by line, the model's surprisal is not
    and is counted by the peaks of its accumulated evidence.
    """

    format: int
    pdus: list[PduCalibration]
    buses: list[BusCalibration]
    interval: Tail
    delta: Tail
    name: Tail
    drift_nats: float
    clean_lines: int
    lines_per_hour: Positive
    model_peaks: Peaks

    def interval_threshold_nats(self, false_alarms_per_hour: float) -> float:
        """The rarity that single lines of clean traffic reach `false_alarms_per_hour` times an hour."""
        return max(1.0, math.log(self.lines_per_hour / false_alarms_per_hour))

    def interval_alarms_per_hour(self, rarity_nats: float) -> float:
        """The inverse of `interval_threshold_nats`."""
        return self.lines_per_hour * math.exp(-rarity_nats)

    def model_rarity_nats(self, pdu: PduCalibration, delta: float, name: float) -> tuple[float, float]:
        """Rarity of the surprisal of a line's delta time and name, 0 where it is ordinary.

        Calibration may find a model too sure of itself, never too unsure: no line is rarer than the
        probability that the model itself gave it.
        """
        delta_nats = name_nats = 0.0
        if delta > pdu.delta_onset_nats:
            excess = (delta - pdu.delta_onset_nats) / pdu.delta_scale_nats
            delta_nats = min(delta, self.delta.rarity(excess))
        if name > pdu.name_onset_nats:
            excess = (name - pdu.name_onset_nats) / pdu.name_scale_nats
            name_nats = min(name, self.name.rarity(excess))
        return delta_nats, name_nats


def decode_calibration(data: bytes) -> Calibration:
    """Read `calibration.json`.

    Raises:
        BundleError: it is damaged or of another version.
    """
    try:
        calibration = msgspec.json.decode(data, type=Calibration)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"calibration.json is damaged: {error}") from None
    if calibration.format != CALIBRATION_FORMAT:
        raise BundleError(
            f"calibration.json has format {calibration.format}, this version reads {CALIBRATION_FORMAT}"
        )
    return calibration
