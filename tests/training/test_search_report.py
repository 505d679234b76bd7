"""A study's table, plot and JSON."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from matplotlib import image
from matplotlib.figure import Figure
from rich.console import Console

from ecustream.errors import OutputError
from training.search_report import draw_history, plot_study, render_study, study_sentence, write_study_report
from training.study import Study, Tried


def _tried(number: int, value: float | None, reason: str = "", **params: Any) -> Tried:
    return Tried(
        number=number,
        params={"hidden": 64 * number, "learning_rate": 10.0 ** (-number / 2), **params},
        value=value,
        reason=reason,
        seconds=1.4 * number,
        so_far={1: 9.5} if value is None else {1: 9.0, 2: value},
        facts={"steps": 1000 * number},
    )


STUDY = Study(
    name="pre-training",
    metric="nats a line",
    direction="minimize",
    logarithmic=["learning_rate"],
    trials=[
        _tried(1, 3.25),
        _tried(2, None, "worse than the median at 30 % of its cost"),
        _tried(3, 2.125),
        _tried(4, 2.5),
    ],
    importance={"hidden": 0.25, "learning_rate": 0.75},
)


def _text(study: Study) -> list[str]:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(render_study(study))
    return capture.get().splitlines()


def _best_so_far(study: Study) -> list[float]:
    ax = Figure().subplots()
    draw_history(ax, study)
    (line,) = ax.lines
    return [float(y) for y in np.asarray(line.get_ydata())]


def _rows(study: Study) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in _text(study) if line.startswith("│")]


def test_the_table_ranks_trials_and_ends_with_importance() -> None:
    """Best first, pruned ones with their reason last."""
    rows = _rows(STUDY)

    assert rows[0] == ["3", "2.1250", "192", "0.0316", "3,000", "4", ""]
    assert [row[0] for row in rows] == ["3", "4", "1", "2", ""]
    assert rows[3][1:] == ["", "128", "0.1", "2,000", "3", "worse than the median at 30 % of its cost"]
    assert rows[4][1:4] == ["importance", "25 %", "75 %"]


def test_where_more_is_better_the_highest_is_first() -> None:
    """The same trials the other way round."""
    study = msgspec.structs.replace(STUDY, direction="maximize", importance={})

    assert [row[0] for row in _rows(study)] == ["1", "4", "3", "2"]
    assert study_sentence(study).endswith("best nats a line 3.25 with hidden 64, learning_rate 0.316")


def test_the_sentence_counts_trials_and_names_the_best_settings() -> None:
    """Without a trial that came to its end it says so."""
    none = msgspec.structs.replace(STUDY, trials=STUDY.trials[1:2], importance={})

    assert study_sentence(STUDY) == (
        "trials of pre-training: 4, pruned: 1; best nats a line 2.125 with hidden 192, learning_rate 0.0316"
    )
    assert study_sentence(none) == "trials of pre-training: 1, pruned: 1; none came to its end"


def test_a_reason_is_text_and_no_markup() -> None:
    """Brackets in a path stay what they are."""
    study = msgspec.structs.replace(
        STUDY, trials=[_tried(1, 1.0), _tried(2, None, "/tmp/[red]x: too little")]
    )

    assert any("/tmp/[red]x: too little" in line for line in _text(study))


def _shape(png: bytes, path: Path) -> tuple[int, ...]:
    path.write_bytes(png)
    return tuple(np.asarray(image.imread(path)).shape)


@pytest.mark.parametrize(
    "trials",
    [
        STUDY.trials,
        STUDY.trials[:1],
        STUDY.trials[1:2],
        [],
        [_tried(1, 2.0), _tried(2, 2.0)],
        [_tried(1, 1.0, body="small"), _tried(2, 1e12, body="large")],
        [_tried(n, 1.0 / n, body=None if n % 2 else "x", flag=n > 5) for n in range(1, 12)],
        [_tried(1, 1.0), msgspec.structs.replace(_tried(2, None, "diverged"), so_far={})],
    ],
    ids=["all", "one", "pruned", "none", "equal", "text", "many", "nothing seen"],
)
def test_any_study_can_be_drawn(trials: list[Tried], tmp_path: Path) -> None:
    """The plot has a panel for the trials and one for each setting, three in a row."""
    study = msgspec.structs.replace(STUDY, trials=trials, importance={})
    panels = 1 + len({key for tried in trials for key in tried.params})

    height, width, _ = _shape(plot_study(study), tmp_path / "plot.png")

    assert height > 300 * -(-panels // 3)
    assert width > 400 * min(panels, 3)


def test_a_trial_far_off_leaves_the_scale_as_it_is() -> None:
    """A pruned trial that ended at a million is drawn inside the edge, as one just off it is."""

    def pruned_at(*values: float) -> bytes:
        so_far = dict(enumerate(values, 1))
        pruned = msgspec.structs.replace(_tried(2, None, "diverged"), so_far=so_far)
        return plot_study(msgspec.structs.replace(STUDY, trials=[_tried(1, 3.0), pruned, _tried(3, 2.0)]))

    # The panels end at 3.12.
    assert pruned_at(1e6) == pruned_at(3.1) == pruned_at()
    assert pruned_at(1e6) != pruned_at(2.5)
    assert pruned_at(2.9, 2.5) == pruned_at(2.5)


def test_rates_are_drawn_on_a_logarithmic_scale() -> None:
    """Where the search drew them from one."""
    assert plot_study(STUDY) != plot_study(msgspec.structs.replace(STUDY, logarithmic=[]))


def test_the_best_so_far_is_the_lowest_or_the_highest() -> None:
    """With values that only fall, the line falls or stays; so it does where the order is the other way."""
    trials = [_tried(1, 3.0), _tried(2, 2.0)]
    fall = [msgspec.structs.replace(STUDY, trials=trials, direction=d) for d in ("minimize", "maximize")]

    assert _best_so_far(fall[0]) == [3.0, 2.0, 2.0]
    assert _best_so_far(fall[1]) == [3.0, 3.0, 3.0]


def test_the_report_is_three_files(tmp_path: Path) -> None:
    """A table, the numbers and a plot; the numbers are whole, and nothing else is left behind."""
    paths = write_study_report(STUDY, tmp_path)

    assert [path.name for path in paths] == ["trials.txt", "trials.json", "trials.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trials.json", "trials.png", "trials.txt"]
    content = json.loads((tmp_path / "trials.json").read_text())
    assert content.pop("best") == 3
    assert msgspec.convert(content, Study, strict=False) == STUDY
    assert "importance" in (tmp_path / "trials.txt").read_text()
    assert "\x1b" not in (tmp_path / "trials.txt").read_text()


def test_an_older_report_stays_where_a_new_one_cannot_be_written(tmp_path: Path) -> None:
    """It is written beside and renamed."""
    (tmp_path / "trials.txt").write_text("older")
    (tmp_path / ".trials.txt.new").mkdir()

    with pytest.raises(OutputError, match=r"trials\.txt"):
        write_study_report(STUDY, tmp_path)

    assert (tmp_path / "trials.txt").read_text() == "older"


def test_a_report_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    """The folder is gone."""
    with pytest.raises(OutputError, match=r"trials\.txt"):
        write_study_report(STUDY, tmp_path / "gone")
