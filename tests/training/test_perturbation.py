"""The perturbation study: lines moved one at a time, judged from their surroundings alone."""

import json
from pathlib import Path

import pytest

from ecustream.detect.detector import ALL_EVIDENCE, Detector, Thresholds
from ecustream.errors import ConfigError, InputError
from ecustream.knowledge import calibration_of
from ecustream.scoring.bundle import Bundle
from ecustream.traffic import Line
from training.base import Base, open_base
from training.baselines import IntervalRule
from training.perturbation import Sizes, Study, moved, perturb, read_pieces
from training.perturbation_report import picture, render
from training.simulate import draw_vehicle, write_trace

JOIN_NS = 500_000_000
SIZES = Sizes("ms", (0.0, 4.0, 300.0))


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clean traffic of another drive than the bundle's."""
    path = tmp_path_factory.mktemp("quiet") / "quiet.pcapng"
    write_trace(draw_vehicle("bench"), path, seconds=12, drive=9)
    return path


@pytest.fixture(scope="module")
def study(bundle_path: Path, quiet: Path) -> Study:
    """Eight places of it."""
    return perturb(bundle_path, [quiet], SIZES, places=8, seed=3)


def told_of_all(base: Base, lines: list[Line], evidence: frozenset[str]) -> list[int]:
    """When episodes open if a whole trace is scored and judged from its beginning."""
    scorer = Bundle(base.files).new_scorer()
    stream = scorer.open_stream()
    calibration = calibration_of(base.files)
    detector = Detector(calibration, Thresholds.for_budget(calibration, 1.0), JOIN_NS, evidence=evidence)
    told = []
    for first in range(0, len(lines), 512):
        block = scorer.score([(stream, lines[first : first + 512])])[0]
        told += [event.decided_ns for event in detector.step_block(block) if event.phase == "open"]
    return told


def test_surroundings_say_what_the_whole_trace_says(
    bundle_path: Path, quiet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each place and size again, slowly: the whole trace with that line moved, from its beginning."""
    base = open_base(bundle_path)
    lines = read_pieces(base, [quiet])[0]
    taken: list[tuple[int, int]] = []
    take = perturb.__globals__["_Study"].take

    def watched(self: object, of: list[Line], place: object) -> None:
        taken.append((place.at, place.cycle_ns))  # type: ignore[attr-defined]
        take(self, of, place)

    monkeypatch.setattr(perturb.__globals__["_Study"], "take", watched)
    study = perturb(bundle_path, [quiet], SIZES, places=4, seed=1)
    assert study.dropped == 0
    assert len(taken) == 4
    of_name = {one.detector: one.hits for one in study.sensitivities}
    everything = {
        "ecustream": ALL_EVIDENCE,
        "only model (delta, name)": frozenset({"delta", "name"}),
        "without model": frozenset({"interval", "deadline"}),
    }
    for number, size in enumerate(SIZES.amounts):
        hits = dict.fromkeys([*everything, "interval rule, margin 0.1"], 0)
        for at, cycle_ns in taken:
            due_ns = lines[at].time_ns
            until_ns = due_ns + round(size * 1e6) + round(2.5 * cycle_ns) + 50_000_000
            changed = [line for line in moved(lines, at, size, "ms") if line.time_ns <= until_ns]
            for name, evidence in everything.items():
                hits[name] += any(time_ns >= due_ns for time_ns in told_of_all(base, changed, evidence))
            rule = IntervalRule(calibration_of(base.files), 0.1)
            rule.add(changed)
            hits["interval rule, margin 0.1"] += any(span.end_ns >= due_ns for span in rule.spans())
        for name, count in hits.items():
            assert of_name[name][number] == count, (name, size)


def test_nothing_moved_is_not_noticed_and_gross_moves_are(study: Study) -> None:
    """By detectors that look at intervals; single lines say nothing where nothing moved."""
    of_name = {one.detector: one for one in study.sensitivities}
    assert study.places == 8
    for name in ("ecustream", "without model", "interval rule, margin 0.1"):
        one = of_name[name]
        assert one.hits[0] == 0
        assert one.hits[-1] == one.trials == 8
        assert one.size is not None
        assert 0 < one.size <= 300
    for name in ("surprisal of one line", "perplexity of one line"):
        assert of_name[name].hits[0] == 0
    assert study.quiet_lines > 5_000


def test_the_same_seed_gives_the_same_study(bundle_path: Path, quiet: Path, study: Study) -> None:
    """All but the time that it took."""
    again = perturb(bundle_path, [quiet], SIZES, places=8, seed=3)
    assert again.sensitivities == study.sensitivities
    assert again.lines == study.lines


def test_it_is_shown_as_table_and_picture(study: Study) -> None:
    """A row for each detector, and sizes as columns."""
    shown = render(study)
    assert [str(cell) for cell in shown.columns[0].cells] == [one.detector for one in study.sensitivities]
    assert [column.header for column in shown.columns][1:] == ["0 ms", "4 ms", "300 ms", "90% from"]
    assert picture(study).startswith("<svg")


def test_what_cannot_be_is_refused(bundle_path: Path, quiet: Path) -> None:
    """One sentence each."""
    for unit, amounts in (("ms", (1.0, 2.0)), ("ms", (0.0, 2.0, 1.0)), ("lines", (0.0, 1.5)), ("ms", (0.0,))):
        with pytest.raises(ConfigError, match=r"sizes must ascend from 0|whole lines"):
            perturb(bundle_path, [quiet], Sizes(unit, amounts))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="places is 0"):
        perturb(bundle_path, [quiet], SIZES, places=0)
    with pytest.raises(InputError, match="no line can be moved"):
        perturb(bundle_path, [quiet], Sizes("ms", (0.0, 1e6)))


def test_the_command_prints_json(bundle_path: Path, quiet: Path, tmp_path: Path) -> None:
    """Sizes in lines, and a picture."""
    from typer.testing import CliRunner

    from training.__main__ import app

    done = CliRunner().invoke(
        app,
        [
            *("perturb", str(quiet), "--model", str(bundle_path), "--by", "lines", "--sizes", "0,50"),
            *("--places", "2", "--plot", str(tmp_path / "a.svg"), "--json"),
        ],
    )
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["sizes"] == {"unit": "lines", "amounts": [0.0, 50.0]}
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
