"""A whole evaluation: who is in the table, what counts, and what numbers are made of."""

import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import chi2

from training.evaluation import render
from training.evaluation.results import Drawing, Told, TraceResult
from training.evaluation.study import Study, run_study
from training.evaluation.summary import measured
from training.labels import Label

S = 1_000_000_000
LEARNED = ("random", "interval rule", "CUSUM", "logistic regression")


def total(study: Study, name: str, by: str = "labels") -> dict[str, Any]:
    """The totals of one detector."""
    return next(row for row in study.report["totals"][by] if row["name"] == name)


def test_one_table_has_them_all(study: Study) -> None:
    """The detector, its parts, the paper's filter, hindsight, baselines and the annotator, on every trace."""
    names = [row["name"] for row in study.report["rows"]]
    assert names[0] == "ecustream"
    assert {"only name", "without model", *LEARNED} <= set(names)
    assert sum(name.endswith("best") for name in names) == 4
    assert all(set(study.report["traces"]) <= set(row) for row in study.report["rows"])
    assert [row["name"] for row in study.report["totals"]["labels"]] == names
    assert total(study, "interval rule, margin 0.1")["line_recall"] is None
    assert total(study, "only name")["line_recall"] is not None
    assert json.loads(json.dumps(study.report, allow_nan=False)) == study.report
    assert render(study.report).row_count == len(names)


def test_what_was_learned_from_is_in_no_total(study: Study) -> None:
    """The bundle's own trace is marked and not counted, nor is what a classifier learned from."""
    facts = study.report["facts"]
    assert [name for name in study.report["traces"] if facts[name]["fitted_on"]] == ["clean"]
    assert facts["faulty"]["baselines_saw"] == ["logistic regression"]
    assert total(study, "logistic regression")["faults"] == 0
    assert total(study, "CUSUM")["faults"] == facts["faulty"]["faults"] > 0
    for row in study.report["totals"]["labels"]:
        assert row["false_alarms"]["hours"] == pytest.approx(facts["unseen"]["hours"])
        assert row["false_alarms_on"] == "clean traces"
    notes = " ".join(study.report["notes"])
    assert "clean: the bundle was fitted to it" in notes
    assert "faulty: logistic regression learned from it" in notes


def test_rate_has_the_exact_interval(study: Study) -> None:
    """Garwood's interval by the quantiles of chi-square, over the hours of the unseen clean trace."""
    for row in study.report["totals"]["labels"]:
        rate = row["false_alarms"]
        outcome = next(r for r in study.report["rows"] if r["name"] == row["name"])["unseen"]
        assert rate["events"] == outcome["episodes"]
        high = chi2.ppf(0.975, 2 * (rate["events"] + 1)) / 2
        low = chi2.ppf(0.025, 2 * rate["events"]) / 2 if rate["events"] else 0.0
        assert (rate["low"], rate["high"]) == pytest.approx((low / rate["hours"], high / rate["hours"]))


def test_ranking_beats_chance(study: Study) -> None:
    """A random score has the share of labelled lines; evidence and intervals rank better, by both judges."""
    for by in ("labels", "annotator"):
        random = total(study, "random", by)
        assert random["average_precision"] == pytest.approx(random["prevalence"], rel=0.5, abs=0.01)
    for name in ("ecustream", "interval rule"):
        assert total(study, name)["average_precision"] > 3 * total(study, "random")["average_precision"]
    assert total(study, "ecustream")["recall"] >= 0.5
    assert total(study, "ecustream")["line_precision"] > 0.3


def test_true_labels_and_the_annotators_differ(study: Study) -> None:
    """Both tables are of the same episodes; how good the annotator is stands in the notes."""
    annotations = sum(study.report["facts"][name]["annotations"] for name in ("unseen", "faulty"))
    assert total(study, "ecustream", "annotator")["faults"] == annotations
    quality = study.report["facts"]["faulty"]["annotator"]
    assert quality["faults"] == total(study, "ecustream")["faults"]
    assert 0 < quality["annotated"] < quality["faults"]
    assert any(note.startswith("the annotator labelled") for note in study.report["notes"])


def test_curves_rise(study: Study) -> None:
    """A greater budget finds no less, and the one that was asked for is what the table has."""
    points = [row for row in study.report["curves"] if row["name"] == "interval rule"]
    assert [row["budget_per_hour"] for row in points] == [1.0, 10.0, 100.0, 1000.0]
    of_detector = {
        row["budget_per_hour"]: row for row in study.report["curves"] if row["name"] == "ecustream"
    }
    assert of_detector[1000.0]["recall"] >= of_detector[1.0]["recall"]
    assert of_detector[1.0]["recall"] == pytest.approx(total(study, "ecustream")["recall"])


def _result(gaps: list[tuple[int, int]], last_ns: int) -> TraceResult:
    return TraceResult(
        name="x", path="x", sha256="", truth_sha256="", lines=2, first_ns=0, last_ns=last_ns, set_aside=gaps,
        fitted_on=False, seconds=0.0, pass_seconds=0.0, rows=[], drawing=Drawing("ecustream", "", [], []),
    )  # fmt: skip


def test_unknown_pdus_find_but_are_never_false() -> None:
    """One that tells a fault counts, one that does not is nothing."""
    told = Told(spans=[], unknown=[(2 * S, 2 * S, 2 * S), (8 * S, 8 * S, 8 * S)])
    events = measured(told, [Label(2 * S, 3 * S, "injection")], _result([], 10 * S))
    assert (events.found, events.episodes, events.false) == (1, 1, 0)


def test_interruptions_are_set_aside() -> None:
    """Time of a gap is not observed, and an episode at its edge is not false."""
    told = Told(spans=[(3 * S, 3 * S, 3 * S), (7 * S, 7 * S, 7 * S)])
    events = measured(told, [], _result([(1 * S, 3 * S)], 10 * S))
    assert (events.false, events.excused, events.observed_ns) == (1, 1, 8 * S)


def test_baselines_learn_from_the_first_clean_trace(
    unseen_clean: Path, faulty_trace: Path, bundle_path: Path
) -> None:
    """Without --clean; then its false alarms say nothing of them, and the table says so."""
    done = run_study(bundle_path, [faulty_trace, unseen_clean], baselines="interval rule,gradient boosting")
    assert done.report["facts"]["unseen"]["baselines_saw"] == ["interval rule"]
    assert total(done, "interval rule")["false_alarms_on"] == "traces with faults"
    notes = " ".join(done.report["notes"])
    assert "gradient boosting: left out" in notes
    assert "thresholds of the baselines come from 2.99 s of clean traffic" in notes
    assert "less than one false alarm takes at 1 an hour" in notes
