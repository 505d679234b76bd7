"""What a process holds, and the slope of it."""

import subprocess
import sys
import time

import pytest

from tests.reliability.memory import Holding, holding, median_slope_per_h, sampled, slope_per_h

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc here")


def test_slope_of_a_line() -> None:
    """Two MiB a minute are 120 MiB an hour, whatever came in the warm-up and at whatever times."""
    samples = [Holding(100 + at_s, 50 + at_s / 30, 7, 3) for at_s in (60, 61, 100, 300)]
    samples.insert(0, Holding(100.0, 500.0, 7, 3))
    assert slope_per_h(samples, warm_up_s=60) == pytest.approx(120)
    assert slope_per_h(samples, "descriptors") == 0
    assert slope_per_h(samples) < -1000
    with pytest.raises(ValueError, match="1 samples after 200 s"):
        slope_per_h(samples, warm_up_s=200)


def test_median_slope_sees_a_leak_and_no_step() -> None:
    """A single step of 13 MiB is no growth; a MiB a minute is, with and without a step."""
    flat = [Holding(at_s, 324.0 + 13 * (at_s > 60), 7, 3) for at_s in range(0, 200, 5)]
    leak = [Holding(at_s, rss_mib + at_s / 60, 7, 3) for at_s, rss_mib, _, _ in flat]
    assert slope_per_h(flat) > 100
    assert median_slope_per_h(flat) == 0
    assert 55 < median_slope_per_h(leak) < 130


LEAKING = """
import os, threading
print("begun", flush=True)
input()
files = [open(os.devnull) for _ in range(5)]
memory = bytearray(os.urandom(20 << 20))
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("leaked", flush=True)
input()
"""


@needs_proc
def test_a_leak_is_seen() -> None:
    """Memory that is touched, files that are opened and threads that are started are seen."""
    # In a process of its own: this one has memory to give that it has touched before.
    with subprocess.Popen(
        [sys.executable, "-c", LEAKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        before = holding(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "leaked\n"
        with sampled(process.pid, 0.01) as samples:
            while len(samples()) < 3:
                time.sleep(0.01)
            during = samples()[-1]
        process.stdin.write("\n")
    assert during.descriptors == before.descriptors + 5
    assert during.rss_mib > before.rss_mib + 15
    assert during.threads == before.threads + 1


@needs_proc
def test_samples_end_with_the_process() -> None:
    """A process that ends in the middle leaves the samples until then."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        with sampled(process.pid, 0.01) as samples:
            while not samples():
                time.sleep(0.01)
            process.communicate(b"\n")
        assert samples()[0].threads >= 1
