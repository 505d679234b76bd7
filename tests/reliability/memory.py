"""What a process holds: memory, descriptors, threads; and whether that grows."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Holding", "holding", "median_slope_per_h", "sampled", "slope_per_h", "touched_mib"]

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MIB = 1 << 20


class Holding(NamedTuple):
    """What a process holds at an instant.

    Attributes:
        at_s: when, by `time.monotonic`.
        rss_mib: its resident memory.
        descriptors: its open files, sockets and so on.
        threads: its threads.
    """

    at_s: float
    rss_mib: float
    descriptors: int
    threads: int


def holding(pid: int) -> Holding:
    """What a process holds now.

    Raises:
        OSError: it has ended, or is somebody else's.
    """
    proc = Path(f"/proc/{pid}")
    descriptors = len(list((proc / "fd").iterdir()))
    threads = len(list((proc / "task").iterdir()))
    return Holding(time.monotonic(), touched_mib(pid), descriptors, threads)


def touched_mib(pid: int) -> float:
    """Resident memory of a process, in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES / _MIB


@contextmanager
def sampled(pid: int, every_s: float = 1.0) -> Iterator[Callable[[], list[Holding]]]:
    """Looks at a process from a thread until the block or the process ends.

    Gives a function that returns all samples so far. One is taken at once.
    """
    samples: list[Holding] = []
    over = threading.Event()

    def sample() -> None:
        while True:
            try:
                samples.append(holding(pid))
            except OSError:
                return
            if over.wait(every_s):
                return

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield lambda: list(samples)
    finally:
        over.set()
        thread.join()


def slope_per_h(samples: Sequence[Holding], what: str = "rss_mib", warm_up_s: float = 0.0) -> float:
    """Least-squares slope an hour of a column of the samples, without those of the first seconds.

    Raises:
        ValueError: there are fewer than two samples after the warm-up.
    """
    at_s, values = _settled(samples, what, warm_up_s)
    at_s -= at_s.mean()
    return float((at_s * (values - values.mean())).sum() / (at_s**2).sum()) * 3600


def median_slope_per_h(samples: Sequence[Holding], what: str = "rss_mib", warm_up_s: float = 0.0) -> float:
    """As `slope_per_h`, but the median of the slopes between any two samples (Theil and Sen).

    An allocator takes its memory in steps; one of them moves a least-squares slope, and not this one.

    Raises:
        ValueError: there are fewer than two samples after the warm-up.
    """
    at_s, values = _settled(samples, what, warm_up_s)
    first, second = np.triu_indices(len(at_s), 1)
    return float(np.median((values[second] - values[first]) / (at_s[second] - at_s[first]))) * 3600


def _settled(
    samples: Sequence[Holding], what: str, warm_up_s: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    kept = [sample for sample in samples if sample.at_s - samples[0].at_s >= warm_up_s]
    if len(kept) < 2:
        raise ValueError(f"{len(kept)} samples after {warm_up_s:g} s say nothing of a slope")
    at_s = np.array([sample.at_s for sample in kept], float)
    return at_s, np.array([getattr(sample, what) for sample in kept], float)
