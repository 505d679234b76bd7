"""Quantities in words."""

__all__ = ["duration"]


def duration(time_ns: float) -> str:
    """A time span as an engineer would write it: `31.5 ms`, `2.10 s`, `85 µs`."""
    if time_ns < 999.5e3:
        return f"{time_ns / 1e3:.0f} µs"
    if time_ns < 999.95e6:
        return f"{time_ns / 1e6:.1f} ms"
    return f"{time_ns / 1e9:.2f} s"
