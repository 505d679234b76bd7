"""The sentences of events: every one says what was expected and what was seen."""

import re

import pytest

from ecustream.detect.intervals import Deviation
from ecustream.detect.reasons import interval_reason, overdue_reason, rate, surprise_reason
from ecustream.units import duration
from tests.detect.scripts import MS, pdu

ESC = pdu("ESC_03", 10, one_ms=(9.6, 10.5), two_ms=(19.5, 20.5))


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "0 µs"),
        (85_400, "85 µs"),
        (1_000_000, "1.0 ms"),
        (31_500_000, "31.5 ms"),
        (2_100_000_000, "2.10 s"),
        (3_600_000_000_000, "3600.00 s"),
    ],
)
def test_durations_have_the_unit_an_engineer_would_write(time_ns: int, text: str) -> None:
    """Microseconds below a millisecond, milliseconds below a second."""
    assert duration(time_ns) == text


@pytest.mark.parametrize(
    ("per_hour", "text"),
    [
        (45.2, "about 45 times an hour"),
        (0.5, "about once in 2 h"),
        (0.002, "about once in 500 h"),
        (1e-5, "less than once in 1000 h"),
        (0.0, "less than once in 1000 h"),
    ],
)
def test_rates_are_told_in_words(per_hour: float, text: str) -> None:
    """How often clean traffic does this, per hour or in hours."""
    assert rate(per_hour) == f"clean traffic does this {text}"


def test_late_reason_names_seen_and_expected() -> None:
    """PDU, seen interval, cycle and bounds."""
    reason = interval_reason(ESC, Deviation("late", 1, round(31.5 * MS), 2.1), 0.5)
    assert reason == (
        "ESC_03 came 31.5 ms after its last occurrence, expected 10.0 ms (9.6 ms to 10.5 ms); "
        "clean traffic does this about once in 2 h"
    )


@pytest.mark.parametrize(
    ("side", "words"),
    [("early", "came a third time within 15.0 ms"), ("late", "took 15.0 ms for two intervals")],
)
def test_reason_over_two_intervals_names_the_bounds_of_two(side: str, words: str) -> None:
    """The expected values are those of two intervals, too."""
    deviation = Deviation(side, 2, 15 * MS, 0.4)  # type: ignore[arg-type]
    reason = interval_reason(ESC, deviation, 2.0)
    assert reason.startswith(f"ESC_03 {words}, expected 20.0 ms (19.5 ms to 20.5 ms); ")


def test_overdue_reason() -> None:
    """How long the PDU has been silent, or that it never came, and what was expected."""
    assert overdue_reason(ESC, 12 * MS, "in this run", 1.0).startswith(
        "ESC_03 has not come for 12.0 ms, expected every 10.0 ms ("
    )
    never = overdue_reason(ESC, None, "in this run", 1.0)
    assert never == "ESC_03 has never come in this run, expected every 10.0 ms (9.6 ms to 10.5 ms)"


def test_surprise_reason_of_a_delta() -> None:
    """The seen interval, what the model expected, and the nats beside the usual ones."""
    reason = surprise_reason(ESC, "deltaTime", 14 * MS, "10.0 ms", 9.3, 0.5)
    assert reason.startswith(
        "ESC_03 came 14.0 ms after its last occurrence, the model expected 10.0 ms here "
        "(9.3 nats, usually below 3.0); "
    )
    assert "for the first time" in surprise_reason(ESC, "deltaTime", None, None, 9.3, 0.5)


def test_surprise_reason_of_a_name() -> None:
    """Which PDU the model expected instead, and the nats usual for names."""
    reason = surprise_reason(ESC, "pduName", 10 * MS, "BRAKE_01", 7.0, 0.5)
    assert reason.startswith("ESC_03 came, the model expected BRAKE_01 here (7.0 nats, usually below 2.0); ")
    assert "expected otherwise" in surprise_reason(ESC, "pduName", 10 * MS, None, 7.0, 0.5)


@pytest.mark.parametrize("just_below", [999_600, 999_960_000])
def test_no_duration_reads_a_thousand_of_its_unit(just_below: int) -> None:
    """What rounds up to a thousand is told in the next unit."""
    assert not re.match("1000", duration(just_below))
