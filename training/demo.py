"""Rebuilds what ships: the demo trace with its labels and names, and the bundle for it."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import ecustream
from ecustream.decode.names import NameTable
from training.fit import FitSettings, fit
from training.recipe import Recipe
from training.simulate import draw_vehicle, write_trace
from training.traces import Traces

__all__ = ["build_demo"]

_PRESET = "bench"
_CLEAN_SECONDS, _CLEAN_DRIVES = 400.0, (101, 102)
_DEMO_SECONDS, _DEMO_DRIVE = 60.0, 17
_STEPS = 400


def build_demo(folder: Path, say: Callable[[str], None] = lambda sentence: None) -> None:
    """Write the demo trace into `folder` and its bundle into the package.

    The bundle is fitted to clean traffic of the same simulated vehicle, on other drives than the trace.
    Steps are counted, not timed, so that the same machine gives the same weights.

    Args:
        folder: has `faults.toml`, what goes wrong in the trace; gets `demo.pcapng.gz` and what belongs to it.
        say: told what is done, sentence by sentence.

    Raises:
        ConfigError: there are no such faults.
        OutputError: a file cannot be written.
    """
    vehicle = draw_vehicle(_PRESET)
    summary = write_trace(
        vehicle,
        folder / "demo.pcapng.gz",
        seconds=_DEMO_SECONDS,
        drive=_DEMO_DRIVE,
        faults=str(folder / "faults.toml"),
    )
    say(f"{summary.files.out}: {summary.pdus:,} PDUs, {summary.faults} faults")
    bundle = Path(ecustream.__file__).parent / "bundles" / "demo"
    with tempfile.TemporaryDirectory() as clean_folder:
        clean = [Path(clean_folder) / f"clean-{drive}.pcapng" for drive in _CLEAN_DRIVES]
        for path, drive in zip(clean, _CLEAN_DRIVES, strict=True):
            write_trace(vehicle, path, seconds=_CLEAN_SECONDS, drive=drive)
        settings = FitSettings(recipe=Recipe(max_steps=_STEPS, max_seconds=None))
        fit(Traces(clean, NameTable.load(summary.files.names)), bundle, settings, say)
