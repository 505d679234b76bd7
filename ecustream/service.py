"""Wires the stages of a run together; owns its threads, its clock and its end."""

import hashlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ecustream.config import Config
from ecustream.detect.detector import Detector, Thresholds
from ecustream.detect.perplexity import PerplexityFilter
from ecustream.errors import BundleError, ConfigError, EcustreamError
from ecustream.knowledge import calibration_of
from ecustream.ledger import Ledger
from ecustream.publish.messages import State
from ecustream.run.batching import Batcher
from ecustream.run.intake import Intake, Taken
from ecustream.run.live_lanes import open_live_lanes
from ecustream.run.load import Load
from ecustream.run.outcome import Outcome, sum_of_ledgers
from ecustream.run.outputs import Outputs, score_logs
from ecustream.run.reporter import Reporter
from ecustream.run.summary import RunSummary
from ecustream.run.trace_lanes import open_lanes, refuse_if_empty
from ecustream.run.tracks import Track
from ecustream.scores import ScoreBlock
from ecustream.scoring.manifest import BundleFiles, read_bundle
from ecustream.stages import StageClock

if TYPE_CHECKING:
    from ecustream.scoring.bundle import Bundle
    from ecustream.scoring.scorer import Scorer

__all__ = ["Run"]

_TICK_NS = 20_000_000


