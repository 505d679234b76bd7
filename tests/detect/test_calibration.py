"""Tails, peaks and thresholds, and `calibration.json` as a file."""

import json
import math
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecustream.detect.calibration import Calibration, Peaks, Tail, decode_calibration
from ecustream.detect.detector import Thresholds
from ecustream.errors import BundleError
from tests.detect.scripts import calibration, pdu

BUDGETS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)


def test_tail_is_the_negative_log_of_an_exponential_survival() -> None:
    """The rarity of an excess is -ln of the share that exceeds it, in a sample of the same tail."""
    rng = np.random.default_rng(1)
    excess = np.where(rng.random(200_000) < 0.05, rng.exponential(0.3, 200_000), 0.0)
    tail = Tail(-math.log(0.05), 0.3)
    for x in (0.1, 0.5, 1.0):
        assert tail.rarity(x) == pytest.approx(-math.log((excess > x).mean()), abs=0.1)
    assert tail.rarity(0.0) == tail.rarity(-1.0) == 0.0


@given(st.floats(0, 20), st.floats(1e-3, 10), st.floats(1e-3, 100))
@settings(max_examples=100, deadline=None)
def test_excess_is_the_inverse_of_rarity(at_zero: float, scale: float, excess: float) -> None:
    """The excess whose rarity was asked for has that rarity; below the tail it is zero."""
    tail = Tail(at_zero, scale)
    assert tail.excess(tail.rarity(excess)) == pytest.approx(excess, rel=1e-6, abs=1e-9)
    assert tail.excess(at_zero / 2) == 0.0


def test_peaks_of_a_known_tail_extrapolate_to_the_right_rate() -> None:
    """The threshold for a budget far beyond the data errs on the safe side, by little."""
    rng = np.random.default_rng(2)
    peaks = Peaks(10.0, rng.exponential(2.0, 10_000).tolist())  # 1000 peaks an hour
    for budget in (10.0, 1.0, 0.1):
        exact = 2.0 * math.log(1000 / budget)
        assert exact * 0.95 < peaks.threshold_nats(budget) < exact * 1.2


def test_body_of_the_peaks_does_not_bend_the_tail() -> None:
    """Many small peaks, which are no sample of the tail, do not lower what is extrapolated from the large."""
    rng = np.random.default_rng(5)
    large = 1.0 + rng.exponential(2.0, 3000)
    peaks = Peaks(1.0, [*large.tolist(), *rng.uniform(0, 1, 6000).tolist()])
    assert peaks.threshold_nats(0.1) > 0.95 * (1.0 + 2.0 * math.log(3000 / 0.1))


def test_channels_share_the_budget() -> None:
    """Both channels at their thresholds together give as many false alarms as were asked for."""
    known = calibration(pdu())
    for budget in (0.1, 1.0, 10.0):
        thresholds = Thresholds.for_budget(known, budget)
        of_intervals = known.interval_alarms_per_hour(thresholds.interval_nats + known.drift_nats)
        of_model = known.model_peaks.false_alarms_per_hour(thresholds.model_nats)
        assert of_intervals + of_model == pytest.approx(budget)


def test_few_peaks_are_extrapolated_with_more_caution() -> None:
    """The same tail known from fewer peaks gives a higher threshold in the mean."""

    def mean_threshold(count: int) -> float:
        rng = np.random.default_rng(3)
        hours = count / 1000
        return float(
            np.mean(
                [Peaks(hours, rng.exponential(2.0, count).tolist()).threshold_nats(0.1) for _ in range(300)]
            )
        )

    assert mean_threshold(20) > mean_threshold(2000)


@pytest.mark.parametrize("count", [2, 9, 40, 4000])
def test_threshold_and_false_alarm_rate_are_inverse(count: int) -> None:
    """What the threshold for a budget says, the rate at that threshold says as well."""
    peaks = Peaks(0.5, np.random.default_rng(4).exponential(2.0, count).tolist())
    for budget in (0.01, 0.1, 1.0):
        assert peaks.false_alarms_per_hour(peaks.threshold_nats(budget)) == pytest.approx(budget)


