"""A plan run in little: what is kept, what is gone on with, and the report that comes of it."""

import platform
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ecustream.errors import ConfigError, InputError, OutputError
from ecustream.scoring.bundle import Bundle
from training.base import open_base
from training.measures.page import page
from training.perturbation import read_pieces
from training.reproduce_command import reproduce_command
from training.reproduction import executor, scales
from training.reproduction.executor import execute
from training.reproduction.markdown import markdown
from training.reproduction.plan import Plan, PredictRun, Run, StartRun, TableKind
from training.reproduction.records import Failed, Objective, Perturbed, Predicted, Record, Started
from training.reproduction.report import report
from training.reproduction.scales import plan_of
from training.reproduction.sensitivity import lines_within


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


def test_an_interrupted_new_bundle_leaves_nothing_of_the_old_one(
    records: dict[str, Record], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who resumes after the bundle was made again, but nothing judged with it, judges with it."""
    ran: list[str] = []

    def stub(stage: object, run: Run) -> object:
        ran.append(run.name)
        if run.name == "objective-entropy" and ran.count(run.name) == 1:
            raise KeyboardInterrupt
        record = records[run.name]
        return record.result, record.flops, record.training_seconds, record.pictures

    monkeypatch.setattr(executor, "_run", stub)
    before = {path: path.read_bytes() for path in (folder / "runs").glob("*.json")}
    try:
        (folder / "runs" / "start.json").unlink()
        with pytest.raises(KeyboardInterrupt):
            execute(little(), folder, resume=True)
        execute(little(), folder, resume=True)
        assert ran == ["start", "objective-entropy", "objective-entropy", "perturb-lines"]
    finally:
        for path, data in before.items():
            path.write_bytes(data)


@pytest.mark.parametrize(
    ("broken", "lost"),
    [
        ("row-qwen-small-128", ["row-qwen-small-128"]),
        ("start", ["start", "objective-entropy", "perturb-lines"]),
        ("objective-entropy", ["objective-entropy"]),
        ("perturb-lines", ["perturb-lines"]),
    ],
)
def test_a_failing_run_loses_no_other(
    records: dict[str, Record],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    lost: list[str],
) -> None:
    """The others are made and reported; the failed one is named with its reason and tried again."""

    def stub(stage: object, run: Run) -> object:
        if run.name == broken:
            raise ConfigError("training diverged at step 7")
        record = records[run.name]
        return record.result, record.flops, record.training_seconds, record.pictures

    monkeypatch.setattr(executor, "_run", stub)
    (tmp_path / "start").mkdir()
    said: list[str] = []
    found = execute(little(), tmp_path, say=said.append)
    assert [name for name, record in found.items() if isinstance(record.result, Failed)] == lost
    assert any(f"{broken}: failed: training diverged at step 7" in sentence for sentence in said)
    kept = {path.stem for path in (tmp_path / "runs").glob("*.json")}
    assert kept == set(found) - set(lost)
    made = report(little_entries(), found)
    assert f"{broken}: training diverged at step 7" in made.lead
    for shown in (page(*made), markdown(*made)[0]):
        assert "failed" in shown.replace("the run that makes it failed", "")
    monkeypatch.setattr(executor, "_run", lambda stage, run: pytest.fail(f"{run.name} is run"))
    with pytest.raises(pytest.fail.Exception, match=f"{broken} is run"):
        execute(little(), tmp_path, resume=True)


def test_what_cannot_be_written_ends_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every further run would fail for the same reason."""

    def full(stage: object, run: Run) -> object:
        raise OutputError("no space left")

    monkeypatch.setattr(executor, "_run", full)
    with pytest.raises(OutputError, match="no space"):
        execute(little(), tmp_path)


def test_the_machine_is_told_without_its_name() -> None:
    """Processor, cores and threads, and versions of the libraries."""
    assert re.fullmatch(r".+, \d+ cores?, \d+ threads?", executor.machine())
    assert not re.search(r"\b1 (cores|threads)", executor.machine())
    assert platform.node() not in executor.machine()
    assert re.match(r"Python \d.*, torch \d+\.\d+[^+]*, transformers \d", executor.libraries())


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


def little_entries() -> Plan:
    """The little plan with a row in every table."""
    plan = little()
    tables: tuple[TableKind, ...] = ("models", "tokenizers", "tokenizers, same lines", "prompts")
    entries = tuple(
        msgspec.structs.replace(plan.entries[0], table=table, run=run.name, variant=run.name, read=None)
        for table in tables
        for run in plan.runs
        if isinstance(run, PredictRun)
    )
    return msgspec.structs.replace(plan, entries=entries)


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
