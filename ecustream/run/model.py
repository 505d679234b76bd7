"""A bundle that is ready to score, with what every lane needs of it."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ecustream.config import Config
from ecustream.detect.detector import Detector, Thresholds
from ecustream.detect.perplexity import PerplexityFilter
from ecustream.knowledge import calibration_of
from ecustream.scoring.manifest import BundleFiles
from ecustream.stages import StageClock
from ecustream.traffic import Line

if TYPE_CHECKING:
    from ecustream.scoring.scorer import ScoredStream

__all__ = ["Model"]

_MEASURED_LINES = 256


class Model:
    """The scorer of a bundle, loaded and warm, and makers of a lane's stream and detector.

    Importing torch and loading take seconds. It may be made in another thread than the one that scores.

    Args:
        files: the bundle's.
        config: the configuration in force.
        streams: how many are scored together.
        clock: accounts for the time of scoring.
        device: instead of `scoring.device`.

    Attributes:
        files: as given.
        calibration: of the bundle.
        device: where it is computed, such as `cpu`.
        served: how the network is served, in words.
        scorer: scores the lines of streams.

    Raises:
        BundleError: the bundle is damaged.
        ConfigError: the model does not run on the device.
    """

    def __init__(
        self, files: BundleFiles, config: Config, streams: int, clock: StageClock, device: str | None = None
    ) -> None:
        import torch

        from ecustream.scoring.bundle import Bundle
        from ecustream.scoring.machine import find_device

        scoring = config.scoring
        place = find_device(device or scoring.device)
        self.files = files
        self.device = str(place)
        self.calibration = calibration_of(files)
        self._detect = config.detect
        bundle = Bundle(files, max_streams=streams, device=place, dtype=getattr(torch, scoring.dtype))
        bundle.warm_up()
        self.served = bundle.served
        self._expectation = bundle.expectation
        self.scorer = bundle.new_scorer(clock=clock)

    def open_stream(self) -> "ScoredStream":
        """A new stream, of which nothing is known yet."""
        return self.scorer.open_stream()

    def new_detector(self, since: str = "in this run") -> Detector | PerplexityFilter:
        """A detector that has seen nothing yet; `since` says in words since when it watches."""
        detect = self._detect
        join_ns = round(detect.join_ms * 1e6)
        if detect.filter == "perplexity":
            return PerplexityFilter(detect.perplexity_threshold, detect.perplexity_lines, join_ns)
        thresholds = Thresholds.for_budget(self.calibration, detect.false_alarms_per_hour)
        return Detector(self.calibration, thresholds, join_ns, self._expectation, since=since)

    def lines_per_s(self, lines: Sequence[Line]) -> float:
        """How many of these lines it scores in a second of wall time; infinite where there are none."""
        stream = self.open_stream()
        started_ns = time.perf_counter_ns()
        for first in range(0, len(lines), _MEASURED_LINES):
            self.scorer.score([(stream, lines[first : first + _MEASURED_LINES])])
        elapsed_ns = time.perf_counter_ns() - started_ns
        return len(lines) / (elapsed_ns / 1e9) if lines else float("inf")
