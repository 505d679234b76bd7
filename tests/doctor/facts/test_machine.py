"""Cores and memory, as this process may have them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ecustream.doctor.facts import machine
from ecustream.doctor.facts.machine import read_cores, read_memory


def test_cores_of_this_process() -> None:
    """Only the cores count that this process may use."""
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert read_cores().cores == 1
    finally:
        os.sched_setaffinity(0, before)
    assert read_cores().cores == len(before)


@pytest.mark.skipif(shutil.which("free") is None, reason="needs the command free")
def test_memory() -> None:
    """Memory is what free calls available, up to what changes meanwhile."""
    available = read_memory().available
    assert available is not None
    shown = int(subprocess.check_output(["free", "-b"], text=True).splitlines()[1].split()[6])
    assert abs(available - shown) < 0.2 * shown + (200 << 20)


def test_limits_of_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The narrowest limit of the group and those around it holds; `max` is none."""
    group = tmp_path / "system.slice" / "ecustream.service"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("100\n")
    (group.parent / "memory.max").write_text("1000\n")
    (group.parent / "memory.current").write_text("400\n")
    (group / "cpu.max").write_text("150000 100000\n")
    (group.parent / "cpu.max").write_text("300000 100000\n")
    (group.parent.parent / "cpu.max").write_text("max 100000\n")
    monkeypatch.setattr(machine, "_control_groups", lambda: [group.parent, group, tmp_path])
    assert read_memory().limit_left == 600
    assert read_cores().quota == 1.5


def test_governors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each governor is told once; where no core has one there is none."""
    monkeypatch.setattr(machine, "_CPUS", tmp_path)
    assert read_cores().governors == ()
    for number, governor in enumerate(("schedutil", "powersave", "schedutil")):
        policy = tmp_path / f"cpu{number}" / "cpufreq"
        policy.mkdir(parents=True)
        (policy / "scaling_governor").write_text(f"{governor}\n")
        (policy / "scaling_driver").write_text("acpi-cpufreq\n")
    cores = read_cores()
    assert (cores.governors, cores.scaling) == (("powersave", "schedutil"), "acpi-cpufreq")
