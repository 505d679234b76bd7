"""The traffic of a plan: simulated once, found again by whoever resumes."""

from pathlib import Path
from typing import NamedTuple

from ecustream.decode.names import NameTable
from ecustream.errors import InputError
from training.reproduction.plan import TrafficPlan
from training.simulate import draw_vehicle, write_trace

__all__ = ["JUDGED", "Traffic", "simulate"]

JUDGED = ("normal operation", "system restart")
"""What detection is judged on, as in figure 7."""

_FAULTY_DRIVE, _NORMAL_DRIVE, _RESTART_DRIVE, _QUIET_DRIVE = 301, 302, 303, 304


class Traffic(NamedTuple):
    """Captures of one vehicle; labels lie beside those with faults.

    Attributes:
        clean: without faults.
        faulty: with many faults, to fine-tune on.
        judged: by the names of `JUDGED`, with many faults.
        quiet: without faults, which nothing is trained on.
        names: of its PDUs.
    """

    clean: list[Path]
    faulty: Path
    judged: dict[str, Path]
    quiet: Path
    names: NameTable


def simulate(plan: TrafficPlan, folder: Path) -> Traffic:
    """Write what is not there yet.

    Raises:
        InputError: there is no such preset.
        OutputError: a trace cannot be written.
    """
    vehicle = draw_vehicle(plan.preset, plan.vehicle_seed)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [(f"clean-{drive}", plan.clean_seconds, drive, "none", "drive") for drive in plan.clean_drives]
    wanted += [
        ("faulty", plan.faulty_seconds, _FAULTY_DRIVE, "heavy", "drive"),
        ("normal", plan.judged_seconds, _NORMAL_DRIVE, "heavy", "drive"),
        ("restart", plan.judged_seconds, _RESTART_DRIVE, "heavy", "day"),
        ("quiet", plan.judged_seconds, _QUIET_DRIVE, "none", "drive"),
    ]
    for name, seconds, drive, faults, scenario in wanted:
        out = folder / f"{name}.pcapng"
        # A trace gets its name only when it is whole.
        if not out.exists():
            write_trace(vehicle, out, seconds=seconds, drive=drive, faults=faults, scenario=scenario)
    clean = [folder / f"{name}.pcapng" for name, *_ in wanted[: len(plan.clean_drives)]]
    if not clean:
        raise InputError("a plan needs a clean drive")
    return Traffic(
        clean=clean,
        faulty=folder / "faulty.pcapng",
        judged=dict(zip(JUDGED, (folder / "normal.pcapng", folder / "restart.pcapng"), strict=True)),
        quiet=folder / "quiet.pcapng",
        names=NameTable.load(clean[0].with_suffix(".names.csv")),
    )
