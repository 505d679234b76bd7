"""Whether the device that the configuration names can be used."""

from ecustream.doctor.facts.gpu import GpuFacts
from ecustream.doctor.findings import Finding, ok, problem, warning

__all__ = ["judge_gpu"]

_LITTLE_BYTES = 1 << 30
_GIB = 1 << 30


def judge_gpu(facts: GpuFacts, device: str) -> Finding:
    """GPU and torch against `scoring.device`; a machine without a GPU is as good as any."""
    check = "GPU"
    wants = device.startswith("cuda")
    built = (
        f"torch {facts.torch} for CUDA {facts.cuda}" if facts.cuda else f"torch {facts.torch} without CUDA"
    )
    driver = f"driver {facts.driver}" if facts.driver else "no NVIDIA driver"
    if not facts.gpus:
        says = f"there is none that torch can use: {built}, {driver}"
        why = _why_none(facts)
        if wants:
            advice = f'{why}; or scoring.device = "cpu"'
            return problem(check, f'scoring.device is "{device}", but {says}', advice)
        if device == "auto" and facts.driver:
            return warning(check, f"{says}; scoring is done on the CPU", why)
        return ok(check, f"{says}; scoring is done on the CPU")
    listed = "; ".join(
        f"{gpu.name}, {gpu.free / _GIB:.1f} of {gpu.total / _GIB:.1f} GiB free" for gpu in facts.gpus
    )
    told = f"{listed} ({built}, {driver})"
    figures = {"gpus": len(facts.gpus), "free_bytes": facts.gpus[0].free}
    if device == "cpu":
        return ok(check, f'{told}; scoring.device is "cpu", "auto" would use it', figures=figures)
    number = int(device.partition(":")[2] or 0) if wants else 0
    if number >= len(facts.gpus):
        says = f'scoring.device is "{device}", but there is {told}'
        return problem(check, says, f'scoring.device = "cuda:{len(facts.gpus) - 1}"', figures=figures)
    used = facts.gpus[number]
    if used.trouble is not None:
        return problem(
            check, f"{used.name}: {used.trouble}", "`nvidia-smi` says who uses it", figures=figures
        )
    if used.free < _LITTLE_BYTES:
        return warning(check, f"{told}: that is little", "`nvidia-smi` says who uses it", figures=figures)
    return ok(check, told, figures=figures)


def _why_none(facts: GpuFacts) -> str:
    if facts.driver is None:
        return "install NVIDIA's driver (`nvidia-smi` must work)"
    if facts.cuda is None:
        return "`pip install --force-reinstall torch` from https://download.pytorch.org/whl, a build for CUDA"
    return "`nvidia-smi` must work here, and its driver be as new as torch's CUDA"
