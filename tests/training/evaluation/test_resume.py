"""An evaluation that is interrupted, gone on with, and added to later."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ecustream.errors import InputError, OutputError
from training.evaluation import judge as judging
from training.evaluation import study as whole
from training.evaluation.study import run_study

BASELINES = "random,CUSUM"


def comparable(report: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on how fast the machine was, nor on the order of traces."""
    facts = {
        name: {key: value for key, value in fact.items() if "seconds" not in key}
        for name, fact in report["facts"].items()
    }
    rows = {row["name"]: row for row in report["rows"]}
    totals = {by: {row["name"]: row for row in rows} for by, rows in report["totals"].items()}
    points = sorted(report["curves"], key=lambda row: (row["name"], row["budget_per_hour"]))
    return {"facts": facts, "rows": rows, "totals": totals, "curves": points}


def test_traces_added_later(
    clean_trace: Path,
    unseen_clean: Path,
    faulty_trace: Path,
    bundle_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One after the other gives what all at once give, and nothing is done twice."""
    options: dict[str, Any] = {"baselines": BASELINES, "clean": [clean_trace]}
    done: list[str] = []
    judge = judging.judge

    def counted(case: Any, *arguments: Any) -> Any:
        done.append(case.name)
        return judge(case, *arguments)

    monkeypatch.setattr(whole, "judge", counted)
    at_once = run_study(bundle_path, [unseen_clean, faulty_trace], **options).report
    folder = tmp_path / "kept"
    run_study(bundle_path, [faulty_trace], folder=folder, **options)
    options.pop("clean")  # it is remembered what the baselines learned from
    later = run_study(bundle_path, [unseen_clean], folder=folder, **options).report
    assert done == ["unseen", "faulty", "faulty", "unseen"]
    assert comparable(later) == comparable(at_once)
    again = run_study(bundle_path, [unseen_clean, faulty_trace], folder=folder, **options).report
    assert len(done) == 4
    assert comparable(again) == comparable(at_once)
    assert sorted(again["notes"]) == sorted(later["notes"]) == sorted(at_once["notes"])
    assert sum("thresholds of the baselines" in note for note in again["notes"]) == 1
    assert again["facts"]["faulty"] == later["facts"]["faulty"]


def test_interrupted(
    unseen_clean: Path,
    faulty_trace: Path,
    bundle_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A trace that was done before Ctrl-C is not done again, one that was begun is."""
    done: list[str] = []
    judge = judging.judge

    def impatient(case: Any, *arguments: Any) -> Any:
        done.append(case.name)
        if done == ["unseen", "faulty"]:
            raise KeyboardInterrupt
        return judge(case, *arguments)

    monkeypatch.setattr(whole, "judge", impatient)
    with pytest.raises(KeyboardInterrupt):
        run_study(bundle_path, [unseen_clean, faulty_trace], folder=tmp_path)
    report = run_study(bundle_path, [unseen_clean, faulty_trace], folder=tmp_path).report
    assert done == ["unseen", "faulty", "faulty"]
    assert report["traces"] == ["unseen", "faulty"]


def test_labels_that_changed(copied: Path, faulty_trace: Path, bundle_path: Path, tmp_path: Path) -> None:
    """A trace whose labels are others now is judged anew."""
    folder = tmp_path / "kept"
    before = run_study(bundle_path, [copied], folder=folder).report
    shutil.copy(faulty_trace.with_suffix(".labels.jsonl"), copied.with_suffix(".labels.jsonl"))
    after = run_study(bundle_path, [copied], folder=folder).report
    assert before["facts"]["copy"]["faults"] == 0
    assert after["rows"][0]["copy"]["labels"] == after["facts"]["copy"]["faults"] > 0
    assert after["totals"]["labels"][0]["average_precision"] is not None


def test_other_settings_are_refused(unseen_clean: Path, bundle_path: Path, tmp_path: Path) -> None:
    """Results of two bundles or budgets are never mixed."""
    run_study(bundle_path, [unseen_clean], folder=tmp_path)
    with pytest.raises(OutputError, match="holds an evaluation with another budget"):
        run_study(bundle_path, [unseen_clean], folder=tmp_path, false_alarms_per_hour=2.0)
    with pytest.raises(OutputError, match="with another set of baselines"):
        run_study(bundle_path, [unseen_clean], folder=tmp_path, baselines="random")


def test_folder_of_something_else(unseen_clean: Path, bundle_path: Path, tmp_path: Path) -> None:
    """It is not touched."""
    (tmp_path / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(OutputError, match="holds something else"):
        run_study(bundle_path, [unseen_clean], folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cat.jpg"]


def test_damaged_state(unseen_clean: Path, bundle_path: Path, tmp_path: Path) -> None:
    """The file is named."""
    run_study(bundle_path, [unseen_clean], folder=tmp_path)
    (tmp_path / "unseen.trace.json").write_bytes(b"{")
    with pytest.raises(InputError, match=r"unseen\.trace\.json: is damaged"):
        run_study(bundle_path, [unseen_clean], folder=tmp_path)


def test_damaged_scores(copied: Path, faulty_trace: Path, bundle_path: Path, tmp_path: Path) -> None:
    """The file is named, and what to do."""
    folder = tmp_path / "kept"
    shutil.copy(faulty_trace.with_suffix(".labels.jsonl"), copied.with_suffix(".labels.jsonl"))
    run_study(bundle_path, [copied], folder=folder)
    scores = folder / "copy.scores.npz"
    for damaged in (scores.read_bytes()[:5000], b""):
        scores.write_bytes(damaged)
        with pytest.raises(InputError, match=r"copy\.scores\.npz: cannot be read.*do the trace again"):
            run_study(bundle_path, [copied], folder=folder)


def test_results_of_another_version(unseen_clean: Path, bundle_path: Path, tmp_path: Path) -> None:
    """They may be counted in another way, and are not mixed with new ones."""
    run_study(bundle_path, [unseen_clean], folder=tmp_path)
    settings = json.loads((tmp_path / "evaluation.json").read_text())
    settings["version of the evaluation"] = [1, "0.0.1"]
    (tmp_path / "evaluation.json").write_text(json.dumps(settings))
    with pytest.raises(OutputError, match="holds an evaluation with another version of the evaluation"):
        run_study(bundle_path, [unseen_clean], folder=tmp_path)


def test_trace_that_is_gone(copied: Path, unseen_clean: Path, bundle_path: Path, tmp_path: Path) -> None:
    """What was judged before cannot be judged by its labels any more; that is told."""
    folder = tmp_path / "kept"
    run_study(bundle_path, [copied], folder=folder)
    copied.unlink()
    report = run_study(bundle_path, [unseen_clean], folder=folder).report
    assert report["traces"] == ["unseen"]
    assert any(note.startswith("copy is left out: it was judged before") for note in report["notes"])
