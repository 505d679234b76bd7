"""Whether the clock gives frames a time that can be relied on."""

from ecustream.doctor.facts.clock import ClockFacts
from ecustream.doctor.findings import Finding, ok, unchecked, warning

__all__ = ["judge_clock", "judge_hardware_clock"]

_SLOW = ("hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit")
_LARGE_US = 100_000
_SET = "/sys/devices/system/clocksource/clocksource0/current_clocksource"


def judge_clock(clock: ClockFacts) -> list[Finding]:
    """Whether it is kept, and what it is made of."""
    return [_kept(clock), _source(clock)]


def judge_hardware_clock(name: str, number: int | None, clock: ClockFacts) -> Finding:
    """The clock in the card of an interface; `number` is that of its device, None where it has none."""
    check = "clock of the card"
    if number is None:
        return ok(check, "has none; frames bear the kernel's time", of=name)
    known = {entry.split(":", 1)[0]: entry for entry in clock.hardware}.get(f"ptp{number}", f"ptp{number}")
    return ok(check, f"/dev/{known}; frames bear the kernel's time all the same", of=name)


def _kept(clock: ClockFacts) -> Finding:
    check = "clock"
    if clock.synchronized is None:
        return unchecked(check, "the kernel does not tell how the clock is kept", "`timedatectl` may")
    devices = f"; PTP clocks: {', '.join(clock.hardware)}" if clock.hardware else ""
    error = f"estimated error {_ms(clock.estimated_error_us)}, {_ms(clock.most_error_us)} at most"
    figures = {
        "synchronized": clock.synchronized,
        "estimated_error_us": clock.estimated_error_us,
        "most_error_us": clock.most_error_us,
    }
    if not clock.synchronized:
        says = f"nothing keeps it: intervals are right, but events bear this machine's own time{devices}"
        advice = "`timedatectl set-ntp true`, or chronyd, or ptp4l with phc2sys"
        return warning(check, says, advice, figures=figures)
    if clock.estimated_error_us > _LARGE_US:
        return warning(
            check, f"it is kept, but {error}{devices}", "`chronyc tracking` says why", figures=figures
        )
    return ok(check, f"it is kept, {error}{devices}", figures=figures)


def _source(clock: ClockFacts) -> Finding:
    check = "clock source"
    if clock.source is None:
        return unchecked(check, "the kernel does not tell what it counts", f"`cat {_SET}`")
    if clock.source in _SLOW:
        says = f"is {clock.source}, which is slow to read for each frame, or coarse"
        advice = "`dmesg | grep -i clocksource` says why the kernel gave up the processor's own counter"
        if "tsc" in clock.sources:
            advice = f"`echo tsc > {_SET}`; {advice}"
        return warning(check, says, advice)
    return ok(check, f"is {clock.source}")


def _ms(us: int) -> str:
    return f"{us / 1e3:.3g} ms"
