"""A plan run in little: what is kept, and what is gone on with."""

import platform
import re
from pathlib import Path

import msgspec
import pytest

from ecustream.errors import ConfigError, InputError, OutputError
from tests.training.reproduction.little import little, little_entries
from training.base import open_base
from training.measures.page import page
from training.nats import measure
from training.perturbation import read_pieces
from training.reproduction import executor, predicting
from training.reproduction.executor import execute
from training.reproduction.markdown import markdown
from training.reproduction.plan import PredictRun, Run
from training.reproduction.records import Failed, Objective, Perturbed, Predicted, Record, Started
from training.reproduction.report import report
from training.reproduction.stage import Stage
from training.reproduction.verdicts import read_lines


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


def test_lines_are_judged_when_the_model_is_warm(records: dict[str, Record], folder: Path) -> None:
    """Those before its receptive field is full are left out, and no others."""
    base = open_base(folder / "start")
    quiet = folder / "traffic" / "quiet.pcapng"
    lines = sum(len(piece) for piece in read_pieces(base, [quiet]))
    (judged,) = read_lines(base, base.network, quiet)
    tokens = base.files.info.receptive_field_tokens
    assert 0 < lines - len(judged.time_ns) <= tokens
    assert judged.faulty.sum() == 0


def test_prediction_is_measured_on_unseen_traffic(
    records: dict[str, Record], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the parts that neither train nor choose the weights."""
    stage = Stage(little(), folder)
    measured: list[object] = []
    really = measure

    def watched(model: object, shards: object, parts: object, *more: object, **options: object) -> object:
        measured.append(parts)
        return really(model, shards, parts, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(predicting, "measure", watched)
    run = next(run for run in stage.plan.runs if run.name == "bpe-qwen-small-256")
    assert isinstance(run, PredictRun)
    predicting.predict(stage, run)
    assert measured == [stage.parts.test] * 3
