"""The sentences of events: every one says what was expected and what was seen."""

import re

import pytest

from ecustream.detect.intervals import Deviation
from ecustream.detect.reasons import (
    back_reason,
    interval_reason,
    overdue_reason,
    pause_reason,
    rate,
    surprise_reason,
)
from ecustream.units import duration
from tests.detect.scripts import MS, ns, pdu

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


def test_back_reason() -> None:
    """How long the PDU was silent and when it came again, by the capture's clock in UTC."""
    assert back_reason(ESC, 52 * MS, "in this run", ns(70.9), 1e-9) == (
        "ESC_03 was silent for 52.0 ms and came again at 22:13:20.070 UTC, "
        "expected every 10.0 ms (9.6 ms to 10.5 ms); clean traffic does this less than once in 1000 h"
    )
    assert back_reason(ESC, None, "since the start-up", ns(3000), 1.0) == (
        "ESC_03 came for the first time since the start-up at 22:13:23.000 UTC, "
        "expected every 10.0 ms (9.6 ms to 10.5 ms)"
    )


@pytest.mark.parametrize(
    ("since", "back_ms", "words"),
    [
        (None, None, "nothing at all came on ETH1 for 4.00 s"),
        (None, 4000, "nothing at all came on ETH1 for 4.00 s, until 22:13:24.000 UTC"),
        ("since the capture began", None, "nothing came from ETH1 since the capture began 4.00 s ago"),
        (
            "since the capture began",
            4000,
            "nothing came from ETH1 since the capture began for 4.00 s, until 22:13:24.000 UTC",
        ),
    ],
)
def test_pause_reason(since: str | None, back_ms: float | None, words: str) -> None:
    """How long the bus carried nothing, since when where nothing came before, and until when."""
    reason = pause_reason("ETH1", 6 * MS, 4000 * MS, since, None if back_ms is None else ns(back_ms))
    assert reason == f"{words}, the longest pause of clean traffic is 6.0 ms"


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
