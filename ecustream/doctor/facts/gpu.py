"""Asks torch and the driver what GPUs there are."""

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Gpu", "GpuFacts", "read_gpus"]

_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Gpu:
    """One GPU, its memory in bytes; `trouble` is why it cannot be used."""

    name: str
    free: int = 0
    total: int = 0
    trouble: str | None = None


@dataclass(frozen=True)
class GpuFacts:
    """What torch can use.

    Attributes:
        torch: its version.
        cuda: CUDA that it was built for; None where it was built without.
        driver: version of the kernel's driver; None where there is none.
        gpus: those that torch finds.
    """

    torch: str
    cuda: str | None
    driver: str | None
    gpus: tuple[Gpu, ...] = ()


def read_gpus() -> GpuFacts:
    """The GPUs; loads torch."""
    import torch

    try:
        told = re.search(r"\b\d+\.\d+(\.\d+)?\b", _DRIVER.read_text(errors="replace"))
    except OSError:
        told = None
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return GpuFacts(
        torch=str(torch.__version__),
        cuda=torch.version.cuda,
        driver=told[0] if told else None,
        gpus=tuple(_gpu(number) for number in range(count)),
    )


def _gpu(number: int) -> Gpu:
    import torch

    name = torch.cuda.get_device_name(number)
    try:
        free, total = torch.cuda.mem_get_info(number)
    except RuntimeError as error:
        return Gpu(name, trouble=str(error).strip().splitlines()[0])
    return Gpu(name, free, total)
