"""Loads a bundle as a run does, and measures how many lines a second it scores."""

import time
from dataclasses import dataclass
from itertools import cycle, islice

from ecustream.config import Config
from ecustream.detect.thresholds import Thresholds
from ecustream.errors import BundleError
from ecustream.knowledge import calibration_of
from ecustream.scoring.manifest import BundleFiles

__all__ = ["ModelFacts", "measure_model"]

_LINES = 8192
_FIRST_S = 0.3
_MEASURED_S = 1.5


@dataclass(frozen=True)
class ModelFacts:
    """A bundle at work.

    Attributes:
        served: how the model is served, in words.
        threads: CPU threads of a pass.
        start_s: seconds until it was loaded and warm.
        lines_per_s: what it scores in passes of `scoring.chunk_lines`.
        own_lines_per_s: what its own PDUs' cycles make in sum.
    """

    served: str
    threads: int
    start_s: float
    lines_per_s: float
    own_lines_per_s: float


def measure_model(config: Config, files: BundleFiles) -> ModelFacts:
    """Load, warm up, and score made-up lines of the bundle's own PDUs for one and a half seconds.

    Raises:
        EcustreamError: the bundle cannot be used, or not with this configuration.
    """
    calibration = calibration_of(files)
    if config.input.key != files.info.key:
        raise BundleError(
            f"{files.path}: was trained with input.key = {files.info.key!r}, "
            f"the configuration has {config.input.key!r}"
        )
    Thresholds.for_budget(calibration, config.detect.false_alarms_per_hour)
    began_s = time.perf_counter()
    import torch

    from ecustream.bench.traffic import simulated_lines
    from ecustream.scoring.bundle import Bundle
    from ecustream.scoring.machine import find_device, prepare_machine

    threads = prepare_machine(config.scoring.threads, spare=1)
    bundle = Bundle(
        files, device=find_device(config.scoring.device), dtype=getattr(torch, config.scoring.dtype)
    )
    bundle.warm_up()
    start_s = time.perf_counter() - began_s
    cycles = {pdu.key: pdu.cycle_ns for pdu in files.info.pdus}
    lines = cycle(simulated_lines(cycles, _LINES, seed=0))
    scorer = bundle.new_scorer()
    stream = scorer.open_stream()

    def rate(seconds: float) -> float:
        scored, began_s = 0, time.perf_counter()
        while (took_s := time.perf_counter() - began_s) < seconds:
            scorer.score([(stream, list(islice(lines, config.scoring.chunk_lines)))])
            scored += config.scoring.chunk_lines
        return scored / took_s

    rate(_FIRST_S)  # the stream fills its window
    return ModelFacts(
        served=bundle.served,
        threads=threads,
        start_s=start_s,
        lines_per_s=rate(_MEASURED_S),
        own_lines_per_s=sum(1e9 / period for period in cycles.values() if period),
    )
