"""Runs a trace offline and reads its event log back; shared by the end-to-end tests."""

from pathlib import Path

import msgspec

from ecustream.config import Config, load_config
from ecustream.events import Event
from ecustream.run.summary import RunSummary
from ecustream.service import Run
from training.metrics import Span

OFFLINE = {"publish.enabled": False}


def run_offline(
    trace: Path, bundle: Path, events: Path, settings: Config | None = None
) -> tuple[RunSummary, list[Event]]:
    """The summary and the events of a run without sockets, with defaults unless `settings` is given."""
    summary = Run(settings or load_config(None, OFFLINE), trace, bundle, events=str(events)).execute()
    return summary, [msgspec.json.decode(line, type=Event) for line in events.read_bytes().splitlines()]


def spans(events: list[Event]) -> list[Span]:
    """The episodes of anomaly and silence, as metrics take them."""
    told = {event.id: event.decided_ns for event in events if event.phase == "open"}
    return [
        Span(event.start_ns, event.end_ns or 0, told[event.id])
        for event in events
        if event.phase == "close" and event.kind in ("anomaly", "silence")
    ]
