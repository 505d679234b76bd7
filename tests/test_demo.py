"""What ships: the demo trace and the bundle for it."""

from pathlib import Path

import pytest

from ecustream.events import Event
from ecustream.knowledge import DEMO_BUNDLE
from ecustream.run.summary import RunSummary
from tests.running import run_offline, spans
from training.labels import read_context, read_labels
from training.metrics import match, met

DEMO = Path(__file__).resolve().parents[1] / "demo"


def test_sizes() -> None:
    """The demo trace is under 1 MB, all shipped weights together under 10 MB."""
    assert (DEMO / "demo.pcapng.gz").stat().st_size < 1_000_000
    weights = sum(file.stat().st_size for file in DEMO_BUNDLE.parent.glob("*/*"))
    assert 0 < weights < 10_000_000


@pytest.fixture(scope="module")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSummary, list[Event]]:
    return run_offline(DEMO / "demo.pcapng.gz", DEMO_BUNDLE, tmp_path_factory.mktemp("demo") / "events.jsonl")


def test_every_fault_of_the_demo_is_found_and_nothing_else(demo_run: tuple[RunSummary, list[Event]]) -> None:
    """With defaults the shipped bundle finds each labelled fault of the demo trace, and no false one."""
    summary, events = demo_run
    result = match(spans(events), read_labels(DEMO / "demo.labels.jsonl"))
    assert summary.ledger.balanced()
    assert all(result.found)
    assert result.false_episodes == 0


def test_reasons_say_what_was_expected(demo_run: tuple[RunSummary, list[Event]]) -> None:
    """Every event of the demo says in words what came and what was expected, or why nothing was judged."""
    _, events = demo_run
    said = {"anomaly": "expected", "silence": "expected", "unknown_pdu": "never seen", "capture_gap": "lost"}
    assert {event.kind for event in events} == set(said)
    assert all(said[event.kind] in event.reason for event in events)


def test_controls_of_the_demo_are_not_reported(demo_run: tuple[RunSummary, list[Event]]) -> None:
    """A frozen payload opens no episode, and frames that the logger lost open a capture_gap alone."""
    _, events = demo_run
    controls = [row for row in read_context(DEMO / "demo.context.jsonl") if row.kind == "control"]
    assert {control.name for control in controls} == {"payload_freeze", "capture_loss"}
    assert not any(met(spans(events), controls))
