"""Sets this process up for scoring: device, CPU threads, and memory that is kept between passes."""

import ctypes
import os

import torch

from ecustream.errors import ConfigError

__all__ = ["find_device", "prepare_machine"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _LARGEST_KEPT_BYTES = 1 << 28, 1 << 25
_KEPT_PRODUCTS = 128


def prepare_machine(threads: int = 0, spare: int = 0) -> int:
    """Set threads and memory; once a process, before the first network.

    Args:
        threads: CPU threads of a pass; 0 takes the cores that this process may use, but `spare` of them, at
            most four: small networks gain nothing from more.
        spare: cores that are left for capture and detection where there are several.

    Returns:
        The threads that were set.
    """
    if not threads:
        threads = max(1, min(4, len(os.sched_getaffinity(0)) - spare))
    torch.set_num_threads(threads)
    # oneDNN keeps code and memory for each shape of product that it meets, 1,024 of them by default.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_KEPT_PRODUCTS))
    # glibc gives large blocks back to the kernel as soon as they are free, and each pass would have its
    # memory cleared and mapped again: 10 to 20 % of the time at 512 tokens, more in wider networks.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
    return threads


def find_device(name: str) -> torch.device:
    """The device of this name; "auto" is a GPU where there is one.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigError(f'scoring.device is "{name}", but torch finds {count or "no"} CUDA devices here')
    return device
