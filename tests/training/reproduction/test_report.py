"""The report and the command, on the little plan."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from ecustream.errors import ConfigError
from ecustream.scoring.bundle import Bundle
from tests.training.reproduction.little import little, little_entries
from training.base import open_base
from training.measures.page import page
from training.perturbation import read_pieces
from training.reproduce_command import reproduce_command
from training.reproduction import executor, scales
from training.reproduction.markdown import markdown
from training.reproduction.plan import PredictRun, TableKind
from training.reproduction.records import Failed, Predicted, Record
from training.reproduction.report import report
from training.reproduction.scales import plan_of
from training.reproduction.sensitivity import lines_within


def test_the_lead_says_when_with_what_and_how(records: dict[str, Record]) -> None:
    """Date, seed, machine, versions, traffic and budgets; and which trainings time has ended."""
    lead = report(plan_of("tiny"), full_records(records)).lead
    for wanted in (
        records["start"].date,
        "Seed 0",
        executor.machine(),
        executor.libraries(),
        "2 clean drives of 12 s",
        "may spend 2 GFLOP and 20 s, that of the model of table IV",
    ):
        assert wanted in lead
    assert "Time ended" not in lead
    cut = {
        name: msgspec.structs.replace(record, result=msgspec.structs.replace(record.result, stopped="time"))
        for name, record in full_records(records).items()
        if name in ("start", "row-qwen-small-128")
    }
    lead = report(plan_of("tiny"), full_records(records) | cut).lead
    assert "Time ended 2 of the trainings before they had spent that (row-qwen-small-128, start)" in lead


def full_records(records: dict[str, Record]) -> dict[str, Record]:
    """A record for every run of the tiny plan, made of those of the little one, with figures of their own."""
    plan = plan_of("tiny")
    out = {}
    for number, run in enumerate(plan.runs):
        like = {
            "predict": "bpe-qwen-small-256",
            "objective": "objective-entropy",
            "perturb": "perturb-lines",
            "start": "start",
        }[run.__struct_config__.tag]  # type: ignore[index]
        record = records[like]
        if isinstance(run, PredictRun) and isinstance(record.result, Predicted):
            test = msgspec.structs.replace(
                record.result.test, per_token=0.1 + number / 100, per_line=9 - number / 10
            )
            record = msgspec.structs.replace(
                record, result=msgspec.structs.replace(record.result, test=test, parameters=1000 + number)
            )
        out[run.name] = msgspec.structs.replace(record, run=run.name)
    return out


def test_the_report_puts_the_paper_beside_every_row(records: dict[str, Record]) -> None:
    """All tables and figures, wall time and FLOPs of each run, as HTML and as Markdown."""
    plan = plan_of("tiny")
    made = report(plan, full_records(records))
    headings = [section.heading for section in made.sections]
    for wanted in ("Table I:", "Table II:", "Table III:", "Table IV:", "Figure 6:", "Figure 7:"):
        assert any(heading.startswith(wanted) for heading in headings), wanted
    models = made.sections[0].parts[0]
    shown = {row[0]: list(row[1:5]) for row in models.rows}  # type: ignore[union-attr]
    assert shown["Mamba"][0] == "95.63 %, 1.42".replace(" ", "\N{NO-BREAK SPACE}")
    assert [row[6] for row in models.rows] == [1000, 1001, 1002]  # type: ignore[union-attr]
    tokenizers = made.sections[1]
    assert "row 0.28, group 0.85, bpe 1.96" in tokenizers.text
    # Made up so that what is best by token is worst by line.
    assert (
        "has the lowest perplexity a token (1.11), but Qwen, large the fewest nats" in made.sections[0].text
    )
    costs = made.sections[-1].parts[0]
    assert [row[0] for row in costs.rows] == [run.name for run in plan.runs]  # type: ignore[union-attr]
    html = page(*made)
    text, pictures = markdown(*made)
    for part in (html, text):
        for name in ("Qwen, small", "0.81", "nats a line", plan.runs[0].name):
            assert name in part
    assert html.count("<svg") == len(pictures) == text.count("![](figure-")
    assert all(svg.startswith("<svg") for svg in pictures.values())


def test_markdown_tables_have_as_many_cells_as_columns(records: dict[str, Record]) -> None:
    """In every line of every table."""
    text, _ = markdown(*report(plan_of("tiny"), full_records(records)))
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) >= 7
    for rows in tables:
        assert len({row.replace("\\|", "").count("|") for row in rows}) == 1


def test_a_report_needs_every_run(records: dict[str, Record]) -> None:
    """Nothing is left out silently."""
    with pytest.raises(KeyError):
        report(plan_of("tiny"), records)


def test_the_command_writes_both_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--resume` reads what is there; pictures of the Markdown lie beside it."""
    from typer.testing import CliRunner

    from training.__main__ import app

    plan = msgspec.structs.replace(
        little(), runs=tuple(run for run in little().runs if isinstance(run, PredictRun)), entries=()
    )
    tables: tuple[TableKind, ...] = ("models", "tokenizers", "tokenizers, same lines", "prompts")
    entries = tuple(
        msgspec.structs.replace(little().entries[0], table=table, run=plan.runs[0].name, read=None)
        for table in tables
    )
    plan = msgspec.structs.replace(plan, entries=entries)
    monkeypatch.setattr(scales, "plan_of", lambda scale, seed: plan)
    command = ["reproduce", "--scale", "tiny", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    html = (tmp_path / "out" / "report.html").read_text()
    assert html.startswith("<!doctype html>")
    assert "http://" not in html.replace("http://www.w3.org/", "")
    assert (tmp_path / "out" / "report.md").read_text().startswith("# The paper's experiments again")
    assert CliRunner().invoke(app, command).exit_code != 0
    assert CliRunner().invoke(app, [*command, "--resume"]).exit_code == 0


def test_an_interrupted_command_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And ends as a shell expects."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(executor, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reproduce_command(tmp_path, "tiny")
    assert f"interrupted; what is done is in {tmp_path}: --resume goes on with it" in capsys.readouterr().err


def test_a_command_with_failed_runs_writes_its_report_and_fails(
    records: dict[str, Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one sentence."""
    failed = msgspec.structs.replace(records["start"], result=Failed(reason="diverged"))
    monkeypatch.setattr(scales, "plan_of", lambda scale, seed: little_entries())
    monkeypatch.setattr(executor, "execute", lambda *_, **__: records | {"start": failed})
    with pytest.raises(ConfigError, match=r"1 of 5 runs failed \(start\); --resume tries them again"):
        reproduce_command(tmp_path, "tiny")
    assert "start: diverged" in (tmp_path / "report.md").read_text()


def test_a_line_is_within_the_top_if_all_its_tokens_are(records: dict[str, Record], folder: Path) -> None:
    """As the scorer sees it: the most probable token is that which it expected; all tokens are within all."""
    base = open_base(folder / "start")
    lines = read_pieces(base, [folder / "traffic" / "quiet.pcapng"])[0][:80]
    scorer = Bundle(base.files).new_scorer()
    block = scorer.score([(scorer.open_stream(), lines)])[0]
    encoded = base.tokenizer.fresh().encode(lines)
    right = np.ones(len(lines), np.bool_)
    for token, line, field in zip(encoded.ids[1:], encoded.line_of[1:], encoded.fields[1:], strict=True):
        right[line] &= block.expected[line, field] == token
    assert lines_within(base, lines, 1).tolist() == right.tolist()
    assert lines_within(base, lines, base.tokenizer.vocabulary_size).all()
    some = lines_within(base, lines, 20)
    assert right.sum() < some.sum() < len(lines)
