"""The clock, beside what the kernel says elsewhere."""

import ctypes
from pathlib import Path
from struct import unpack_from

from ecustream.doctor.facts.clock import read_clock

_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")


def test_equals_ntp_adjtime() -> None:
    """Whether it is kept, and its errors, are what the C library's other call says."""
    # ntp_adjtime(3) has the same structure; on a 64-bit machine maxerror is at byte 24, status at byte 40.
    raw = ctypes.create_string_buffer(512)
    assert ctypes.CDLL(None).ntp_adjtime(raw) >= 0
    most, estimated, status = unpack_from("=qqi", raw, 24)
    clock = read_clock()
    assert clock.synchronized is not bool(status & 0x40)
    # Both grow by 500 µs a second between the two calls.
    assert 0 <= clock.most_error_us - most <= 16_000_000
    assert clock.estimated_error_us == estimated


def test_source() -> None:
    """The clock source is one of those that there are."""
    clock = read_clock()
    if _SOURCE.exists():
        assert clock.source == _SOURCE.read_text().strip()
        assert clock.source in clock.sources
    else:
        assert clock.source is None
