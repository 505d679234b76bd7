"""Reads how well the clock of this machine is kept (adjtimex(2)), and what it is made of."""

import ctypes
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ClockFacts", "read_clock"]

_STA_UNSYNC = 0x0040
_STA_NANO = 0x2000
_SOURCES = Path("/sys/devices/system/clocksource/clocksource0")
_HARDWARE = Path("/sys/class/ptp")


class _Timex(ctypes.Structure):
    """`struct timex`; only what stands before the fields that are read need be right, and its size."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


@dataclass(frozen=True)
class ClockFacts:
    """The clock; None where it cannot be read.

    Attributes:
        synchronized: whether something keeps it in step with another clock.
        estimated_error_us: what that something thinks it is off.
        most_error_us: what it is off at most.
        source: what the kernel counts.
        sources: what it could count.
        hardware: clocks of network cards and of the machine (PTP), `ptp0: NAME`.
    """

    synchronized: bool | None = None
    estimated_error_us: int = 0
    most_error_us: int = 0
    source: str | None = None
    sources: tuple[str, ...] = ()
    hardware: tuple[str, ...] = ()


def read_clock() -> ClockFacts:
    """Reads only; no right is needed."""
    kept = _Timex()
    ask = getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
    # All zero: nothing is to be changed.
    told = ask is not None and ask(ctypes.byref(kept)) >= 0
    hardware = sorted(_HARDWARE.glob("ptp*")) if _HARDWARE.is_dir() else []
    return ClockFacts(
        synchronized=not kept.status & _STA_UNSYNC if told else None,
        estimated_error_us=kept.esterror,
        most_error_us=kept.maxerror,
        source=_word(_SOURCES / "current_clocksource"),
        sources=tuple((_word(_SOURCES / "available_clocksource") or "").split()),
        hardware=tuple(f"{path.name}: {_word(path / 'clock_name') or 'no name'}" for path in hardware),
    )


def _word(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None
