"""A publisher and its readers, each a process of its own, that time every event: for benches and tests."""

import multiprocessing
import resource
import signal
import time
from array import array
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from ecustream import Subscriber
from ecustream.client.items import Lost, Stale, Synced
from ecustream.events import Event, EventPdu, EventScore
from ecustream.publish.journal import Journal
from ecustream.publish.messages import Status
from ecustream.publish.socket import Publisher

__all__ = ["Outcome", "ReaderReport", "Transport", "Trial"]

RUN = "bench"
STATUS_PERIOD_S = 1.0
READY_PERIOD_S = 0.05
READY_TIMEOUT_S = 60.0

Transport = Literal["tcp", "ipc"]


class ReaderReport(NamedTuple):
    """What a reader found: `read` events that followed one another, `extra` ones that did not.

    `lost` events were named as lost. `latencies_ns` are those of the events, in the order of reading.
    """

    read: int
    extra: int
    lost: int
    latencies_ns: "array[int]"


class Outcome(NamedTuple):
    """What became of a trial: the `seconds` of publishing, and what the publisher counted from its begin on.

    `peak_bytes` is the most memory that its process held at any time.
    """

    seconds: float
    requests: int
    queue_full: int
    peak_bytes: int
    readers: list[ReaderReport]


class Trial:
    """A publisher and its readers, ready to begin; the processes end with the trial.

    Args:
        folder: for ipc sockets.
        transport: what the readers connect by.
        readers: how many.
        events: how many will be published.
        journal: folder of the publisher's journal; None for none.

    Raises:
        TimeoutError: a reader did not get ready.
    """

    def __init__(
        self, folder: Path, transport: Transport, readers: int, events: int, journal: Path | None = None
    ) -> None:
        self._events = events
        # Forked from a process without threads and with the imports done: fifty of them start at once.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["ecustream.cli", __name__])
        self._processes: list[Any] = []
        self._readers: list[Any] = []
        try:
            tcp = "tcp://127.0.0.1:*"
            urls = (tcp, tcp) if transport == "tcp" else (f"ipc://{folder}/pub", f"ipc://{folder}/reply")
            self._publisher = self._start(_serve, *urls, journal)
            urls = self._publisher.recv()
            self._readers = [self._start(_read, urls, events) for _ in range(readers)]
            for reader in self._readers:
                if not reader.poll(READY_TIMEOUT_S):
                    raise TimeoutError("a reader did not get ready")
                reader.recv()
        except BaseException:
            self.close()
            raise
        self.publisher_pid, *self.reader_pids = [process.pid for process in self._processes]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, events_per_s: float) -> None:
        """Has the publisher begin and returns at once."""
        self._publisher.send((self._events, events_per_s))

    def end(self, timeout_s: float) -> Outcome:
        """Waits until all events are published and all readers have dealt with them.

        Raises:
            TimeoutError: they were not in time, counted from the last event on.
            EOFError: a process has died.
        """
        seconds: float = self._publisher.recv()
        reports: dict[Any, ReaderReport] = {}
        deadline_s = time.monotonic() + timeout_s
        while missing := [reader for reader in self._readers if reader not in reports]:
            ready: list[Any] = wait(missing, max(0.0, deadline_s - time.monotonic()))
            if not ready:
                raise TimeoutError(f"{len(missing)} readers do not have all events")
            reports |= {reader: reader.recv() for reader in ready}
        self._publisher.send(None)
        requests, queue_full, peak_bytes = self._publisher.recv()
        in_order = [reports[reader] for reader in self._readers]
        return Outcome(seconds, requests, queue_full, peak_bytes, in_order)

    def close(self) -> None:
        """Kills what still runs."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()

    def _start(self, target: Any, *arguments: object) -> Any:
        near, far = self._context.Pipe()
        process = self._context.Process(target=target, args=(far, *arguments), daemon=True)
        process.start()
        far.close()
        self._processes.append(process)
        return near


def _serve(control: "Connection[Any, Any]", pub_url: str, reply_url: str, folder: Path | None) -> None:
    """The publisher's process: says its addresses, publishes as told, in the end says what it counted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    journal = None if folder is None else Journal(folder, max_bytes=1_000_000_000, max_age_s=86_400)
    with Publisher(pub_url, reply_url, _status(0), journal=journal) as publisher:
        control.send((publisher.pub_url, publisher.reply_url))
        while not control.poll(READY_PERIOD_S):
            publisher.publish_status(_status(0))
        events, events_per_s = control.recv()
        before = publisher.counts()
        control.send(_publish(publisher, events, events_per_s))
        while not control.poll(STATUS_PERIOD_S):
            publisher.publish_status(_status(events))
        control.recv()
        after = publisher.counts()
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        control.send((after.requests - before.requests, after.queue_full - before.queue_full, peak_bytes))
        # Readers have all they want; what their queues still hold is for nobody.
        publisher.close(linger_ms=0)


