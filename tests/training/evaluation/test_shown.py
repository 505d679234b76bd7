"""The command as a user types it: terminal, JSON, page, and sentences."""

import io
import json
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

from ecustream.cli import run_app
from training.__main__ import app
from training.evaluation.document import document
from training.evaluation.study import Study
from training.evaluation.tables import budget, kind_rows, per_hour, rates, render_kinds, show


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit code of `python -m training evaluate`."""
    monkeypatch.setattr(sys, "argv", ["training", "evaluate", *map(str, arguments)])
    try:
        run_app(app, "training")
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_command(
    faulty_trace: Path,
    bundle_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A table on stdout, JSON and a page in files; without clean traffic there are no baselines."""
    files = tmp_path / "report.json", tmp_path / "report.html"
    options = (
        "--model",
        bundle_path,
        "--json",
        files[0],
        "--html",
        files[1],
        "--kinds",
        "--against",
        bundle_path,
    )
    assert run(monkeypatch, faulty_trace, *options) == 0
    out = capsys.readouterr().out
    report = json.loads(files[0].read_text())
    assert report["rows"][0]["name"] == "ecustream"
    for words in (
        "against true labels",
        "against the annotator's labels",
        "found by kind",
        "only new",
        "faulty",
    ):
        assert words in out
    assert "note: the baselines are left out: there is no clean traffic" in out
    assert "<svg" in files[1].read_text()


def test_json_on_standard_output(
    unseen_clean: Path,
    bundle_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing else is there."""
    assert run(monkeypatch, unseen_clean, "--model", bundle_path, "--baselines", "none", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["traces"] == ["unseen"]


def test_report_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told before anything is read."""
    nowhere = tmp_path / "nowhere" / "x.html"
    assert run(monkeypatch, "missing.pcapng", "--model", "missing", "--html", nowhere) == 2
    fine = tmp_path / "fine.json"
    assert run(monkeypatch, "missing.pcapng", "--model", "missing", "--json", fine) == 2
    assert not fine.exists()
    assert "cannot write the report" in capsys.readouterr().err.replace("\n", " ")


def test_report_in_place_of_a_trace(
    copied: Path, bundle_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A slip of the hand must not cost a recording."""
    before = copied.read_bytes()
    assert run(monkeypatch, copied, "--model", bundle_path, "--json", copied) == 2
    assert "is one of the files to be read" in capsys.readouterr().err.replace("\n", " ")
    assert copied.read_bytes() == before


def test_page_is_whole(study: Study) -> None:
    """Every table and picture is on it, and it loads nothing."""
    text = document(study)
    assert not re.search(r"""(src|href)=["'](?!#)|url\((?!#)|@import|<script""", text)
    assert text.count("<svg") == 1 + len(study.cases)
    for words in ("Against true labels", "Recall against false alarms", "CUSUM", "Notes"):
        assert words in text
    for name in study.report["traces"]:
        assert name in text


def test_terminal_marks_what_was_learned_from(study: Study) -> None:
    """A star at the bundle's trace, and at the cell of a classifier's."""
    console = Console(width=250, record=True, file=io.StringIO())
    show(console, study.report)
    text = console.export_text()
    assert "clean *" in text
    line = next(
        line for line in text.splitlines() if line.startswith("│ logistic regression") and "*" in line
    )
    assert line.rstrip("│ ").endswith("*")
    assert "faulty *" not in text


def test_kinds_add_up(study: Study) -> None:
    """Found of all kinds together is found of all, severities and controls apart."""
    assert render_kinds(study.report).row_count > 3
    for row in study.report["rows"]:
        kinds = row["faulty"]["kinds"]
        whole = [share for kind, share in kinds.items() if not kind[-1].isdigit()]
        assert sum(share["found"] for share in whole) == row["faulty"]["found"]
        assert sum(share["of"] for share in whole) == row["faulty"]["labels"]


def test_kinds_leave_out_what_was_learned_from(study: Study) -> None:
    """The classifier's own trace is in no cell of it, as it is in no total."""
    rows = {row["name"]: row for row in study.report["rows"]}
    learned, unseen = rows["logistic regression"], rows["CUSUM"]
    cells = kind_rows(study.report, [learned, unseen])
    assert {row[1] for row in cells} == {"-"}
    assert all("/" in row[2] for row in cells)


def test_rates_of_different_traffic_are_marked() -> None:
    """Each row says on which traffic it is; those without any have no mark."""

    def row(on: str, hours: float, per_hour: float | None) -> dict[str, object]:
        return {
            "false_alarms_on": on,
            "false_alarms": {"hours": hours, "per_hour": per_hour, "low": 0.0, "high": 9.0},
        }

    texts, sentence = rates([row("A", 2.0, 1.0), row("B", 0.5, 2.0), row("A", 2.0, 3.0), row("B", 0.0, None)])
    assert texts == ["1 [0, 9]", "2 [0, 9] †", "3 [0, 9]", "-"]
    assert sentence == "false alarms: on 2.00 h of A; † on 30.0 min of B, with the exact 95 % interval"


def test_budget_in_words() -> None:
    """One alarm is one."""
    assert budget(1.0) == "1 false alarm an hour"
    assert budget(0.5) == "0.5 false alarms an hour"


def test_rate_in_words() -> None:
    """Two digits, whole numbers above a hundred, a dash where nothing was observed."""
    assert per_hour({"per_hour": 0.0, "low": 0.0, "high": 3.689}) == "0 [0, 3.7]"
    assert per_hour({"per_hour": 1234.5, "low": 12.34, "high": 2000.0}) == "1,234 [12, 2,000]"
    assert per_hour({"per_hour": None, "low": 0.0, "high": None}) == "-"