class Run:
    """One run over traces or interfaces: each is read in a thread, all are scored together in the caller's.

    Everything that can be refused is refused by the constructor, before the first event. `execute` then
    runs to the end of the traces, or until `stop` on interfaces. `stop` may be called from a
    signal handler: reading ends, what is in the rings is still scored, and the ledger balances; called a
    second time it drops what is there.

    Args:
        config: the configuration in force.
        trace: the capture or CSV file, or several; none where there are `interfaces`.
        model: the bundle's folder.
        interfaces: network interfaces to capture on instead.
        events: where to write events as JSON lines, `-` for standard output.
        score_log: where to write the score of every line; see `score_logs` for several traces.
        on_progress: called now and then with the bytes read and a note.
        clock: accounts for the time of the stages.
        say: is told at once of a capture's outages; without it they are among the problems at the end.

    Raises:
        EcustreamError: trace, bundle, configuration or an output cannot be used.
    """

    def __init__(
        self,
        config: Config,
        trace: Path | Sequence[Path],
        model: Path,
        *,
        interfaces: Sequence[str] = (),
        events: str | None = None,
        score_log: Path | None = None,
        on_progress: Callable[[int, str], None] = lambda done, note: None,
        clock: StageClock | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._config = config
        self._traces = [trace] if isinstance(trace, Path) else list(trace)
        self._live = bool(interfaces)
        # Whether lines come at times of their own, so that something can be due although none comes.
        self._timed = self._live or config.scoring.speed != "max"
        self._model = model
        self._on_progress = on_progress
        self._clock = clock or StageClock(enabled=False)
        self._files = read_bundle(model)
        self._calibration = calibration_of(self._files)
        changed = threading.Condition()
        if self._live and config.scoring.speed != "max":
            raise ConfigError("scoring.speed is for traces; what comes on an interface comes in real time")
        problems: list[str] = []
        if self._live:
            self._lanes = open_live_lanes(
                config, self._files.info, interfaces, changed, self._clock, say or problems.append
            )
        else:
            self._lanes = open_lanes(config, self._files.info, self._traces, changed, self._clock)
        if config.input.key != self._files.info.key:
            raise BundleError(
                f"{model}: was trained with input.key = {self._files.info.key!r}, "
                f"this run has {config.input.key!r}"
            )
        wait_ns = round(config.scoring.max_wait_ms * 1e6)
        self._batcher = Batcher(config.scoring.chunk_lines, wait_ns if self._timed else None)
        self._intake = Intake([lane.ring for lane in self._lanes], self._batcher, changed)
        self._load = Load()
        self._events_ledger = Ledger()
        self._cycles = {pdu.key: pdu.cycle_ns for pdu in self._calibration.pdus}
        names = [lane.name for lane in self._lanes]
        run = secrets.token_hex(8) if self._live else _run_id(config, self._traces, names, self._files)
        self._summary = Outcome(run, Ledger(), self._cycles, problems=problems, interfaces=interfaces)
        self._tracks: list[Track] = []
        self._stops = 0
        buses = [config.input.source or name for name in interfaces]
        self._reporter = Reporter(self._summary.run, self._calibration.pdus, buses)
        first = self._reporter.status("starting", [], self._all_ledgers(), None)
        logs = score_logs(score_log, names)
        wall_ns = time.time_ns if self._live else None
        self._outputs = Outputs(config.publish, first, self._events_ledger, events, logs, wall_ns)

    @property
    def pub_url(self) -> str | None:
        """Address of the event socket, with its real port; None where there is none."""
        publisher = self._outputs.publisher
        return None if publisher is None else publisher.pub_url

    @property
    def total_bytes(self) -> int | None:
        """Size of all traces; None where one is a pipe."""
        sizes = [lane.source.total_bytes for lane in self._lanes]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def stop(self) -> None:
        """End the run early: once to finish what was read, twice to drop it."""
        self._stops += 1
        # A live capture has no other end: only one that is cut short is interrupted.
        self._summary.interrupted = not self._live or self._stops > 1
        for lane in self._lanes:
            lane.stop()
        if self._stops > 1:
            # Not here: a signal handler must not take the rings' lock, which its own thread may hold.
            threading.Thread(target=self._cancel, daemon=True).start()

    def execute(self) -> Outcome:
        """Run to the end of the traces.

        Raises:
            EcustreamError: the bundle is damaged or of another vehicle, or no trace has a line.
        """
        started = time.monotonic()
        summary = self._summary
        for lane in self._lanes:
            lane.start()
        try:
            self._score(started)
        except BaseException:
            self._cancel()
            raise
        finally:
            for lane in self._lanes:
                lane.close()
                summary.problems += lane.source.damage
            self._publish_status("done")
            summary.problems += self._outputs.close()
            summary.ledger = self._all_ledgers()
            summary.gather()
            summary.overloaded_s = self._load.overloaded_ns / 1e9
            summary.seconds = time.monotonic() - started
        if not summary.interrupted and not self._live:
            summary.problems += refuse_if_empty(self._lanes, self._traces)
        return summary

    def _cancel(self) -> None:
        for lane in self._lanes:
            lane.cancel()

    def _all_ledgers(self) -> Ledger:
        return sum_of_ledgers([self._events_ledger, *(lane.ledger for lane in self._lanes)])

    # The scoring thread.

    def _score(self, started: float) -> None:
        scorer = self._load_scorer()
        for lane in self._lanes:
            lane.go()
        try:
            self._score_all(scorer, started)
        except EcustreamError:
            self._finish()
            raise
        self._finish()
        self._refuse_if_unknown()

    def _score_all(self, scorer: "Scorer", started: float) -> None:
        timeout_ns = _TICK_NS if self._timed else None
        while not self._intake.done:
            # Before the lines are taken: every line up to then is among them, or was taken before.
            reached = [lane.reached for lane in self._lanes]
            with self._clock.stage("wait for lines"):
                taken = self._intake.take(timeout_ns)
            if timeout_ns is not None:
                self._weigh(sum(part.skipped for part in taken))
            for track, part, at in zip(self._tracks, taken, reached, strict=True):
                if part.empty:
                    breaks, passed_ns = track.lane.passed(at)
                    for broken in breaks:
                        self._outputs.emit(track.interrupt(broken))
                    self._outputs.emit(track.finish() if part.ended else track.idle(passed_ns))
            self._pass(scorer, taken)
            if not self._summary.first_score_s and any(part.lines for part in taken):
                self._summary.first_score_s = time.monotonic() - started
            if self._summary.first_score_s or self._live:
                self._tell()

    def _finish(self) -> None:
        for track in self._tracks:
            self._outputs.emit(track.finish())

    def _refuse_if_unknown(self) -> None:
        """A problem for each trace of another vehicle that is too short to be refused while it is read.

        Raises:
            BundleError: no other trace is of the bundle's vehicle.
        """
        foreign = [track.problem for track in self._tracks if track.problem is not None]
        if foreign and not any(track.known for track in self._tracks):
            raise BundleError("; ".join(foreign))
        self._summary.problems += foreign

    def _pass(self, scorer: "Scorer", taken: Sequence[Taken]) -> None:
        """Score what was taken; a lane with a gap in its lines takes several turns."""
        turns = [
            (index, track, deque(track.lane.pieces(part.lines, part.skipped)))
            for index, (track, part) in enumerate(zip(self._tracks, taken, strict=True))
            if part.lines
        ]
        while turns:
            batch = [(index, track, *pieces.popleft()) for index, track, pieces in turns]
            for _, track, lines, gap in batch:
                if gap:
                    self._outputs.emit(track.gap(lines[0], gap))
            blocks = scorer.score([(track.stream, lines) for _, track, lines, _ in batch])
            for (index, track, _, _), block in zip(batch, blocks, strict=True):
                self._take_scores(index, track, block)
            turns = [turn for turn in turns if turn[2]]

    def _take_scores(self, index: int, track: Track, block: ScoreBlock) -> None:
        with self._clock.stage("detection", len(block.lines)):
            events = track.take(block)
        with self._clock.stage("publishing", len(block.lines)):
            self._outputs.scores(index, track.trace, block)
            self._outputs.emit(events)

    def _load_scorer(self) -> "Scorer":
        with self._clock.stage("start-up"):
            # Importing torch takes a second or two; the lanes have their first lines by then.
            import torch

            from ecustream.scoring.bundle import Bundle
            from ecustream.scoring.machine import find_device, prepare_machine

            scoring = self._config.scoring
            # One core is left for capture and detection.
            prepare_machine(scoring.threads, spare=1)
            bundle = Bundle(
                self._files,
                max_streams=len(self._lanes),
                device=find_device(scoring.device),
                dtype=getattr(torch, scoring.dtype),
            )
            bundle.warm_up()
            self._summary.served = bundle.served
            scorer = bundle.new_scorer(clock=self._clock)
        self._open_tracks(bundle, scorer)
        return scorer

    def _open_tracks(self, bundle: "Bundle", scorer: "Scorer") -> None:
        run, several = self._summary.run, len(self._lanes) > 1
        for number, lane in enumerate(self._lanes, 1):
            summary = RunSummary(run, lane.ledger, self._cycles)
            self._summary.traces[lane.name] = summary
            self._tracks.append(
                Track(
                    lane,
                    scorer.open_stream(),
                    self._detector(bundle),
                    self._calibration,
                    self._model,
                    ids=f"{run}-{number}-" if several else f"{run}-",
                    trace=lane.name if several else None,
                    summary=summary,
                )
            )

    def _detector(self, bundle: "Bundle") -> Detector | PerplexityFilter:
        detect = self._config.detect
        join_ns = round(detect.join_ms * 1e6)
        if detect.filter == "perplexity":
            return PerplexityFilter(detect.perplexity_threshold, detect.perplexity_lines, join_ns)
        thresholds = Thresholds.for_budget(self._calibration, detect.false_alarms_per_hour)
        return Detector(self._calibration, thresholds, join_ns, bundle.expectation)

    def _weigh(self, skipped: int) -> None:
        """Look at the load of a paced run; a change is told at once."""
        behind_ns = max(self._intake.behind_ns, *(lane.late_ns for lane in self._lanes))
        if self._load.step(time.monotonic_ns(), behind_ns, skipped):
            self._publish_status("running")

    def _tell(self) -> None:
        """Tell of progress, and once a second the status; without that the publisher repeats the last one."""
        if self._reporter.due:
            self._publish_status("running")
        scored = sum(lane.ledger.ends["lines"]["scored"] for lane in self._lanes)
        episodes = sum(track.summary.episodes.total() for track in self._tracks)
        read = sum(lane.source.bytes_read for lane in self._lanes)
        self._on_progress(read, f"{scored:,} lines, {episodes} episodes")

    def _publish_status(self, state: State) -> None:
        ledger = self._all_ledgers()
        overload = None
        if self._load.overloaded:
            skipped = ledger.ended("lines", "overwritten")
            overload = f"more comes than can be scored; {skipped:,} lines were skipped so far"
        with self._clock.stage("publishing"):
            status = self._reporter.status(state, self._tracks, ledger, self._outputs, overload)
            self._outputs.status(status, self._reporter.pdus(self._tracks))


def _run_id(config: Config, traces: Sequence[Path], names: Sequence[str], files: BundleFiles) -> str:
    """Derived from traces, bundle and configuration, so that an offline run can be repeated to the byte."""
    digest = hashlib.sha256(msgspec.json.encode(config))
    digest.update(msgspec.json.encode(files.info.sha256))
    if len(names) > 1:
        # Then they stand in the events.
        digest.update(msgspec.json.encode(names))
    for trace in traces:
        if trace.is_file():
            digest.update(str(trace.stat().st_size).encode())
            with trace.open("rb") as file:
                digest.update(file.read(1 << 20))
        else:
            digest.update(str(time.time_ns()).encode())
    return digest.hexdigest()[:16]
