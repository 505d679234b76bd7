"""What is read of a run's event log and of its printed ledger."""

from pathlib import Path

import pytest
from rich.console import Console

from ecustream.ledger import Ledger
from ecustream.report import print_summary
from ecustream.run.summary import RunSummary
from tests.reliability.left import printed_ledger, sequence_of


def summary_of(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> str:
    """What a run with that ledger prints."""
    print_summary(RunSummary("run", ledger, {}), Console(width=400))
    return capsys.readouterr().out


def test_printed_ledger_is_that_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    """The books are read as they were kept."""
    ledger = Ledger()
    ledger.enter("frames", 12_345)
    ledger.end("frames", "decoded", 12_000)
    ledger.end("frames", "filtered", 345, reason="not_ip")
    ledger.enter("lines")
    ledger.end("lines", "scored")
    wanted = {book: dict(ends) for book, ends in ledger.as_dict().items()}
    assert printed_ledger(summary_of(ledger, capsys)) == wanted


def test_ledger_that_does_not_balance(capsys: pytest.CaptureFixture[str]) -> None:
    """Something that has not ended is an error, and so is a run that printed nothing."""
    ledger = Ledger()
    ledger.enter("lines", 2)
    ledger.end("lines", "scored")
    with pytest.raises(ValueError, match="there is no ledger that balances"):
        printed_ledger(summary_of(ledger, capsys))
    with pytest.raises(ValueError, match="there is no ledger"):
        printed_ledger("")
    with pytest.raises(ValueError, match="lines: what came in and"):
        printed_ledger("lines   2 = 1 scored\n")


def test_sequence_of_an_event_log(tmp_path: Path) -> None:
    """Numbers that rise, with or without gaps; None for a torn line and for one that comes twice."""
    log = tmp_path / "events.jsonl"
    for text, wanted in {
        '{"seq":1}\n{"seq":4}\n': [1, 4],
        "": [],
        '{"seq":1}\n{"seq":4}': None,
        '{"seq":1}\n{"se': None,
        '{"seq":1}\n{"seq":1}\n': None,
    }.items():
        log.write_text(text)
        assert sequence_of(log) == wanted
    log.write_text('{"seq":1}\n{"se')
    assert sequence_of(log, killed=True) == [1]
    log.write_text('{"seq":1}\n{"se\n{"seq":3}')
    assert sequence_of(log, killed=True) is None
