"""A line about this machine, to print beside figures."""

import os
import platform
from pathlib import Path

__all__ = ["machine_line"]


def machine_line() -> str:
    """Processor model, its cores and the Python version, to print beside figures."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model
        )
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"
