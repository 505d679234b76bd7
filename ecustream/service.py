"""Wires the stages of a run together; owns its threads, its clock and its end."""

import hashlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ecustream.config import Config
from ecustream.detect.detector import Detector, Thresholds
from ecustream.detect.perplexity import PerplexityFilter
from ecustream.errors import BundleError, InputError
from ecustream.events import Event
from ecustream.gaps import split_at_gaps
from ecustream.knowledge import activity_state, calibration_of, names_for
from ecustream.ledger import Ledger
from ecustream.publish.curve import Curve
from ecustream.publish.eventlog import EventLog
from ecustream.publish.journal import Journal
from ecustream.publish.messages import JournalStatus, State, Status, score_batches
from ecustream.publish.pdus import PduRows, PduTable
from ecustream.publish.scorelog import ScoreLog
from ecustream.publish.sinks import EventSinks
from ecustream.publish.socket import Publisher
from ecustream.replay import Pacer
from ecustream.ring import Ring, RingCancelled
from ecustream.scores import ScoreBlock
from ecustream.scoring.manifest import BundleFiles, read_bundle
from ecustream.source import TraceLines
from ecustream.summary import RunSummary

if TYPE_CHECKING:
    from ecustream.scoring.bundle import Bundle

__all__ = ["Run"]

_KNOWN_AFTER_LINES = 200
_LEAST_KNOWN_SHARE = 0.1
_TICK_S = 0.02
_STATUS_S = 1.0


