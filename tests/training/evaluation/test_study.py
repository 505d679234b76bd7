"""A whole evaluation: who is in the table, what counts, and what numbers are made of."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy.stats import chi2

import ecustream
from training.baselines.columns import PduNumbers
from training.evaluation.beside import JudgeBeside
from training.evaluation.cases import Case, digest_of, read_cases
from training.evaluation.judge import judge
from training.evaluation.judging import JUDGES, Plan, Yardstick
from training.evaluation.results import Drawing, Ranked, Row, Told, TraceResult
from training.evaluation.scan import open_bundle
from training.evaluation.study import Study, run_study
from training.evaluation.summary import covered, measured, outcome, totals
from training.evaluation.tables import render
from training.fit import recalibrate
from training.labels import Label
from training.measures.lines import confusion
from training.measures.regions import by_region
from training.traces import Traces

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
    assert "clean: the bundle has learned from it" in notes
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


def test_curves_leave_out_what_was_learned_from(study: Study) -> None:
    """Neither the bundle's own trace nor a classifier's is in a point."""
    hours = {name: facts["hours"] for name, facts in study.report["facts"].items()}
    points = {(row["name"], row["budget_per_hour"]): row for row in study.report["curves"]}
    assert points["logistic regression", 1.0]["faults"] == 0
    assert points["logistic regression", 1.0]["false_alarms"]["hours"] == pytest.approx(hours["unseen"])
    of_detector = points["ecustream", 1.0]
    assert of_detector["faults"] == study.report["facts"]["faulty"]["faults"]
    assert hours["unseen"] < of_detector["false_alarms"]["hours"] < hours["unseen"] + hours["faulty"]


def _result(gaps: list[tuple[int, int]], last_ns: int) -> TraceResult:
    return TraceResult(
        name="x", path="x", sha256="", truth_sha256="", lines=2, first_ns=0, last_ns=last_ns, set_aside=gaps,
        fitted_on=False, warming=0, seconds=0.0, pass_seconds=0.0, rows=[],
        drawing=Drawing("ecustream", "", [], []),
    )  # fmt: skip


def test_unknown_pdus_find_but_are_never_false() -> None:
    """One that tells a fault counts, one that does not is nothing."""
    told = Told(spans=[], unknown=[(2 * S, 2 * S, 2 * S), (8 * S, 8 * S, 8 * S)])
    events = measured(told, [Label(2 * S, 3 * S, "injection")], _result([], 10 * S))
    assert (events.found, events.episodes, events.false) == (1, 1, 0)


def test_time_of_faults_is_not_observed() -> None:
    """An alarm within a fault is not false, so that time cannot count for the rate; overlaps count once."""
    labels = [Label(2 * S, 5 * S, "x"), Label(4 * S, 6 * S, "y")]
    events = measured(Told([(8 * S, 8 * S, 8 * S)]), labels, _result([(1 * S, 3 * S)], 10 * S))
    assert (events.false, events.observed_ns) == (1, 5 * S)


def test_labels_that_cover_nearly_all() -> None:
    """The share of the time, of traces that the judge labelled, without interruptions."""
    cases = {"a": _case([Label(2 * S, 7 * S, "x")], []), "b": _case(None, [Label(0, 10 * S, "x")])}
    results = {"a": _result([(5 * S, 6 * S)], 10 * S), "b": _result([], 10 * S)}
    assert covered("labels", cases, results) == pytest.approx(4 / 9)
    assert covered("annotator", cases, results) == 1.0
    assert covered("annotator", {"a": cases["a"]}, results) is None


def _case(labels: list[Label] | None, annotator: list[Label] | None = None) -> Case:
    return Case("x", Path("x"), "", "", labels, annotator, [])


def test_table_by_trace_is_counted_as_totals_are() -> None:
    """An episode at an interruption is not false, a fault within one is none; unknown PDUs apart."""
    told = Told(
        spans=[(3 * S, 3 * S, 3 * S), (7 * S, 7 * S, 7 * S), (9 * S, 9 * S, 9 * S)],
        unknown=[(5 * S, 5 * S, 5 * S), (2 * S, 2 * S, 2 * S), (15 * S, 15 * S, 15 * S)],
    )
    result = _result([(1 * S, 3 * S)], 20 * S)
    clean = outcome(told, _case(None), result)
    assert (clean["false"], clean["excused"], clean["seconds"]) == (2, 1, 18.0)
    assert (clean["unknown_pdu"], clean["unknown_pdu_elsewhere"]) == (3, 2)
    labels = [Label(2 * S, 2 * S, "x"), Label(5 * S, 5 * S, "y", [], 2), Label(9 * S, 9 * S, "y")]
    faulty = outcome(told, _case(labels), result)
    assert (faulty["found"], faulty["labels"], faulty["false"]) == (2, 2, 1)
    assert faulty["kinds"] == {"y": {"found": 2, "of": 2}, "y 2": {"found": 1, "of": 1}}
    assert faulty["unknown_pdu_elsewhere"] == 1


def test_shares_are_of_labelled_traces() -> None:
    """Lines and regions add up over traces; one that nobody labelled is in no share, for either judge."""
    fault = [Label(2 * S, 3 * S, "x")]
    rows = {
        name: Row("d", Told([]), lines=dict.fromkeys(JUDGES, lines), regions=dict.fromkeys(JUDGES, regions))
        for name, lines, regions in (
            ("a", (1, 2, 4), (1, 1, 1, 2)),
            ("b", (2, 2, 2), (2, 3, 2, 2)),
            ("quiet", (0, 0, 9), (0, 0, 0, 5)),
        )
    }
    ranked = {"a": Ranked(0.5, 0.1, 0.2, 0.3, 0.4), "b": Ranked(0.7, 0.3), "quiet": Ranked(None, 0.0)}
    for name, row in rows.items():
        row.ranked = dict.fromkeys(JUDGES, ranked[name])
    cases = {name: _case(fault, fault) for name in "ab"} | {"quiet": _case(None, [])}
    results = dict.fromkeys(rows, _result([], 10 * S))
    for by in JUDGES:
        one = totals(by, {"d": rows}, cases, results)[0]
        assert (one["line_recall"], one["line_precision"]) == (3 / 4, 3 / 6)
        assert (one["region_recall"], one["region_precision"]) == (3 / 4, 3 / 4)
        assert one["regions"] == {"found": 3, "labelled": 4, "right": 3, "told": 4}
        assert one["average_precision"] == pytest.approx(0.6)
        assert one["prevalence"] == pytest.approx(0.2)
        assert one["vus_pr"] == pytest.approx(0.3)
        assert one["false_alarms_on"] == "clean traces"


def test_chance_where_no_line_is_labelled() -> None:
    """A trace without average precision has none by chance to compare with, either."""
    rows = {name: Row("d", Told([])) for name in "ab"}
    rows["a"].ranked = {"labels": Ranked(0.5, 0.1)}
    rows["b"].ranked = {"labels": Ranked(None, 0.0)}
    cases = dict.fromkeys("ab", _case([Label(2 * S, 3 * S, "x")]))
    one = totals("labels", {"d": rows}, cases, dict.fromkeys("ab", _result([], 10 * S)))[0]
    assert one["prevalence"] == 0.1


def test_regions_are_those_of_the_lines(faulty_trace: Path, bundle_path: Path) -> None:
    """Of the lines that were told, by both judges, in the order of time."""
    opened = open_bundle(bundle_path)
    plan = Plan(1.0, (1.0,), S // 2)
    yardstick = Yardstick(
        opened.calibration, opened.info.receptive_field_tokens, frozenset(), plan, [], PduNumbers()
    )
    judged = judge(read_cases([faulty_trace])[0], opened, JudgeBeside(yardstick))
    row = judged.result.rows[0]
    order = np.argsort(judged.scores.times_ns, kind="stable")
    times, told = judged.scores.times_ns[order], judged.told[order]
    assert told.any()
    for by in JUDGES:
        assert row.regions[by] == tuple(by_region(times, told, judged.labelled[by][order], S // 10))
        assert row.lines[by] == tuple(np.array(confusion(told, judged.labelled[by][order]))[[0, 1, 3]])


@pytest.mark.parametrize("place", ["traces", "finetuned", "base of finetuned", "calibrated"])
def test_all_that_a_bundle_has_learned_from(unseen_clean: Path, bundle_path: Path, place: str) -> None:
    """Not only what it was pre-trained on: a star, and no total."""
    rows = [{"name": "x", "sha256": digest_of(unseen_clean)}]
    tuned = {"traces": rows, "base": {"sha256": "0", "finetuned": None}}
    trained = {
        "traces": {"traces": rows},
        "finetuned": {"traces": [], "finetuned": tuned},
        "base of finetuned": {"finetuned": {"traces": [], "base": {"finetuned": tuned}}},
        "calibrated": {"calibrated": rows},
    }
    opened = open_bundle(bundle_path)
    info = msgspec.structs.replace(opened.info, trained=trained[place])
    assert digest_of(unseen_clean) in opened._replace(info=info).fitted_on()


def test_calibration_is_learning(
    clean_trace: Path, unseen_clean: Path, bundle_path: Path, tmp_path: Path
) -> None:
    """Thresholds from a trace are not judged by it, and what the model has learned from is remembered."""
    recalibrate(Traces([unseen_clean], open_bundle(bundle_path).names), bundle_path, tmp_path / "new")
    assert {digest_of(clean_trace), digest_of(unseen_clean)} <= open_bundle(tmp_path / "new").fitted_on()


def test_reports_of_unknown_pdus_are_told(unseen_clean: Path) -> None:
    """They are not false, and not hidden."""
    demo = Path(ecustream.__file__).parent / "bundles" / "demo"
    report = run_study(demo, [unseen_clean], source="ETH9").report
    row = report["totals"]["labels"][0]
    assert row["unknown_pdu_elsewhere"] == report["rows"][0]["unseen"]["unknown_pdu"] > 0
    assert any("of an unknown PDU where there is no fault" in note for note in report["notes"])


def test_baselines_learn_rather_from_what_the_bundle_learned_from(
    clean_trace: Path, unseen_clean: Path, bundle_path: Path
) -> None:
    """That trace is in no total anyway: so all rates are of the same traffic."""
    done = run_study(bundle_path, [unseen_clean, clean_trace], baselines="interval rule")
    saw = {name: facts["baselines_saw"] for name, facts in done.report["facts"].items()}
    assert saw == {"unseen": [], "clean": ["interval rule"]}


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
    assert total(done, "interval rule")["false_alarms_on"].startswith("traces with faults")
    assert total(done, "ecustream")["false_alarms_on"] == "clean traces"
    notes = " ".join(done.report["notes"])
    assert "gradient boosting: left out" in notes
    assert "thresholds of the baselines come from 2.99 s of clean traffic" in notes
    assert "less than one false alarm takes at 1 an hour" in notes
