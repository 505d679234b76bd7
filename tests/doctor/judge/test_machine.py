"""What is said of clock, cores, memory and GPUs."""

from dataclasses import replace

import pytest

from ecustream.doctor.facts.clock import ClockFacts
from ecustream.doctor.facts.gpu import Gpu, GpuFacts
from ecustream.doctor.facts.machine import CoreFacts, MemoryFacts
from ecustream.doctor.judge.clock import judge_clock, judge_hardware_clock
from ecustream.doctor.judge.gpu import judge_gpu
from ecustream.doctor.judge.machine import judge_cores, judge_governor, judge_memory

CLOCK = ClockFacts(True, 300, 12_000, "tsc", ("tsc", "hpet"), ("ptp0: igb-peer",))
MIB = 1 << 20
GIB = 1 << 30


class TestClock:
    def test_kept(self) -> None:
        """A clock that is kept is well, with its errors and the PTP clocks."""
        kept, source = judge_clock(CLOCK)
        assert (kept.level, source.level) == ("ok", "ok")
        assert kept.says == "it is kept, estimated error 0.3 ms, 12 ms at most; PTP clocks: ptp0: igb-peer"

    def test_not_kept(self) -> None:
        """One that nothing keeps, or far off, is a warning; one that cannot be asked is not checked."""
        assert judge_clock(replace(CLOCK, synchronized=False))[0].level == "warning"
        assert judge_clock(replace(CLOCK, estimated_error_us=200_000))[0].level == "warning"
        assert [finding.level for finding in judge_clock(ClockFacts())] == ["not checked", "not checked"]

    @pytest.mark.parametrize("source", ["hpet", "acpi_pm", "jiffies"])
    def test_slow_source(self, source: str) -> None:
        """A slow source is a warning, with the command that takes the fast one where there is one."""
        finding = judge_clock(replace(CLOCK, source=source))[1]
        assert finding.level == "warning"
        assert "echo tsc" in (finding.advice or "")
        alone = judge_clock(replace(CLOCK, source=source, sources=(source,)))[1]
        assert "echo tsc" not in (alone.advice or "")

    @pytest.mark.parametrize("source", ["kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"])
    def test_fast_source(self, source: str) -> None:
        """The counters of other machines are as good."""
        assert judge_clock(replace(CLOCK, source=source))[1].level == "ok"

    def test_hardware(self) -> None:
        """The clock of a card is told by device and name."""
        assert "/dev/ptp0: igb-peer" in judge_hardware_clock("eth1", 0, CLOCK).says
        assert "has none" in judge_hardware_clock("eth1", None, CLOCK).says


class TestCores:
    @pytest.mark.parametrize(
        ("cores", "threads", "level"),
        [
            (CoreFacts(2), 0, "ok"),
            (CoreFacts(2, load=0.9), 0, "ok"),
            (CoreFacts(2, load=1.1), 0, "warning"),
            (CoreFacts(1), 0, "warning"),
            (CoreFacts(16, quota=1.5), 0, "warning"),
            (CoreFacts(4), 3, "ok"),
            (CoreFacts(4), 4, "warning"),
        ],
    )
    def test_room_for_capture(self, cores: CoreFacts, threads: int, level: str) -> None:
        """A core must be left beside scoring, by count, quota, load and configuration."""
        assert judge_cores(cores, threads).level == level

    @pytest.mark.parametrize(
        ("governors", "scaling", "level"),
        [
            ((), None, "ok"),
            (("performance",), "acpi-cpufreq", "ok"),
            (("schedutil",), "acpi-cpufreq", "ok"),
            (("performance", "powersave"), "acpi-cpufreq", "warning"),
            (("powersave",), "intel_cpufreq", "warning"),
            (("powersave",), "intel_pstate", "ok"),
        ],
    )
    def test_governor(self, governors: tuple[str, ...], scaling: str | None, level: str) -> None:
        """`powersave` keeps cores slow, but where the processor itself sets its frequency."""
        assert judge_governor(CoreFacts(4, governors=governors, scaling=scaling)).level == level


class TestMemory:
    # Two rings of 64 MiB, a process, and twice the weights.
    NEEDED = (512 + 128 + 20) * MIB

    @pytest.mark.parametrize(
        ("facts", "level"),
        [
            (MemoryFacts(2 * NEEDED), "ok"),
            (MemoryFacts(NEEDED), "warning"),
            (MemoryFacts(NEEDED - 1), "problem"),
            (MemoryFacts(2 * NEEDED, limit_left=NEEDED - 1), "problem"),
            (MemoryFacts(2 * NEEDED, limit_left=9 * NEEDED), "ok"),
            (MemoryFacts(None), "not checked"),
        ],
    )
    def test_room(self, facts: MemoryFacts, level: str) -> None:
        """Rings, model and Python must find room, also within the group's limit."""
        finding = judge_memory(facts, 2, 64, 10 * MIB)
        assert finding.level == level
        if facts.available is not None:
            assert finding.figures["needed_bytes"] == self.NEEDED


class TestGpu:
    NONE = GpuFacts("2.13.0+cpu", None, None)
    UNUSED = replace(NONE, driver="550.54.15")
    ONE = GpuFacts("2.13.0", "13.0", "550.54.15", (Gpu("H200", 100 * GIB, 139 * GIB),))

    @pytest.mark.parametrize(
        ("facts", "device", "level"),
        [
            (NONE, "cpu", "ok"),
            (NONE, "auto", "ok"),
            (NONE, "cuda", "problem"),
            (UNUSED, "cpu", "ok"),
            (UNUSED, "auto", "warning"),
            (UNUSED, "cuda:0", "problem"),
            (ONE, "cpu", "ok"),
            (ONE, "auto", "ok"),
            (ONE, "cuda", "ok"),
            (ONE, "cuda:0", "ok"),
            (ONE, "cuda:1", "problem"),
            (replace(ONE, gpus=(Gpu("H200", GIB - 1, 139 * GIB),)), "cuda", "warning"),
            (replace(ONE, gpus=(Gpu("H200", trouble="out of memory"),)), "cuda", "problem"),
            (replace(ONE, gpus=(Gpu("H200", trouble="out of memory"),)), "cpu", "ok"),
        ],
    )
    def test_against_configuration(self, facts: GpuFacts, device: str, level: str) -> None:
        """Only a GPU that the configuration asks for can be a problem; torch without CUDA is none."""
        assert judge_gpu(facts, device).level == level

    def test_why_none(self) -> None:
        """Without a driver it advises that, with one another torch."""
        assert "driver" in (judge_gpu(self.NONE, "cuda").advice or "")
        assert "pip install" in (judge_gpu(self.UNUSED, "cuda").advice or "")