def _publish(publisher: Publisher, events: int, events_per_s: float) -> float:
    """Publishes events at an even rate, with absolute times, and returns the seconds that took."""
    begin_s = time.monotonic()
    next_status_s = begin_s
    for seq in range(1, events + 1):
        now_s = time.monotonic()
        if now_s < (due_s := begin_s + seq / events_per_s):
            time.sleep(due_s - now_s)
        if now_s >= next_status_s:
            publisher.publish_status(_status(seq - 1))
            next_status_s += STATUS_PERIOD_S
        event = _event(seq)
        event.decided_ns = time.monotonic_ns()
        publisher.publish(event)
    return time.monotonic() - begin_s


def _read(control: "Connection[Any, Any]", urls: tuple[str, str], events: int) -> None:
    """A reader's process: says when it is connected, and what it has found when it is through."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    read = extra = lost = 0
    latencies_ns = array("q")
    synced = ready = False
    with Subscriber(*urls) as subscriber:
        for item in subscriber:
            now_ns = time.monotonic_ns()
            match item:
                case Event():
                    latencies_ns.append(now_ns - item.decided_ns)
                    is_next = item.seq == read + lost + 1
                    read, extra = read + is_next, extra + (not is_next)
                case Lost(_, first_seq, last_seq):
                    lost += (last_seq or events) - first_seq + 1
                case Synced():
                    synced = True
                case Status() if synced and not ready:
                    ready = True
                    control.send(None)
                case Stale() if control.poll():  # nothing is ever sent to it: the other end is gone
                    return
            if subscriber.position == (RUN, events):
                break
    control.send(ReaderReport(read, extra, lost, latencies_ns))


def _event(seq: int) -> Event:
    """An event of real size; its moment is put into `decided_ns`, by the clock that processes share."""
    return Event(
        run=RUN,
        seq=seq,
        kind_seq=seq,
        id=f"{RUN}-{(seq + 1) // 2}",
        kind="anomaly",
        phase="open" if seq % 2 else "close",
        source="eth1",
        start_ns=1_700_000_095_772_264_000,
        end_ns=None if seq % 2 else 1_700_000_096_000_000_000,
        decided_ns=0,
        published_ns=1_700_000_096_000_000_000,
        frames=(seq, seq + 13),
        lines=4,
        pdus=[
            EventPdu(name="ESC_03", lines=3, fields=["deltaTime"]),
            EventPdu(name="ESP_21", lines=1, fields=[]),
        ],
        evidence="late",
        score=EventScore(perplexity=4.1, surprisal=11.2, evidence=9.3, threshold=7.9),
        reason="ESC_03 came 31.5 ms after its last occurrence, expected 10.0 ms (9.6 to 10.5)",
        wireshark=f"pdu_transport.id == 0x03e80064 && frame.number >= {seq} && frame.number <= {seq + 13}",
    )


def _status(seq: int) -> Status:
    return Status(
        run=RUN,
        source="eth1",
        state="running",
        seq=seq,
        lines_per_s=2500.0,
        lag_s=0.004,
        wall_ns=time.time_ns(),
        ledger={},
    )
