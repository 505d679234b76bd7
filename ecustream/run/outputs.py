"""Where the results of a run go: event log, sockets, score logs."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ecustream.config import PublishConfig
from ecustream.events import Event
from ecustream.ledger import Ledger
from ecustream.publish.curve import Curve
from ecustream.publish.eventlog import EventLog
from ecustream.publish.journal import Journal
from ecustream.publish.messages import JournalStatus, Status, score_batches
from ecustream.publish.pdus import PduTable
from ecustream.publish.scorelog import ScoreLog
from ecustream.publish.sinks import EventSinks
from ecustream.publish.socket import Publisher
from ecustream.scores import ScoreBlock

__all__ = ["Outputs", "score_logs"]


class Outputs:
    """Numbers the events of a run and hands everything to those who want it.

    Args:
        config: of the sockets.
        first: the status until there is another one; its `run` is that of all events.
        ledger: where events end.
        events: where to write events as JSON lines, `-` for standard output. A file is replaced, but
            where `wall_ns` is given: a service that was restarted goes on in it.
        logs: a score log for each trace, or none at all.
        wall_ns: the wall clock, to say when an event was published; None says nothing of it, so that
            a run can be repeated to the byte.
        beat: is told now and then that the sockets are served.

    Attributes:
        publisher: None where there are no sockets.
        seq: number of the last event.

    Raises:
        EcustreamError: something cannot be opened.
    """

    def __init__(
        self,
        config: PublishConfig,
        first: Status,
        ledger: Ledger,
        events: str | None,
        logs: Sequence[ScoreLog],
        wall_ns: Callable[[], int] | None = None,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.seq = 0
        self._wall_ns = wall_ns
        self._config = config
        self._ledger = ledger
        self._run = first.run
        self._kind_seq: Counter[str] = Counter()
        self._logs = logs
        log = None if events is None else EventLog(events, append=wall_ns is not None)
        self.publisher = _open_publisher(config, first, beat) if config.enabled else None
        self._sinks = EventSinks(ledger, publisher=self.publisher, log=log)

    def emit(self, events: Iterable[Event]) -> None:
        """Number these events and hand them on."""
        for event in events:
            self.seq += 1
            self._kind_seq[event.kind] += 1
            event.run, event.seq, event.kind_seq = self._run, self.seq, self._kind_seq[event.kind]
            if self._wall_ns is not None:
                event.published_ns = self._wall_ns()
            self._ledger.enter("events")
            self._sinks.emit(event)

    def scores(self, index: int, trace: str | None, block: ScoreBlock) -> None:
        """Hand on the scores of lines of the trace with this index."""
        if self._logs:
            self._logs[index].write(block)
        if self.publisher is not None:
            for batch in score_batches(self._run, block):
                if trace is not None:
                    batch.trace = trace
                self.publisher.publish_scores(batch)

    def status(self, status: Status, pdus: PduTable) -> None:
        """Hand on how the run is doing."""
        if self.publisher is not None:
            self.publisher.publish_status(status)
            self.publisher.publish_pdus(pdus)

    def journal_status(self) -> JournalStatus | None:
        """How the journal is doing; None where there is none."""
        return None if self.publisher is None else self.publisher.journal_status()

    @property
    def trouble(self) -> str | None:
        """What cannot be written or sent at present; None where all is well."""
        journal = self.journal_status()
        said = [self._sinks.trouble, journal.problem if journal else None]
        said += [log.trouble for log in self._logs]
        return "; ".join(sentence for sentence in said if sentence) or None

    def close(self) -> list[str]:
        """Write and send what is still on its way; a sentence for each thing that went wrong."""
        problems = []
        for log in self._logs:
            log.close()
            problem = log.problem()
            problems += [problem] if problem else []
        self._sinks.close()
        problems += self._sinks.problems()
        if self.publisher is not None and self.publisher.scores_dropped:
            self._ledger.note("scores_not_published", self.publisher.scores_dropped)
        journal = self.journal_status()
        if journal is not None and journal.missing:
            self._ledger.note("events_not_journalled", journal.missing)
            counts = f"{journal.missing} of {self.seq} events are not in the journal"
            problems.append(f"{self._config.journal}: {counts}")
        return problems


def score_logs(path: Path | None, traces: Sequence[str]) -> list[ScoreLog]:
    """Opens a score log for each trace: `path`, or with several `scores.TRACE.csv` for `scores.csv`.

    Raises:
        OutputError: one cannot be opened.
    """
    if path is None:
        return []
    if len(traces) == 1:
        return [ScoreLog(path)]
    stem, dot, suffixes = path.name.partition(".")
    return [ScoreLog(path.with_name(f"{stem}.{trace.replace('/', '_')}{dot}{suffixes}")) for trace in traces]


def _open_publisher(config: PublishConfig, first: Status, beat: Callable[[], None]) -> Publisher:
    curve = None
    if config.curve_secret is not None and config.curve_clients is not None:
        curve = Curve(config.curve_secret, config.curve_clients)
    journal = None
    if config.journal is not None:
        journal = Journal(
            config.journal, max_bytes=config.journal_max_bytes, max_age_s=config.journal_max_age_h * 3600
        )
    return Publisher(
        config.pub,
        config.reply,
        first,
        history_events=config.history_events,
        allow_remote=config.allow_remote,
        curve=curve,
        group=config.group,
        msgpack=config.format == "msgpack",
        journal=journal,
        beat=beat,
    )
