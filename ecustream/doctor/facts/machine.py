"""Reads the cores, their load and clocking, and the memory that this process may have."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CoreFacts", "MemoryFacts", "read_cores", "read_memory"]

_CPUS = Path("/sys/devices/system/cpu")
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class CoreFacts:
    """The cores.

    Attributes:
        cores: how many this process may use.
        quota: how many it may use on average; None where there is no limit.
        load: processes that wanted to run, on average of the last minute.
        governors: who sets the frequency of the cores; empty where nobody here does.
        scaling: the driver that these work with.
    """

    cores: int
    quota: float | None = None
    load: float = 0.0
    governors: tuple[str, ...] = ()
    scaling: str | None = None


@dataclass(frozen=True)
class MemoryFacts:
    """Memory in bytes that can be had without swapping, and what is left of a limit; None if unknown."""

    available: int | None
    limit_left: int | None = None


def read_cores() -> CoreFacts:
    """The cores as they are now; to be asked before there is work of one's own."""
    policies = sorted(_CPUS.glob("cpu[0-9]*/cpufreq"))
    governors = {_text(policy / "scaling_governor") for policy in policies} - {""}
    return CoreFacts(
        cores=len(os.sched_getaffinity(0)),
        quota=_quota(_control_groups()),
        load=os.getloadavg()[0],
        governors=tuple(sorted(governors)),
        scaling=_text(policies[0] / "scaling_driver") or None if policies else None,
    )


def read_memory() -> MemoryFacts:
    """The memory as it is now; to be asked before one's own libraries are loaded."""
    told = re.search(r"^MemAvailable:\s+(\d+) kB$", _text(Path("/proc/meminfo")), re.MULTILINE)
    left = []
    for group in _control_groups():
        most, used = _text(group / "memory.max"), _text(group / "memory.current")
        if most.isdecimal() and used.isdecimal():
            left.append(max(0, int(most) - int(used)))
    return MemoryFacts(int(told[1]) << 10 if told else None, min(left, default=None))


def _control_groups() -> list[Path]:
    """The folders of this process's group and of those around it (cgroups(7), version 2)."""
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        if line.startswith("0::/"):
            group = _CGROUPS / line.removeprefix("0::/")
            return [folder for folder in (group, *group.parents) if folder.is_relative_to(_CGROUPS)]
    return []


def _quota(groups: list[Path]) -> float | None:
    quotas = []
    for group in groups:
        told = re.fullmatch(r"(\d+) (\d+)", _text(group / "cpu.max"))
        if told:
            quotas.append(int(told[1]) / int(told[2]))
    return min(quotas, default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
