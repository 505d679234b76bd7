"""Rebuilds what ships: the demo trace with its labels and names, and the bundle for it."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import ecustream
from ecustream.decode.names import NameTable
from training.fit import Traces, fit
from training.pretrain import PretrainConfig
from training.simulate import draw_vehicle, write_trace

__all__ = ["build_demo"]

_PRESET = "bench"
_CLEAN_SECONDS, _CLEAN_SEEDS = 400.0, (101, 102)
_DEMO_SECONDS, _DEMO_SEED = 60.0, 17
_STEPS = 400


def build_demo(trace_folder: Path, say: Callable[[str], None] = lambda sentence: None) -> None:
    """Write the demo trace into `trace_folder` and its bundle into the package.

    The bundle is fitted to clean traffic of the same simulated vehicle, drawn with other seeds than the
    trace. Steps are counted, not timed, so that the same machine gives the same weights.

    Args:
        trace_folder: gets `demo.pcapng.gz`, `demo.labels.jsonl` and `demo.names.csv`.
        say: told what is done, sentence by sentence.

    Raises:
        OutputError: a file cannot be written.
    """
    vehicle = draw_vehicle(_PRESET)
    trace_folder.mkdir(parents=True, exist_ok=True)
    trace = trace_folder / "demo.pcapng.gz"
    summary = write_trace(vehicle, trace, seconds=_DEMO_SECONDS, seed=_DEMO_SEED, faults="light")
    say(f"{trace}: {summary.pdus:,} PDUs, {summary.faults} faults")
    bundle = Path(ecustream.__file__).parent / "bundles" / "demo"
    with tempfile.TemporaryDirectory() as folder:
        clean = [Path(folder) / f"clean-{seed}.pcapng" for seed in _CLEAN_SEEDS]
        for path, seed in zip(clean, _CLEAN_SEEDS, strict=True):
            write_trace(vehicle, path, seconds=_CLEAN_SECONDS, seed=seed)
        config = PretrainConfig(max_steps=_STEPS, max_seconds=float("inf"))
        info = fit(Traces(clean, NameTable.load(summary.names)), bundle, config, say)
    say(f"{bundle.name}: {len(info.pdus)} PDUs, fingerprint {info.fingerprint}")
