"""A plan run in little: what is kept, what is gone on with, and the report that comes of it."""

from pathlib import Path

import msgspec
import pytest

from ecustream.errors import ConfigError, InputError
from training.measures.page import page
from training.reproduction import executor
from training.reproduction.executor import execute
from training.reproduction.markdown import markdown
from training.reproduction.plan import Plan, PredictRun, Run, StartRun, TableKind
from training.reproduction.records import Objective, Perturbed, Predicted, Record, Started
from training.reproduction.report import report
from training.reproduction.scales import plan_of


def little() -> Plan:
    """One run of each kind; tables of what they need."""
    plan = plan_of("tiny")
    names = ("bpe-qwen-small-256", "row-qwen-small-128", "start", "objective-entropy", "perturb-lines")
    entries = tuple(entry for entry in plan.entries if entry.run in names)
    return msgspec.structs.replace(
        plan,
        runs=tuple(
            msgspec.structs.replace(run, budget_flops=4 * 10**8) if isinstance(run, StartRun) else run
            for run in plan.runs
            if run.name in names
        ),
        entries=entries,
        budget_flops=4 * 10**8,
        traffic=msgspec.structs.replace(plan.traffic, judged_seconds=18.0),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the little plan was run."""
    return tmp_path_factory.mktemp("reproduction")


@pytest.fixture(scope="module")
def records(folder: Path) -> dict[str, Record]:
    """What it gave."""
    return execute(little(), folder)


def test_every_run_leaves_a_record(records: dict[str, Record], folder: Path) -> None:
    """With its cost, within the budget, and the result of its kind."""
    plan = little()
    kinds = [Predicted, Predicted, Started, Objective, Perturbed]
    assert sorted(records) == sorted(run.name for run in plan.runs)
    for run in plan.runs:
        record = records[run.name]
        assert (folder / "runs" / f"{run.name}.json").is_file()
        assert record.seconds >= record.training_seconds >= 0
        assert record.machine
    assert {type(record.result) for record in records.values()} == set(kinds)
    for name in ("bpe-qwen-small-256", "row-qwen-small-128", "start"):
        assert 0.8 * plan.budget_flops < records[name].flops <= plan.budget_flops


def test_what_is_measured_is_plausible(records: dict[str, Record]) -> None:
    """One token a line of `row`; other contexts are read by the same model; counts add up."""
    row = records["row-qwen-small-128"].result
    bpe = records["bpe-qwen-small-256"].result
    assert isinstance(row, Predicted)
    assert isinstance(bpe, Predicted)
    assert row.test.tokens_per_line == 1
    assert 30 < bpe.test.tokens_per_line < 60
    assert sorted(bpe.read) == [64, 128]
    assert bpe.unknown_lines_share == 0 < row.unknown_lines_share
    entropy = records["objective-entropy"].result
    assert isinstance(entropy, Objective)
    assert entropy.steps == 3
    for one in entropy.detected:
        assert one.true_lines.labelled > 0
        assert one.true_lines.found <= one.true_lines.labelled
        assert one.true_lines.told == one.annotated_lines.told
    assert len(records["objective-entropy"].pictures) == 2


def test_it_goes_on_where_it_ended(
    records: dict[str, Record], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is run twice; without being asked to go on, nothing is touched."""
    ran: list[str] = []
    really = executor._run

    def watched(stage: object, run: Run) -> object:
        ran.append(run.name)
        return really(stage, run)  # type: ignore[arg-type]

    monkeypatch.setattr(executor, "_run", watched)
    assert execute(little(), folder, resume=True) == records
    assert ran == []
    with pytest.raises(ConfigError, match="--resume goes on"):
        execute(little(), folder)
    (folder / "runs" / "row-qwen-small-128.json").unlink()
    again = execute(little(), folder, resume=True)
    assert ran == ["row-qwen-small-128"]
    twice = [of["row-qwen-small-128"].result for of in (records, again)]
    assert isinstance(twice[0], Predicted)
    assert isinstance(twice[1], Predicted)
    assert twice[1].test.per_line == pytest.approx(twice[0].test.per_line, rel=1e-4)


def test_a_new_bundle_is_judged_anew(
    records: dict[str, Record], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What starts from the bundle is of no use with another one."""
    ran: list[str] = []

    def stub(stage: object, run: Run) -> object:
        ran.append(run.name)
        record = records[run.name]
        return record.result, record.flops, record.training_seconds, record.pictures

    monkeypatch.setattr(executor, "_run", stub)
    before = {path: path.read_bytes() for path in (folder / "runs").glob("*.json")}
    try:
        (folder / "runs" / "start.json").unlink()
        execute(little(), folder, resume=True)
        assert ran == ["start", "objective-entropy", "perturb-lines"]
        ran.clear()
        execute(msgspec.structs.replace(little(), seed=1), folder, resume=True)
        assert len(ran) == len(little().runs)
    finally:
        for path, data in before.items():
            path.write_bytes(data)


def test_a_damaged_record_is_named(records: dict[str, Record], folder: Path) -> None:
    """And what to do about it."""
    path = folder / "runs" / "start.json"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:20])
        with pytest.raises(InputError, match=r"start\.json: cannot be read, remove it"):
            execute(little(), folder, resume=True)
    finally:
        path.write_bytes(whole)


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
    from training.reproduction import scales

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
