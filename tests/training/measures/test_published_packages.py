"""Measures beside packages that publish them; aeon, which is large, by `pip install '.[oracles]'`."""

import numpy as np
import pytest

from tests.training.measures.series import arrays
from training.measures.affiliation import affiliation
from training.measures.intervals import runs
from training.measures.lines import composite_f1, confusion
from training.measures.ranges import range_auc_pr, vus_pr
from training.metrics import Span

SEEDS = range(8)


def series(seed: int, lines: int) -> tuple[list[bool], list[float]]:
    """Some faults of many lengths, and a score that finds them more or less."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(lines, np.bool_)
    for start in rng.choice(lines - 60, 12, replace=False):
        labels[start : start + int(rng.integers(1, 60))] = True
    scores = rng.normal(size=lines) + rng.uniform(0.5, 2.5) * labels
    return labels.tolist(), scores.tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_ranges_as_aeon(seed: int) -> None:
    """Aeon takes 250 thresholds and draws lines between them: as near as that allows."""
    metrics = pytest.importorskip("aeon.benchmarking.metrics.anomaly_detection", reason="NOT TESTED: no aeon")
    labels, scores = series(seed, 4000)
    times, values, faults = arrays(labels, scores)
    for buffer in (2, 20, 80):
        theirs = metrics.range_pr_auc_score(np.array(labels, int), values, buffer_size=buffer)
        assert range_auc_pr(times, values, faults, buffer) == pytest.approx(theirs, abs=0.01)
    theirs = metrics.range_pr_vus_score(np.array(labels, int), values, max_buffer_size=12)
    assert vus_pr(times, values, faults, list(range(13))) == pytest.approx(theirs, abs=0.01)


@pytest.mark.parametrize("seed", SEEDS)
def test_affiliation_as_telemeval(seed: int) -> None:
    """Telemeval vendors the authors' code; a sample there is the time up to the next one."""
    telemeval = pytest.importorskip("telemeval.sklearn", reason="NOT TESTED: no telemeval")
    labels, scores = series(seed, 400)
    told = np.array(scores) > 1.5
    found, faults = _spans(told), _spans(np.array(labels))
    ours = affiliation(found, faults, 0, 399)
    as_int = [int(label) for label in labels], told.astype(int).tolist()
    assert ours.precision == pytest.approx(telemeval.affiliation_precision_score(*as_int), abs=1e-9)
    assert ours.recall == pytest.approx(telemeval.affiliation_recall_score(*as_int), abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_composite_f1_as_tadmetric(seed: int) -> None:
    """Precision of lines and recall of events."""
    tadmetric = pytest.importorskip("tadmetric", reason="NOT TESTED: no tadmetric")
    labels, scores = series(seed, 400)
    told, true = np.array(scores) > 1.5, np.array(labels)
    regions = runs(np.arange(400), true, 1)
    found = sum(bool(told[a : b + 1].any()) for a, b in zip(regions.starts_ns, regions.ends_ns, strict=True))
    ours = composite_f1(confusion(told, true).precision, found / len(regions.starts_ns))
    theirs = tadmetric.Tadmetric(scores, true.astype(int)).evaluate(1.5, mode="composite")
    assert ours == pytest.approx(theirs.f1)


def _spans(flags: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> list[Span]:
    regions = runs(np.arange(len(flags)), flags, 1)
    return [Span(a, b, a) for a, b in zip(regions.starts_ns.tolist(), regions.ends_ns.tolist(), strict=True)]
