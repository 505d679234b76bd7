"""What ships: the demo trace and the bundle for it."""

from pathlib import Path

import msgspec
import pytest

from ecustream.cli import DEMO_BUNDLE
from ecustream.config import load_config
from ecustream.events import Event
from ecustream.service import Run
from training.labels import read_labels
from training.metrics import Span, match

DEMO = Path(__file__).resolve().parents[1] / "demo"


def test_sizes() -> None:
    """The demo trace is under 1 MB, all shipped weights together under 10 MB."""
    assert (DEMO / "demo.pcapng.gz").stat().st_size < 1_000_000
    weights = sum(file.stat().st_size for file in DEMO_BUNDLE.parent.glob("*/*"))
    assert 0 < weights < 10_000_000


def test_every_fault_of_the_demo_is_found_and_nothing_else(tmp_path: Path) -> None:
    """With defaults the shipped bundle finds each labelled fault of the demo trace, and no false one."""
    log = tmp_path / "events.jsonl"
    settings = load_config(None, {"publish.enabled": False})
    summary = Run(settings, DEMO / "demo.pcapng.gz", DEMO_BUNDLE, events=str(log)).execute()
    assert summary.ledger.balanced()
    events = [msgspec.json.decode(line, type=Event) for line in log.read_bytes().splitlines()]
    spans = [Span(e.start_ns, e.end_ns or 0, e.decided_ns) for e in events if e.phase == "close"]
    result = match(spans, read_labels(DEMO / "demo.labels.jsonl"))
    assert all(result.found)
    assert result.false_episodes == 0


@pytest.mark.parametrize("phase", ["open", "close"])
def test_reasons_say_what_was_expected(phase: str, tmp_path: Path) -> None:
    """Every event of the demo says in words what came and what was expected."""
    log = tmp_path / "events.jsonl"
    settings = load_config(None, {"publish.enabled": False})
    Run(settings, DEMO / "demo.pcapng.gz", DEMO_BUNDLE, events=str(log)).execute()
    events = [msgspec.json.decode(line, type=Event) for line in log.read_bytes().splitlines()]
    told = [event for event in events if event.phase == phase]
    assert told
    assert all("expected" in event.reason for event in told)
