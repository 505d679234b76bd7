"""A trace that is interrupted: nothing is judged across, so a trace twice in a row gives everything twice."""

from pathlib import Path

import numpy as np
import pytest

from training.baselines.columns import PduNumbers
from training.evaluation.beside import JudgeBeside
from training.evaluation.cases import Case, read_cases
from training.evaluation.judge import judge
from training.evaluation.judging import Judged, Plan, Yardstick
from training.evaluation.rivals import chosen_baselines, fit_rivals
from training.evaluation.scan import open_bundle

S = 1_000_000_000


@pytest.fixture(scope="module")
def once_and_twice(
    faulty_trace: Path, clean_trace: Path, bundle_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Judged, Judged]:
    """A trace, and the same followed by itself: there its clock goes back by half a minute."""
    path = tmp_path_factory.mktemp("twice") / "twice.pcapng"
    path.write_bytes(2 * faulty_trace.read_bytes())
    opened, numbers = open_bundle(bundle_path), PduNumbers()
    rivals, _ = fit_rivals(
        chosen_baselines("interval rule,window counts,EWMA,CUSUM"),
        [clean_trace], [], opened, numbers, 1.0, (1.0, 1000.0), S // 2,
    )  # fmt: skip
    plan = Plan(1.0, (1.0, 1000.0), S // 2)
    labels = read_cases([faulty_trace])[0].labels
    cases = [Case(p.stem, p, "", "", labels, None, []) for p in (faulty_trace, path)]
    yardstick = Yardstick(
        opened.calibration, opened.info.receptive_field_tokens, frozenset(), plan, rivals, numbers
    )
    one, two = (judge(case, opened, JudgeBeside(yardstick)) for case in cases)
    return one, two


def test_scores_begin_anew(once_and_twice: tuple[Judged, Judged]) -> None:
    """Of every kind, but for lines near the start, whose delta reaches back; the model warms up again."""
    once, twice = (judged.scores for judged in once_and_twice)
    half = len(once.times_ns)
    assert twice.times_ns.tolist() == 2 * once.times_ns.tolist()
    assert twice.warming[half:].tolist() == once.warming.tolist()
    for name, column in once.columns.items():
        assert np.isclose(twice.columns[name][half:], column, atol=1e-3).mean() > 0.95, name
    assert np.isclose(twice.columns["evidence"][half:], once.columns["evidence"], atol=1e-3).mean() > 0.99
    # No interval reaches back over the interruption.
    assert twice.columns["evidence"][half : half + 300].max() < 100


def test_every_detector_begins_anew(once_and_twice: tuple[Judged, Judged]) -> None:
    """What each tells of the first half it tells of the second, at every budget, and nothing else."""
    once, twice = (judged.result for judged in once_and_twice)
    for row, doubled in zip(once.rows, twice.rows, strict=True):
        assert {tuple(span) for span in doubled.told.spans} == {tuple(span) for span in row.told.spans}, (
            row.name
        )
        for budget, told in row.at_budgets.items():
            assert set(map(tuple, doubled.at_budgets[budget].spans)) == set(map(tuple, told.spans)), row.name
    assert len(twice.rows[0].told.spans) == 2 * len(once.rows[0].told.spans) > 0


def test_lines_of_baselines_are_told_twice(once_and_twice: tuple[Judged, Judged]) -> None:
    """Above the threshold is what was above it."""
    once, twice = (judged.result for judged in once_and_twice)
    for name in ("interval rule", "window counts", "EWMA", "CUSUM"):
        row, doubled = once.row(name), twice.row(name)
        assert row is not None
        assert doubled is not None
        assert doubled.lines["labels"] == tuple(2 * count for count in row.lines["labels"])
        assert row.lines["labels"][2] > 0


def test_clock_that_goes_back_hides_no_time(once_and_twice: tuple[Judged, Judged]) -> None:
    """Where time goes back nothing lies between, so nothing is set aside."""
    assert once_and_twice[1].result.set_aside == []