def test_interval_threshold_and_rate_are_inverse() -> None:
    """The same for the intervals, whose lines are counted one by one."""
    known = calibration(pdu())
    for budget in BUDGETS:
        assert known.interval_alarms_per_hour(known.interval_threshold_nats(budget)) == pytest.approx(budget)


def test_a_larger_budget_never_raises_a_threshold() -> None:
    """Thresholds fall with the budget in both channels, strictly where the tail is extrapolated."""
    every = [Thresholds.for_budget(calibration(pdu()), budget) for budget in BUDGETS]
    assert every == sorted(every, reverse=True)
    assert all(a.interval_nats > b.interval_nats for a, b in pairwise(every))
    assert sorted((t.model_nats for t in every), reverse=True) == [t.model_nats for t in every]


@pytest.mark.parametrize("nats", [[], [3.0], [3.0, 3.0]])
def test_threshold_of_hardly_any_peaks_is_finite(nats: list[float]) -> None:
    """Clean traffic without any excursion still gives a threshold."""
    assert math.isfinite(Peaks(0.1, nats).threshold_nats(1.0))


def test_threshold_without_any_hour_of_clean_traffic_is_finite() -> None:
    """A calibration whose held-out traffic was too short to count hours in does not raise in `run`."""
    assert math.isfinite(Peaks(0.0, []).threshold_nats(1.0))


def test_surprise_is_rare_beyond_its_onset_where_it_is_used() -> None:
    """Each kind counts from its own onset; one that is not used is never rare, and nan never is."""
    known, a, nan = calibration(pdu()), pdu(), float("nan")
    assert known.model_rarity_nats(a, 3.5, 2.0) == (3.5, 0.0)
    assert known.model_rarity_nats(a, 20.0, 12.0) == (20.0, 12.0)
    assert known.model_rarity_nats(a.using(frozenset({"delta"})), 20.0, 12.0) == (20.0, 0.0)
    assert known.model_rarity_nats(a.using(frozenset({"name"})), 20.0, 12.0) == (0.0, 12.0)
    assert known.model_rarity_nats(a, nan, nan) == (0.0, 0.0)


def test_file_reads_back_as_it_was() -> None:
    """What is written is what is read."""
    known = calibration(pdu(), pdu("B", 100), pdu("C", 10, source="ETH2"))
    assert decode_calibration(msgspec.json.encode(known)) == known


def as_json(known: Calibration) -> dict[str, object]:
    """The calibration as plain JSON."""
    return json.loads(msgspec.json.encode(known))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[]", "damaged"),
        (b"null", "damaged"),
        (json.dumps({**as_json(calibration(pdu())), "format": 2}).encode(), "format 2"),
        (json.dumps({**as_json(calibration(pdu())), "pdus": [{"key": "A"}]}).encode(), r"\$\.pdus\[0\]"),
        (json.dumps({**as_json(calibration(pdu())), "drift_nats": "4"}).encode(), r"\$\.drift_nats"),
        (msgspec.json.encode(calibration(pdu()))[:-20], "damaged"),
    ],
)
def test_damaged_file_is_refused_in_one_sentence(data: bytes, words: str) -> None:
    """A truncated, mistyped or newer calibration is a bundle error that says what is wrong with it."""
    with pytest.raises(BundleError, match=words) as raised:
        decode_calibration(data)
    assert "calibration.json" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "damage",
    [{"interval": {"at_zero_nats": 7.0, "scale": 0.0}}, {"lines_per_hour": 0.0}],
    ids=["scale 0", "no lines"],
)
def test_values_that_cannot_be_used_are_refused(damage: dict[str, object]) -> None:
    """A scale or a rate of zero is damage that is found when the bundle is read."""
    with pytest.raises(BundleError):
        decode_calibration(json.dumps({**as_json(calibration(pdu())), **damage}).encode())
