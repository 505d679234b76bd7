"""Wires the stages of a run together; owns its threads, its clock and its end."""

import gc
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ecustream.config import Config
from ecustream.errors import BundleError, ConfigError, EcustreamError
from ecustream.knowledge import calibration_of
from ecustream.ledger import Ledger
from ecustream.publish.messages import State
from ecustream.run.batching import Batcher
from ecustream.run.identity import run_id
from ecustream.run.intake import Intake
from ecustream.run.judging import Judging
from ecustream.run.live_lanes import open_live_lanes
from ecustream.run.load import Load
from ecustream.run.model import Model
from ecustream.run.outcome import Outcome, sum_of_ledgers
from ecustream.run.outputs import Outputs, score_logs
from ecustream.run.reporter import Reporter
from ecustream.run.succession import Succession, refuse_other_lines
from ecustream.run.summary import RunSummary
from ecustream.run.trace_lanes import open_lanes, refuse_if_empty
from ecustream.run.tracks import Track
from ecustream.scoring.manifest import BundleFiles, read_bundle
from ecustream.stages import StageClock
from ecustream.supervisor import Supervisor

if TYPE_CHECKING:
    from ecustream.logs import Level

__all__ = ["Run"]

_TICK_NS = 20_000_000
_LONG_TICK_NS = 1_000_000_000
_RECENT_LINES = 8192
"""What a model that takes over has read before: about the receptive field of the largest ones."""
_SCORING, _PUBLISHING = "scoring", "publishing"


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
        say: is told at once of what happens to a service, with the level to log it at; without it all but
            `info` is among the problems at the end.
        supervisor: is told how the run is, and that its stages go on.
        longest_drain_s: how long what was read may be scored after `stop`; then it is dropped. A service
            manager kills what does not end: by the unit, after 90 s.

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
        say: Callable[["Level", str], None] | None = None,
        supervisor: Supervisor | None = None,
        longest_drain_s: float = 60.0,
    ) -> None:
        self._config = config
        self._traces = [trace] if isinstance(trace, Path) else list(trace)
        self._live = bool(interfaces)
        # Whether lines come at times of their own, so that something can be due although none comes.
        self._timed = self._live or config.scoring.speed != "max"
        self._model = model
        self._on_progress = on_progress
        self._clock = clock or StageClock(enabled=False)
        self._supervisor = supervisor or Supervisor()
        self._files = read_bundle(model)
        calibration = calibration_of(self._files)
        changed = threading.Condition()
        if self._live and config.scoring.speed != "max":
            raise ConfigError("scoring.speed is for traces; what comes on an interface comes in real time")
        problems: list[str] = []
        self._say = say or (lambda level, sentence: None if level == "info" else problems.append(sentence))
        if self._live:
            self._lanes = open_live_lanes(
                config,
                self._files.info,
                interfaces,
                changed,
                self._clock,
                lambda sentence: self._say("warning", sentence),
                self._supervisor.beat,
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
        self._cycles = {pdu.key: pdu.cycle_ns for pdu in calibration.pdus}
        names = [lane.name for lane in self._lanes]
        run = secrets.token_hex(8) if self._live else run_id(config, self._traces, names, self._files)
        self._summary = Outcome(run, Ledger(), self._cycles, problems=problems, interfaces=interfaces)
        self._tracks: list[Track] = []
        self._succession: Succession | None = None
        self._reload = False
        self._stops = 0
        self._longest_drain_s = longest_drain_s
        self._draining_since_s: float | None = None
        buses = [config.input.source or name for name in interfaces]
        self._reporter = Reporter(self._summary.run, calibration.pdus, buses)
        first = self._reporter.status("starting", [], self._all_ledgers(), None)
        logs = score_logs(score_log, names)
        wall_ns = time.time_ns if self._live else None
        self._outputs = Outputs(
            config.publish,
            first,
            self._events_ledger,
            events,
            logs,
            wall_ns,
            lambda: self._supervisor.beat(_PUBLISHING),
        )

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
        # What was read is dropped later: a signal handler must not take the rings' lock, which its own
        # thread may hold.
        self._stops += 1
        # A live capture has no other end: only one that is cut short is interrupted.
        self._summary.interrupted = not self._live or self._stops > 1
        for lane in self._lanes:
            lane.stop()

    @property
    def reloads(self) -> bool:
        """Whether the run goes on at the pace of the traffic, and so can take another bundle meanwhile."""
        return self._timed

    def reload(self) -> None:
        """Put the bundle in force that lies at `model` now, where `reloads`; a signal handler may call it."""
        self._reload = True

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
        with self._clock.stage("start-up"):
            from ecustream.scoring.machine import prepare_machine

            # One core is left for capture and detection.
            prepare_machine(self._config.scoring.threads, spare=1)
            model = self._load_model(self._files)
            # A bundle that takes over must not find the weights of the first one in memory for good.
            self._files = self._files._replace(data={})
        self._summary.served = model.served
        self._open_tracks(model)
        self._succession = Succession(model, self._load_model, self._say)
        judging = Judging(
            self._tracks,
            self._intake,
            self._succession,
            self._outputs,
            self._clock,
            # A trace can be scored again; that half of it was not would mislead.
            without_model=self._timed,
            beat=lambda: self._supervisor.beat(_SCORING),
        )
        if self._timed:
            # A full collection over torch's objects takes up to a second, in which nothing is captured.
            gc.collect()
            gc.freeze()
        for lane in self._lanes:
            lane.go()
        self._supervisor.ready(self._stages())
        if self._live:
            self._say("info", self._begun())
        judging.begin(time.time_ns())
        try:
            self._score_all(judging, self._succession, started)
        except EcustreamError:
            judging.finish()
            raise
        judging.finish()
        self._summary.problems += judging.foreign()

    def _score_all(self, judging: Judging, succession: Succession, started: float) -> None:
        # Something may be due although nothing comes.
        timeout_ns = _TICK_NS if self._timed else _LONG_TICK_NS
        while not self._intake.done:
            self._supervisor.beat(_SCORING)
            taken = judging.step(timeout_ns)
            if self._timed:
                self._weigh(sum(part.skipped for part in taken))
            if not self._summary.first_score_s and any(part.lines for part in taken):
                self._summary.first_score_s = time.monotonic() - started
            if self._summary.first_score_s or self._live:
                self._tell()
            if self._stops:
                self._draw_to_end()
            elif self._timed:
                self._succeed(judging, succession)

    def _load_model(self, files: BundleFiles | None = None, device: str | None = None) -> Model:
        """The model of these files; without them, of the bundle that lies on the disk now."""
        if files is None:
            files = read_bundle(self._model)
            refuse_other_lines(files, self._files.info, names_given=self._config.input.names is not None)
        return Model(files, self._config, len(self._lanes), self._clock, device)

    def _open_tracks(self, model: Model) -> None:
        run, several = self._summary.run, len(self._lanes) > 1
        for number, lane in enumerate(self._lanes, 1):
            summary = RunSummary(run, lane.ledger, self._cycles)
            self._summary.traces[lane.name] = summary
            self._tracks.append(
                Track(
                    lane,
                    model.open_stream(),
                    model.new_detector(),
                    model.calibration,
                    self._model,
                    ids=f"{run}-{number}-" if several else f"{run}-",
                    trace=lane.name if several else None,
                    summary=summary,
                    recent_lines=_RECENT_LINES if self._timed else 0,
                )
            )

    def _begun(self) -> str:
        """What is captured, and where its events are, for the log."""
        names = ", ".join(
            lane.name if lane.bus == lane.name else f"{lane.name} as {lane.bus}" for lane in self._lanes
        )
        places = [f"events on {self.pub_url}" if self.pub_url else "no event socket"]
        if self._config.publish.enabled and self._config.publish.journal is not None:
            places.append(f"journal {self._config.publish.journal}")
        if self._supervisor.metrics_port is not None:
            places.append(f"metrics on 127.0.0.1:{self._supervisor.metrics_port}")
        return f"capturing on {names} with {self._model}; {', '.join(places)}"

    def _stages(self) -> list[str]:
        """The stages that must go on; where capture waits for room, it may stand still."""
        stages = [_SCORING] if self._outputs.publisher is None else [_SCORING, _PUBLISHING]
        if self._live and self._config.ring.when_full != "wait":
            stages += [f"capture {lane.name}" for lane in self._lanes]
        return stages

    def _succeed(self, judging: Judging, succession: Succession) -> None:
        """Do what is due of reloads, and tell of it."""
        if self._reload:
            self._reload = False
            self._supervisor.reloading()
            succession.reload()
        reloading = succession.reloading
        if judging.succeed() and succession.model is not None:
            model = succession.model
            self._cycles = {pdu.key: pdu.cycle_ns for pdu in model.calibration.pdus}
            self._summary.take_over(model.served, self._cycles)
            self._reporter.know(model.calibration.pdus)
        if reloading and not succession.reloading:
            self._supervisor.reloaded()

    def _draw_to_end(self) -> None:
        now_s = time.monotonic()
        if self._draining_since_s is None:
            self._draining_since_s = now_s
            self._supervisor.stopping()
            for lane in self._lanes:
                # What was captured may wait for room from now on.
                self._supervisor.end(f"capture {lane.name}")
        if self._stops == 1 and now_s - self._draining_since_s > self._longest_drain_s:
            self.stop()
            self._say(
                "warning",
                f"not all that waited could be scored within {self._longest_drain_s:g} s of the stop; "
                "see lines unscored{cancelled}",
            )
        if self._stops > 1:
            self._cancel()

    # The status.

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
        if self._stops and state == "running":
            state = "draining"
        trouble = None if self._succession is None else self._succession.trouble
        with self._clock.stage("publishing"):
            status = self._reporter.status(state, self._tracks, ledger, self._outputs, overload, trouble)
            self._outputs.status(status, self._reporter.pdus(self._tracks))
        self._supervisor.status(status)
