"""The one sentence of an event: what came, what was expected, and why it counts."""

from datetime import UTC, datetime

from ecustream.detect.calibration import PduCalibration
from ecustream.detect.intervals import Deviation
from ecustream.units import duration

__all__ = ["back_reason", "interval_reason", "overdue_reason", "pause_reason", "rate", "surprise_reason"]


def rate(per_hour: float) -> str:
    """How often clean traffic does this, in words."""
    if per_hour >= 1:
        return f"clean traffic does this about {per_hour:.0f} times an hour"
    hours = 1 / per_hour if per_hour > 0 else float("inf")
    if hours >= 1000:
        return "clean traffic does this less than once in 1000 h"
    return f"clean traffic does this about once in {hours:.0f} h"


def _expected(pdu: PduCalibration, intervals: int = 1) -> str:
    low, high = pdu.shortest_ns[intervals - 1], pdu.longest_ns[intervals - 1]
    return f"{duration(pdu.cycle_ns * intervals)} ({duration(low)} to {duration(high)})"


def interval_reason(pdu: PduCalibration, deviation: Deviation, per_hour: float) -> str:
    """Of a span outside its learned bounds."""
    span = duration(deviation.span_ns)
    if deviation.intervals == 1:
        came = f"{pdu.name} came {span} after its last occurrence"
    elif deviation.side == "early":
        came = f"{pdu.name} came a third time within {span}"
    else:
        came = f"{pdu.name} took {span} for two intervals"
    return f"{came}, expected {_expected(pdu, deviation.intervals)}; {rate(per_hour)}"


def overdue_reason(pdu: PduCalibration, silent_ns: int | None, since: str, per_hour: float) -> str:
    """Of a PDU that has not come; `silent_ns` is None where it has not come at all `since` (in words)."""
    if silent_ns is None:
        return f"{pdu.name} has never come {since}, expected every {_expected(pdu)}"
    silent = duration(silent_ns)
    return f"{pdu.name} has not come for {silent}, expected every {_expected(pdu)}; {rate(per_hour)}"


def back_reason(pdu: PduCalibration, silent_ns: int | None, since: str, now: int, per_hour: float) -> str:
    """Of a PDU that came at `now` after a silence; `silent_ns` and `since` as in `overdue_reason`."""
    if silent_ns is None:
        return f"{pdu.name} came for the first time {since} at {_clock(now)}, expected every {_expected(pdu)}"
    back = f"{pdu.name} was silent for {duration(silent_ns)} and came again at {_clock(now)}"
    return f"{back}, expected every {_expected(pdu)}; {rate(per_hour)}"


def pause_reason(source: str, pause_ns: int, silent_ns: int, since: str | None, back_ns: int | None) -> str:
    """Of a bus that carried nothing for `silent_ns`, where clean traffic pauses for `pause_ns` at most.

    `since` says since when nothing came, where nothing came before; `back_ns` is when it ended.
    """
    silent = duration(silent_ns)
    if since is None:
        reason = f"nothing at all came on {source} for {silent}"
    elif back_ns is None:
        reason = f"nothing came from {source} {since} {silent} ago"
    else:
        reason = f"nothing came from {source} {since} for {silent}"
    if back_ns is not None:
        reason += f", until {_clock(back_ns)}"
    return f"{reason}, the longest pause of clean traffic is {duration(pause_ns)}"


def _clock(time_ns: int) -> str:
    """Capture time of day, whatever the time zone of the machine."""
    whole = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    return f"{whole:%H:%M:%S}.{time_ns // 1_000_000 % 1000:03d} UTC"


def surprise_reason(
    pdu: PduCalibration, field: str, delta_ns: int | None, expected: str | None, nats: float, per_hour: float
) -> str:
    """Of a line that the model found improbable in one field."""
    if field == "deltaTime":
        span = "for the first time" if delta_ns is None else f"{duration(delta_ns)} after its last occurrence"
        came = f"{pdu.name} came {span}"
    else:
        came = f"{pdu.name} came"
    wanted = f"the model expected {expected}" if expected else "the model expected otherwise"
    usual = pdu.delta_onset_nats if field == "deltaTime" else pdu.name_onset_nats
    return f"{came}, {wanted} here ({nats:.1f} nats, usually below {usual:.1f}); {rate(per_hour)}"