class Run:
    """One run over one trace: reads in a thread of its own, scores and detects in the caller's.

    Everything that can be refused is refused by the constructor, before the first event. `execute` then
    runs to the end of the trace. `stop` may be called from a signal handler: reading ends, what is in
    the ring is still scored, and the ledger balances; called a second time it drops what is in the ring.

    Args:
        config: the configuration in force.
        trace: the capture or CSV file.
        model: the bundle's folder.
        events: where to write events as JSON lines, `-` for standard output.
        score_log: where to write the score of every line.
        on_progress: called now and then with the bytes read and a note.

    Raises:
        EcustreamError: trace, bundle, configuration or an output cannot be used.
    """

    def __init__(
        self,
        config: Config,
        trace: Path,
        model: Path,
        *,
        events: str | None = None,
        score_log: Path | None = None,
        on_progress: Callable[[int, str], None] = lambda done, note: None,
    ) -> None:
        self._config = config
        self._trace = trace
        self._model = model
        self._on_progress = on_progress
        self._files = read_bundle(model)
        self.calibration = calibration_of(self._files)
        self.ledger = Ledger()
        self._lines = TraceLines(
            trace,
            self.ledger,
            names=names_for(config, self._files.info),
            key=config.input.key,
            layouts=config.input.layouts,
            source=config.input.source,
            state=activity_state(config, self._files.info),
        )
        self.total_bytes = self._lines.total_bytes
        if config.input.key != self._files.info.key:
            raise BundleError(
                f"{model}: was trained with input.key = {self._files.info.key!r}, "
                f"this run has {config.input.key!r}"
            )
        cycles = {pdu.key: pdu.cycle_ns for pdu in self.calibration.pdus}
        self.summary = RunSummary(_run_id(config, trace, self._files), self.ledger, cycles)
        self._ring = Ring(config.ring.lines, "block", self.ledger)
        self._pacer = None if config.scoring.speed == "max" else Pacer(config.scoring.speed)
        self._stops = 0
        self._seq = 0
        self._kind_seq: Counter[str] = Counter()
        self._last_ns = 0
        self._reached_ns = 0
        self._known_checked = False
        self._status_due = 0.0
        self._status_lines = 0
        self._pdu_rows = PduRows(self.calibration.pdus)
        self._score_log = None if score_log is None else ScoreLog(score_log)
        log = None if events is None else EventLog(events)
        self._publisher: Publisher | None = None
        self._publisher = self._open_publisher()
        self._sinks = EventSinks(self.ledger, publisher=self._publisher, log=log)

    @property
    def pub_url(self) -> str | None:
        """Address of the event socket, with its real port; None where there is none."""
        return None if self._publisher is None else self._publisher.pub_url

    def stop(self) -> None:
        """End the run early: once to finish what was read, twice to drop it."""
        self._stops += 1
        self.summary.interrupted = True
        if self._pacer is not None:
            self._pacer.cancel()
        if self._stops > 1:
            # Not here: a signal handler must not take the ring's lock, which its own thread may hold.
            threading.Thread(target=self._ring.cancel, daemon=True).start()

    def execute(self) -> RunSummary:
        """Run to the end of the trace.

        Raises:
            EcustreamError: the bundle is damaged or of another vehicle, or the trace is unreadable.
        """
        started = time.monotonic()
        reader = threading.Thread(target=self._read, name="capture", daemon=True)
        reader.start()
        try:
            self._score(started)
        except BaseException:
            self._ring.cancel()
            raise
        finally:
            reader.join()
            self._lines.close()
            self.summary.problems += self._lines.damage
            if self._score_log is not None:
                self._score_log.close()
                problem = self._score_log.problem()
                self.summary.problems += [problem] if problem else []
            self._publish_status("done")
            self._sinks.close()
            self.summary.problems += self._sinks.problems()
            if self._publisher is not None and self._publisher.scores_dropped:
                self.ledger.note("scores_not_published", self._publisher.scores_dropped)
            self._settle_journal()
            self.summary.seconds = time.monotonic() - started
            self.summary.traffic_s = (self._last_ns - self.summary.first_ns) / 1e9
        if not self.ledger.entered["lines"] and not self.summary.interrupted:
            frames = ", ".join(f"{n} {end}" for end, n in self.ledger.ends["frames"].items())
            why = "; ".join([frames or "no frame", *self.summary.problems])
            raise InputError(f"{self._trace}: there is no PDU in this trace: {why}")
        return self.summary

    # The capture thread.

    def _read(self) -> None:
        try:
            for batch in self._lines:
                for part in [batch] if self._pacer is None else self._pacer.paced(batch):
                    self._ring.put(part)
                if self._stops:
                    break
        except RingCancelled:
            pass
        except BaseException as error:  # the thread's root: the scoring thread raises it again
            self._ring.fail(error)
            return
        self._ring.close()

    # The scoring thread.

    def _score(self, started: float) -> None:
        # Importing torch takes seconds; the capture thread fills the ring meanwhile.
        import torch

        from ecustream.scoring.bundle import Bundle

        torch.set_num_threads(self._config.scoring.threads or _automatic_threads())
        bundle = Bundle(self._files)
        chunk = self._config.scoring.chunk_lines
        scorer = bundle.new_scorer()
        stream = scorer.open_stream()
        detector = self._detector(bundle)
        whole = self._pacer is None
        while not self._ring.closed_and_empty:
            passed_ns = 0 if self._pacer is None else self._pacer.passed_ns
            lines, overwritten = self._ring.take(chunk, whole=whole, timeout_s=None if whole else _TICK_S)
            if not lines:
                if passed_ns > self._last_ns > 0:
                    self._reached_ns = passed_ns
                    self._emit(detector.advance(passed_ns))
                if self._last_ns:
                    self._tell()
                continue
            if overwritten:
                stream.reset()
                why = f"{overwritten} lines were overwritten before they could be scored"
                self._emit(detector.gap(lines[0].time_ns, lines[0].stream.source, why))
            for part, gap in split_at_gaps(lines, self._lines.losses, self._last_ns):
                if gap:
                    stream.reset()
                    self._emit(detector.gap(part[0].time_ns, part[0].stream.source, gap))
                    self._last_ns = part[0].time_ns
                self._take_scores(scorer.score([(stream, part)])[0], detector, started)
        self._emit(detector.finish())
        self._check_known(at_end=True)

    def _take_scores(self, block: ScoreBlock, detector: Detector | PerplexityFilter, started: float) -> None:
        lines = block.lines
        summary = self.summary
        if not summary.first_ns:
            summary.first_ns = lines[0].time_ns
            summary.first_score_s = time.monotonic() - started
        self._last_ns = max(self._last_ns, lines[-1].time_ns)
        self._reached_ns = self._last_ns
        self.ledger.end("lines", "scored", len(lines))
        summary.count(lines)
        self._check_known(at_end=False)
        if self._score_log is not None:
            self._score_log.write(block)
        if self._publisher is not None:
            for batch in score_batches(summary.run, block):
                self._publisher.publish_scores(batch)
        self._emit(detector.step(block.rows()))
        self._tell()
        scored = self.ledger.ends["lines"]["scored"]
        self._on_progress(self._lines.bytes_read, f"{scored:,} lines, {summary.episodes.total()} episodes")

    def _check_known(self, *, at_end: bool) -> None:
        scored = self.ledger.ends["lines"]["scored"]
        if self._known_checked or not scored or not (at_end or scored >= _KNOWN_AFTER_LINES):
            return
        known_share = 1 - self.summary.unknown_lines / scored
        if known_share < _LEAST_KNOWN_SHARE:
            raise BundleError(
                f"{self._model}: was made for another vehicle: it knows {100 * known_share:.0f} % of the "
                f"first {scored} lines{self._other_buses()}; fit one with `python -m training fit`, "
                "or check --names and --source"
            )
        self._known_checked = True

    def _other_buses(self) -> str:
        known = {pdu.source for pdu in self.calibration.pdus}
        seen = {pdu.source for pdu in self.summary.pdus.values()}
        if seen <= known:
            return ""
        return f", and the bus {', '.join(sorted(known))} where the trace has {', '.join(sorted(seen))}"

    def _detector(self, bundle: "Bundle") -> Detector | PerplexityFilter:
        detect = self._config.detect
        join_ns = round(detect.join_ms * 1e6)
        if detect.filter == "perplexity":
            return PerplexityFilter(detect.perplexity_threshold, detect.perplexity_lines, join_ns)
        thresholds = Thresholds.for_budget(self.calibration, detect.false_alarms_per_hour)
        return Detector(self.calibration, thresholds, join_ns, bundle.expectation)

    # Outputs.

    def _open_publisher(self) -> Publisher | None:
        publish = self._config.publish
        if not publish.enabled:
            return None
        curve = None
        if publish.curve_secret is not None and publish.curve_clients is not None:
            curve = Curve(publish.curve_secret, publish.curve_clients)
        journal = None
        if publish.journal is not None:
            journal = Journal(
                publish.journal,
                max_bytes=publish.journal_max_bytes,
                max_age_s=publish.journal_max_age_h * 3600,
            )
        return Publisher(
            publish.pub,
            publish.reply,
            self._status("starting"),
            history_events=publish.history_events,
            allow_remote=publish.allow_remote,
            curve=curve,
            group=publish.group,
            msgpack=publish.format == "msgpack",
            journal=journal,
        )

    def _settle_journal(self) -> None:
        journal = self._journal_status()
        if journal is not None and journal.missing:
            self.ledger.note("events_not_journalled", journal.missing)
            counts = f"{journal.missing} of {self._seq} events are not in the journal"
            self.summary.problems.append(f"{self._config.publish.journal}: {counts}")

    def _journal_status(self) -> JournalStatus | None:
        return None if self._publisher is None else self._publisher.journal_status()

    def _emit(self, events: list[Event]) -> None:
        for event in events:
            self._seq += 1
            self._kind_seq[event.kind] += 1
            event.run, event.seq, event.kind_seq = self.summary.run, self._seq, self._kind_seq[event.kind]
            event.id = f"{event.run}-{event.id}"
            self.ledger.enter("events")
            self._sinks.emit(event)
            self.summary.take(event)

    def _tell(self) -> None:
        """Publishes a status once a second; where this is not called, the publisher repeats the last one."""
        if time.monotonic() >= self._status_due:
            self._publish_status("running")

    def _publish_status(self, state: State) -> None:
        if self._publisher is not None:
            self._publisher.publish_status(self._status(state))
            rows = self._pdu_rows.rows(self.summary.pdus)
            self._publisher.publish_pdus(PduTable(run=self.summary.run, last_ns=self._reached_ns, pdus=rows))

    def _status(self, state: State) -> Status:
        now = time.monotonic()
        scored = self.ledger.ends["lines"]["scored"]
        elapsed = now - (self._status_due - _STATUS_S) if self._status_due else 0.0
        rate = (scored - self._status_lines) / elapsed if elapsed > 0 else 0.0
        self._status_due, self._status_lines = now + _STATUS_S, scored
        sources = {pdu.source for pdu in self.summary.pdus.values()}
        passed_ns = 0 if self._pacer is None else self._pacer.passed_ns
        journal = self._journal_status()
        problem = journal.problem if journal else None
        return Status(
            run=self.summary.run,
            source=",".join(sorted(sources)) or "none",
            state="degraded" if problem and state == "running" else state,
            seq=self._seq,
            lines_per_s=round(rate, 1),
            lag_s=round(max(0, passed_ns - self._reached_ns) / 1e9, 3),
            wall_ns=time.time_ns(),
            ledger=self.ledger.as_dict(),
            reason=problem,
            journal=journal,
            publish=None if self._publisher is None else self._publisher.counts(),
        )


def _automatic_threads() -> int:
    """One core is left for capture and detection; more than four gain nothing on small models."""
    return max(1, min(4, len(os.sched_getaffinity(0)) - 1))


def _run_id(config: Config, trace: Path, files: BundleFiles) -> str:
    """Derived from trace, bundle and configuration, so that an offline run can be repeated to the byte."""
    digest = hashlib.sha256(msgspec.json.encode(config))
    digest.update(msgspec.json.encode(files.info.sha256))
    if trace.is_file():
        digest.update(str(trace.stat().st_size).encode())
        with trace.open("rb") as file:
            digest.update(file.read(1 << 20))
    else:
        digest.update(str(time.time_ns()).encode())
    return digest.hexdigest()[:16]
