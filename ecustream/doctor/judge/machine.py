"""Whether there are cores and memory enough for capture beside scoring."""

from ecustream.doctor.facts.machine import CoreFacts, MemoryFacts
from ecustream.doctor.findings import Finding, ok, problem, unchecked, warning

__all__ = ["judge_cores", "judge_governor", "judge_memory"]

_MIB = 1 << 20
PROCESS_BYTES = 512 * _MIB
"""A run with a small model: Python, torch and what it keeps between passes."""
_WEIGHTS_TIMES = 2
_AMPLE = 1.5
# With these a governor of that name only says how eager the processor itself is.
_OWN_CLOCKING = ("intel_pstate", "amd-pstate-epp")
_SLOW = ("powersave", "conservative")


def judge_cores(facts: CoreFacts, threads: int) -> Finding:
    """Whether a core is left for capture.

    Args:
        facts: the cores.
        threads: `scoring.threads`; 0 is automatic and leaves one core.
    """
    check = "cores"
    usable = min(facts.cores, facts.quota or facts.cores)
    free = max(0.0, usable - facts.load)
    figures = {"cores": facts.cores, "quota_cores": facts.quota, "load": round(facts.load, 2)}
    told = f"{usable:g} cores" if usable != 1 else "1 core"
    if usable < 2:
        says = f"{told} for capture and scoring together: a long pass delays capture"
        return warning(check, says, "give this machine (or container) two or more", figures=figures)
    if threads >= facts.cores:
        says = f"scoring.threads = {threads} leaves capture none of {told}"
        return warning(check, says, f"scoring.threads = {max(1, facts.cores - 1)}, or 0", figures=figures)
    if free < 1:
        says = f"a load of {facts.load:.1f} on {told} leaves less than one core free"
        return warning(check, says, "`top` says who takes them", figures=figures)
    return ok(check, f"{told}, load {facts.load:.1f}", figures=figures)


def judge_governor(facts: CoreFacts) -> Finding:
    """Whether the cores may run as fast as they can."""
    check = "governor"
    if not facts.governors:
        return ok(check, "the frequency of the cores is not set here (a virtual machine, or firmware)")
    told = f"{', '.join(facts.governors)} ({facts.scaling or 'driver not told'})"
    own = facts.scaling in _OWN_CLOCKING
    if not own and any(governor in _SLOW for governor in facts.governors):
        says = f"is {told}: the cores stay slow, or wake up late"
        return warning(check, says, "`cpupower frequency-set -g performance`")
    return ok(check, f"is {told}")


def judge_memory(facts: MemoryFacts, interfaces: int, ring_mib: int, weights_bytes: int) -> Finding:
    """Whether rings, model and Python find room.

    Args:
        facts: the memory.
        interfaces: how many are captured on.
        ring_mib: of each of them.
        weights_bytes: size of the model's weights.
    """
    check = "memory"
    if facts.available is None:
        return unchecked(check, "/proc/meminfo cannot be read", "`free -m`")
    needed = PROCESS_BYTES + interfaces * ring_mib * _MIB + _WEIGHTS_TIMES * weights_bytes
    there = min(facts.available, facts.available if facts.limit_left is None else facts.limit_left)
    by = "" if there == facts.available else " within the limit of its control group"
    says = f"{there // _MIB:,} MiB can be had{by}, a run takes some {needed // _MIB:,}"
    figures = {"available_bytes": there, "needed_bytes": needed}
    if there < needed:
        return problem(check, says, "end what else runs, or lower capture.ring_mib", figures=figures)
    if there < _AMPLE * needed:
        return warning(check, says, "`ps aux --sort -rss | head` says who has the rest", figures=figures)
    return ok(check, says, figures=figures)
